# shellcheck shell=dash
# After the restore the cache device answers only when a task does something that was frozen, as a device
# does that has a daemon; and the medium has lost a checkpoint meanwhile. Nothing is served before that, and
# all is afterwards.

image_goes_to "$swap"
dmsetup create --noudevsync cache --table "0 $(sectors "$cache") fault $cache 0"
cache=/dev/mapper/cache
volume
dmsetup message v 0 writeback_threshold 0
# history COMMAND WORDS...
history() { local what=$1; shift; wbtest "history-$what" /dev/mapper/v --seed "$SEED" --sectors 16384 "$@"; }
history write --last 300 --every 5 >/dev/null
durable /dev/mapper/v
dmsetup message cache 0 fail medium read 8 1
# All that was begun has ended by then.
sleep 2
dmsetup suspend --noflush cache
echo disk >/sys/power/state || die 'it does not hibernate'
echo AWAKE
(busybox dd if=/dev/mapper/v of=/dev/null iflag=direct bs=4096 count=1 && echo >/tmp/done-read) 2>/dev/null &
(busybox dd if=/dev/zero of=/dev/mapper/v oflag=direct bs=4096 count=1 seek=4000 && echo >/tmp/done-write) \
    2>/dev/null &
(durable /dev/mapper/v && echo >/tmp/done-flush) &
sleep 3
[ "$(echo /tmp/done-*)" = '/tmp/done-*' ] ||
    die "the cache device was not compared, and there is $(echo /tmp/done-*)"
dmsetup resume --noudevsync cache
wait
for what in read write flush; do [ -e /tmp/done-$what ] || die "no $what"; done
is_ok
history check --durable 300
echo DONE
sleep 1000
