# shellcheck shell=dash
# A disk that came after the module sleeps before the volume does: what takes long is over by then. A drain
# that waits for it goes on waiting after the hibernation.

image_goes_to "$swap"
disk=$(busybox readlink -f "$backing")
name=${disk##*/}
pci=$(busybox dirname "$(busybox readlink -f "/sys/class/block/$name/device")")
echo 1 >"$pci/remove"
echo 1 >/sys/bus/pci/rescan
until [ -b "$disk" ]; do sleep 1; done
dmsetup create --noudevsync slow --table "0 $size delay $disk 0 0 $disk 0 6000 $disk 0 0"
backing=/dev/mapper/slow
volume
# history COMMAND WORDS...
history() { local what=$1; shift; wbtest "history-$what" /dev/mapper/v --seed "$SEED" --sectors 16384 "$@"; }
history write --last 100 --every 5 >/dev/null
durable /dev/mapper/v
dmsetup message v 0 drop_caches &
drain=$!
sleep 1
echo disk >/sys/power/state || die 'it does not hibernate'
wait $drain || die 'the drain was given up'
is_ok
history check --durable 100
echo DONE
sleep 1000
