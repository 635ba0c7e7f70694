# shellcheck shell=bash
# Commands whose output, with `wbctl --json`, the host parses and compares.

ram 3 32
json() { echo "JSON $(wbctl --json "$@" 2>/dev/null | tr -d '\n')"; }
json list
json create v /dev/ram0 /dev/ram1 --opt writeback_threshold=0
json create v /dev/ram0 /dev/ram1 || true
dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct status=none
json list
json status v
json remove v
json create v /dev/ram2 /dev/ram1 || true
json create v /dev/ram0 /dev/ram1 --opt writeback_threshold=0
json drain v
json status v
json remove v --drain
json list
