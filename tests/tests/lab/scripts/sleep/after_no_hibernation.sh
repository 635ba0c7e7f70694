# shellcheck shell=bash
# After a power cut: all that was durable is there.

modprobe dm-writeboost
volume v /dev/lab/disk0 /dev/lab/disk1
dmsetup create lower --table "0 98304 linear /dev/mapper/v 1048576"
say "$(wbtest history-check /dev/mapper/lower --seed "$SEED" --durable 400)"
healthy v
