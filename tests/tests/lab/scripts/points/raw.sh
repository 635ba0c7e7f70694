# shellcheck shell=bash
# Single writes and flushes of all sizes, some with FUA, and nothing but a prefix of them after each cut: on
# the volume, and after a drain on the backing device alone. From the host: LIVES, POINTS.

disks 20 10
n=0 found=0 epochs=1
check() {
    open
    wbtest history-check /dev/mapper/w --seed "$SEED" --epochs $epochs --durable "${durable:-$n}" >/tmp/found
    if alone; then
        drain w
        close
        wbtest history-check /dev/pb --seed "$SEED" --epochs $epochs --durable "${durable:-$n}" |
            cmp - /tmp/found
        open
        wbtest history-check /dev/mapper/w --seed "$SEED" --epochs $epochs --durable "${durable:-$n}" |
            cmp - /tmp/found
    fi
    healthy w
    close
}
export n epochs
for life in $(seq "$LIVES"); do
    # Slow disks have much on their way; few syncs leave much that may be lost, and a cache that is full of
    # it.
    case $(((SEED + life) % 4)) in
    0) every=8 cache=200 backing=1000 ;;
    1) every=60 cache=200 backing=5000 ;;
    2) every=30 cache=20000 backing=1000 ;;
    3) every=200 cache=3000 backing=5000 ;;
    esac
    again b "$backing"
    again c "$cache"
    if [ "$life" -gt 1 ]; then
        for disk in b c; do
            from=/tmp/seen_$disk
            [ -e $from ] || from=/tmp/base_$disk
            dd if=$from of=/dev/$disk bs=1M oflag=direct status=none
        done
    fi
    begin
    volume v /dev/mapper/rb /dev/mapper/rc
    if [ "$life" -gt 1 ]; then
        # Where the life before ended.
        wbtest history-check /dev/mapper/v --seed "$SEED" --epochs $epochs --durable "${durable:-$n}" \
            >/tmp/found
        # Writes that a cut left are on the disks. Writes that a reset left in their caches are safe only now
        # that the volume is there.
        if [ -e /tmp/seen_c ]; then n=${durable:-$n}; else read -r _ n </tmp/found; fi
        unset durable
        sed s/prefix/durable/ /tmp/found >/dev/dm-record
        read -r _ found </tmp/found
        epochs=$epochs,$((found + 1))
    fi
    history=(/dev/mapper/v --seed "$SEED" --epochs "$epochs")
    half=$((found + 700))
    wbtest history-write "${history[@]}" --last $half --every "$every" --record /dev/dm-record
    # Closed and opened again without a cut: nothing is lost, and a later cut leaves no hole where one log
    # ends.
    remove v
    volume v /dev/mapper/rb /dev/mapper/rc
    wbtest history-check "${history[@]}" --durable $half
    wbtest history-write "${history[@]}" --from $((half + 1)) --last $((half + 700)) --every "$every" \
        --record /dev/dm-record
    healthy v
    remove v
    # A machine that is reset sees what is in the caches of its disks, and may lose it after that.
    leave='cut'
    [ $(((SEED + life) % 3)) != 0 ] || leave=reset
    end "$life" --leave $leave
    # shellcheck source=/dev/null # Made by wbtest: assignments.
    . /mnt/share/left
done
