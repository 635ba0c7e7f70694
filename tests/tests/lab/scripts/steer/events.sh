# shellcheck shell=bash
# `wbctl events` says what happens to a volume.

ram 1 64
hdd x 64
for d in b:/dev/x c:/dev/ram0; do
    dmsetup create ${d%:*} --table "0 $(sectors ${d#*:}) linear ${d#*:} 0"
done
wbctl events >/tmp/said
same 'without volumes' "$(wc -c </tmp/said)" 0
wbctl events --follow >/tmp/events &
wbctl --json events --follow >/tmp/events.json &
saw() { grep -qE "$1" /tmp/events; }
wbctl create v /dev/mapper/b /dev/mapper/c
within 10 saw 'Z v: active, ok$'
wbctl events | grep -q 'Z v: active, ok$' || die 'not without --follow'
say 'the cache runs full'
fio --name=w --eta=never --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size=64M --time_based \
    --runtime=8 --ioengine=io_uring --iodepth=16 --output=/dev/null
within 10 saw 'v: the cache is full'
has v full 1 || grep -q 'has room' /tmp/events || die "$(dmsetup status v)"
logged 'the cache is full'
say 'and has room again'
wbctl drain v
within 30 saw 'v: the cache has room again'
say 'the backing device fails and comes back'
dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct status=none
becomes b "0 $(sectors /dev/x) error"
within 30 saw 'v: degraded, was ok: backing_write$'
within 30 saw 'v: writeback_errors [0-9]+, [0-9]+ more$'
becomes b "0 $(sectors /dev/x) linear /dev/x 0"
within 60 saw 'v: ok, was degraded$'
say 'the volume is not steered any more'
wbctl set v steering_timeout 1
within 15 saw 'v: whoever steers'
wbctl set v steering_timeout 1
wbctl set v steering_timeout default
within 15 saw 'v: writeback is steered again'
say 'it goes'
wbctl remove v --drain
within 10 saw 'v: gone$'
jq -e -s '["active", "full", "errors", "gone"] - map(.event) == []' /tmp/events.json
kill %1 %2
refused 8 'v is not a writeboost volume' -- wbctl events v
cat /tmp/events
