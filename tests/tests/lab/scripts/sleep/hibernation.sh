# shellcheck shell=dash
# Nothing is written to either device from the snapshot until the memory in it comes back; then writing goes
# on, and all that is made durable is there after a power cut.

image_goes_to "$swap"
volume
wbtest history-write /dev/mapper/v --seed "$SEED" --last 400 --every 5 >/dev/null
# User space is frozen for seconds: for the volume, it is idle time. At this pace writeback would take all of
# that.
dmsetup message v 0 writeback_rate_limit 100
echo disk >/sys/power/state || die 'it does not hibernate'
echo "AFTER $(dmsetup status v)"
wbtest history-write /dev/mapper/v --seed "$SEED" --from 401 --last 600 --every 5
echo DONE
sleep 1000
