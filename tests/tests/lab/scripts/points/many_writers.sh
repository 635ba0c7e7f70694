# shellcheck shell=bash
# Four writers at once, each with a quarter of the volume. From the host: POINTS.

disks 20 10
quarter=$(($(sectors /dev/b) / 4))
history() { # DEVICE WRITER WORDS...
    wbtest history-"$3" "$1" --seed $((SEED + $2)) --first $(($2 * quarter)) --sectors $quarter "${@:4}"
}
prefixes() { # DEVICE
    for i in 0 1 2 3; do
        local durable=durable$i
        history "$1" $i check --durable ${!durable:-0}
    done
}
check() {
    open
    prefixes /dev/mapper/w >/tmp/found
    if alone; then
        drain w
        prefixes /dev/pb | cmp - /tmp/found
    fi
    healthy w
    close
}
export quarter
begin
volume v /dev/mapper/rb /dev/mapper/rc
writers=() every=(8 8 60 300)
for i in 0 1 2 3; do
    history /dev/mapper/v $i write --last 500 --every "${every[i]}" --record /dev/dm-record --key durable$i &
    writers+=($!)
done
for writer in "${writers[@]}"; do wait "$writer"; done
healthy v
remove v
end 1
