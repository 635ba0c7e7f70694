# shellcheck shell=bash
# Four volumes at the same time, for it takes half a minute: one whose backing device does not answer, one
# whose cache device does not, one that is only slow, and one that is idle and whose backing device is
# suspended.

modprobe dm-delay
ram 5 32
null x 80
for i in 0 1 2 3; do
    over b$i /dev/ram$i
    dmsetup create c$i --table "0 32768 linear /dev/x $((i * 32768))"
    volume v$i /dev/mapper/b$i /dev/mapper/c$i writeback_threshold 0
    dd if=/tmp/a of=/dev/mapper/v$i bs=256k oflag=direct conv=fsync status=none
    same 'nothing is read' \
        "$(dd if=/dev/mapper/v$i bs=4k skip=5000 count=4 iflag=direct status=none | tr -d '\0' | wc -c)" 0
    same 'backing' "$(value v$i backing_silent_s)" 0
    same 'cache' "$(value v$i cache_silent_s)" 0
done
over b4 /dev/ram4
dmsetup create c4 --table "0 32768 linear /dev/x $((4 * 32768))"
# Nothing of it is in RAM any more.
table=$(dmsetup table v1)
remove v1
dmsetup create v1 --table "$table"
wbctl events --follow >/tmp/events &
watch=$!
saw() { grep -qE "$1" /tmp/events; }
within 10 saw 'v3: active, ok$'
udevadm settle
before=$(events v3)
say 'two devices fall silent, one is slow, and one is suspended and idle'
for d in b0 c1 b3 c4; do dmsetup suspend --noflush --nolockfs $d; done
# This does not wait for udev, which reads the slow one.
dmsetup suspend --noflush --nolockfs b2
dmsetup reload b2 --table "0 $(sectors /dev/ram2) delay /dev/ram2 0 20000"
dmsetup resume --noudevsync b2
dd if=/dev/mapper/v0 of=/tmp/read0 bs=4k skip=5000 count=1 iflag=direct status=none & reader0=$!
dd if=/dev/mapper/v1 of=/tmp/read1 bs=4k count=1 iflag=direct status=none & reader1=$!
dd if=/dev/mapper/v2 of=/tmp/read2 bs=4k skip=5000 count=2 iflag=direct status=none & reader2=$!
wbctl drain v0 2>/tmp/drain & drain=$!
wbctl create v4 /dev/mapper/b4 /dev/mapper/c4 2>/tmp/create & create=$!
is_silent() { [ "$(value "$1" "${2}_silent_s")" -ge "$3" ]; }
within 20 is_silent v0 backing 2
within 20 is_silent v1 cache 2
say 'the seconds are counted, and there is no event yet'
! logged 'has not answered' || die 'too early'
same 'state' "$(value v0 state)" ok
wbctl status v0 | grep -E 'backing .*, no answer for [0-9]+ s$'
within 60 is_silent v0 backing 30
within 60 is_silent v1 cache 30
say 'now there is one'
within 10 saw 'v0: the backing device has not answered for 3[0-9] s$'
within 10 saw 'v1: the cache device has not answered for 3[0-9] s$'
dmesg | grep -E 'the backing device has not answered for 3[0-9] s \(requests that wait for it: '
dmesg | grep -E 'the cache device has not answered for 3[0-9] s \(requests that wait for it: 1\)'
wbctl status v0 >/tmp/status
cat /tmp/status
grep -qE '^v0: ok, but the backing device has not answered for [0-9]+ s$' /tmp/status
grep -q 'dmsetup info' /tmp/status
wbctl status v1 | grep -E '^v1: ok, but the cache device has not answered'
wbctl list
wbctl list | grep -E '^v0 +silent '
wbctl list | grep -E '^v2 +ok '
within 10 grep -E '^wbctl: v0: the backing device has not answered for [0-9]+ s; waiting for it$' /tmp/drain
wbstat --once | grep -E 'the backing device has not answered for [0-9]+ s'
kill -0 $reader0 $reader1 || die 'they have not waited'
grep -x 'wbctl: v4: after 10 s still waiting for /dev/mapper/c4 to be read' /tmp/create
for d in b0 c1 c4; do dmsetup resume $d; done
say 'and they answer again'
wait $reader0 $reader1 $drain $create
[ -b /dev/mapper/v4 ] || die 'v4 was not made'
cmp -n 4096 /tmp/read1 /tmp/a
for volume in v0 v1; do
    within 10 has $volume backing_silent_s 0
    within 10 has $volume cache_silent_s 0
    healthy $volume
done
within 10 saw 'v0: the backing device answers again$'
within 10 saw 'v1: the cache device answers again$'
logged 'the backing device answers again, after 3'
grep -E '^wbctl: v0: the backing device answers again$' /tmp/drain
wbctl status v0 | grep -E '^v0: ok$'
say 'of the slow one, which took 40 s for two reads, and of the idle one nothing was ever said'
wait $reader2
! saw 'v[23]: .* device' || die "$(cat /tmp/events)"
same 'events of the idle one' "$(events v3)" "$before"
same 'seconds of the idle one' "$(value v3 backing_silent_s)" 0
kill $watch
dmsetup resume b3
dmsetup suspend --noflush --nolockfs b2
dmsetup reload b2 --table "0 $(sectors /dev/ram2) linear /dev/ram2 0"
dmsetup resume --noudevsync b2
for i in 0 1 2 3 4; do drained v$i /dev/mapper/b$i; remove v$i; done
