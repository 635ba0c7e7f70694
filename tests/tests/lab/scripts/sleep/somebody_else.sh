# shellcheck shell=dash
# While the image is being written another kernel opens the volume: it resumes it and writes its checkpoint.
# The memory that comes back must not go on with a log that is not where it was.

image_goes_to "$swap"
volume
wbtest history-write /dev/mapper/v --seed "$SEED" --last 300 --every 5
durable /dev/mapper/v
echo disk >/sys/power/state || die 'it does not hibernate'
status=$(dmsetup status v)
case "$status" in
# Failed, and changed.
*' state 2 fault 8 '*) ;;
*) die "status $status" ;;
esac
for io in if of; do
    case $io in if) other='of=/dev/null iflag=direct' ;; of) other='if=/dev/zero oflag=direct' ;; esac
    # shellcheck disable=SC2086 # Two words.
    if busybox dd $io=/dev/mapper/v $other bs=4096 count=1 2>/dev/null; then die "dd $io works"; fi
done
if dmsetup message v 0 drop_caches; then die 'it drains'; fi
busybox dmesg | grep 'has changed since the machine hibernated'
dmsetup remove --noudevsync v
volume
wbtest history-check /dev/mapper/v --seed "$SEED" --durable 300
echo DONE
sleep 1000
