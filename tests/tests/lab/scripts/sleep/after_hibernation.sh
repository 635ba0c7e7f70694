# shellcheck shell=bash
# After the hibernation and a power cut: all that was durable is there. From the host: DURABLE.

modprobe dm-writeboost
volume v /dev/lab/disk0 /dev/lab/disk1
say "$(wbtest history-check /dev/mapper/v --seed "$SEED" --durable "$DURABLE" --reads 200)"
finish v /dev/lab/disk0 /dev/lab/disk1
