# shellcheck shell=bash
# The backing device is reset, forgets what it had in its cache, and says so by an error of one write only.
# From then on all is well: but the writes that had gone well before are repeated before their blocks are
# called clean.

modprobe dm-delay
ram 1 48
null c 17
n=$(sectors /dev/ram0)
dmsetup create e --table "0 $n error"
over b /dev/ram0
volume v /dev/mapper/b /dev/c writeback_threshold 0
head -c 128K /tmp/a >/tmp/part
put /tmp/part 0
put /tmp/part 1600
# Writes at the beginning are forgotten; the error of a write behind them comes when the device is back.
first='0 8192 flakey /dev/ram0 0 0 3600 1 drop_writes'
rest="8192 $((n - 8192)) delay /dev/ram0 8192 0 /dev/mapper/e 8192 60000 /dev/ram0 8192 0"
becomes b "$first\n$rest"
dmsetup message v 0 drop_caches &
drain=$!
# The second is under way when the device is flushed for the first, which goes well.
is_sent() { [ "$(value v written_back)" -ge 32 ]; }
until_true 10 is_sent
sleep 1
mends b /dev/ram0
wait $drain
same 'dirty blocks' "$(dirty v)" 0
[ "$(value v written_back)" -gt 64 ] || die 'nothing was written again'
for at in 0 1600; do
    dd if=/dev/ram0 bs=4k skip=$at count=32 iflag=direct status=none | cmp - /tmp/part ||
        die "block $at is lost"
done
remove v
