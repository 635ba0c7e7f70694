# shellcheck shell=bash
# One life of a volume between two power cuts, with several writers at once, each with SECTORS of it and a
# history of its own. The last life drains and removes it.
# From the host: WRITERS, SECTORS, LAST; EPOCHS of the lives before and DURABLE, the last write that was, a
# word for each writer.

wbctl create v /dev/lab/disk0 /dev/lab/disk1
read -r -a epochs <<<"$EPOCHS"
read -r -a promised <<<"$DURABLE"
# of_writer NUMBER COMMAND WORDS...
of_writer() {
    wbtest "$2" /dev/mapper/v --seed $((SEED + $1)) --first $(($1 * SECTORS)) --sectors "$SECTORS" "${@:3}"
}
found=()
for ((i = 0; i < WRITERS; i++)); do
    found[i]=0
    if [ -n "$EPOCHS" ]; then
        of_writer $i history-check --epochs "${epochs[i]}" --durable "${promised[i]}" >/tmp/n
        read -r _ "found[i]" </tmp/n
        echo "prefix$i ${found[i]}"
    fi
done
if [ "$LAST" = true ]; then
    finish v /dev/lab/disk0 /dev/lab/disk1
    exit
fi
healthy v
echo READY
for ((i = 0; i < WRITERS; i++)); do
    of_writer $i history-write --epochs "${epochs[i]:+${epochs[i]},}$((found[i] + 1))" --every 6 |
        sed -u "s/durable/durable$i/" &
done
wait
