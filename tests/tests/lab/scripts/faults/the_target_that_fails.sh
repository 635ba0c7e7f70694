# shellcheck shell=bash
# The errors that the target `fault` makes are the errors that the kernel then reports.

ram 1 16
faulty c /dev/ram0
put_c() { dd if=/tmp/a of=/dev/mapper/c bs=4k seek="$1" count=1 oflag=direct conv=notrunc status=none; }
get_c() { dd if=/dev/mapper/c bs=4k skip="$1" count=1 iflag=direct status=none; }
says() {
    ! "${@:2}" 2>/tmp/said >/dev/null || die "${*:2} succeeded"
    grep -q "$1" /tmp/said || die "$(cat /tmp/said)"
}
put_c 7
faults c medium read 56 1
says 'No data available' get_c 7
get_c 6 >/dev/null
get_c 8 >/dev/null
say 'a write mends what it covers'
faults c path read 80 8
put_c 7
put_c 10
get_c 7 | cmp - <(head -c 4k /tmp/a)
says 'Link has been severed' get_c 10
mended c
get_c 10 | cmp - <(head -c 4k /tmp/a)
for case in 'protection:Invalid or incomplete' 'io:Input/output error' 'path:Link has been severed' \
    'timeout:timed out' 'offline:No such device' 'target:Remote I/O error'; do
    faults c "${case%%:*}" all
    says "${case#*:}" get_c 0
    says "${case#*:}" put_c 0
    mended c
done
faults c medium flush
put_c 7
says 'No data available' dd if=/tmp/a of=/dev/mapper/c bs=4k count=1 oflag=direct conv=notrunc,fsync \
    status=none
remove c
