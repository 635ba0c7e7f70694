# shellcheck shell=bash
# One life of a volume between two power cuts: resumes it, checks its history, and writes on until the host
# cuts the power. The last life drains and removes it instead.
# From the host: SLOW, whether the cache device takes its time with writes; EPOCHS, of the lives before, and
# DURABLE, the last write of these that was durable; ALIGN and EVERY, as wbtest takes them; LAST.

cache=/dev/lab/disk1
if [ "$SLOW" = true ]; then
    # Shorter delays would keep the guest's CPU busy.
    modprobe dm-delay
    dmsetup create slow --table "0 $(sectors $cache) delay $cache 0 0 $cache 0 60"
    cache=/dev/mapper/slow
fi
wbctl create v /dev/lab/disk0 $cache
history=(/dev/mapper/v --seed "$SEED" --align "$ALIGN")
n=0
if [ -n "$EPOCHS" ]; then
    wbtest history-check "${history[@]}" --epochs "$EPOCHS" --durable "$DURABLE" >/tmp/n
    cat /tmp/n
    read -r _ n </tmp/n
fi
healthy v
if [ "$LAST" = true ]; then
    finish v /dev/lab/disk0 $cache
else
    echo READY
    exec wbtest history-write "${history[@]}" --epochs "${EPOCHS:+$EPOCHS,}$((n + 1))" --every "$EVERY"
fi
