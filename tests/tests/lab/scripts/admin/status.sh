# shellcheck shell=bash
# The status has dm-writeboost's fields in its order, then pairs; its counters count what they say.

ram 1 64
null c 17
volume v /dev/ram0 /dev/c writeback_threshold 0
status=$(dmsetup status v)
echo "$status"
read -r -a words <<<"$status"
same 'the target' "${words[2]}" writeboost
same 'segments' "$(field v 3)" 32
same 'blocks' "$(field v 2)" $((32 * 128))
same 'dirty blocks' "$(dirty v)" 0
for i in $(seq 1 24); do [[ $(field v "$i") =~ ^[0-9]+$ ]] || die "field $i is $(field v "$i")"; done
# Behind dm-writeboost's fields: the number of words, its options by its names, and pairs to the end.
same 'number of words' ${#words[@]} $((3 + 25 + $(field v 25)))
theirs='writeback_threshold nr_cur_batched_writeback sync_data_interval update_sb_record_interval'
same 'its options' "$(for i in 26 28 30 32 34; do field v $i; done | xargs)" "$theirs read_cache_threshold"
for ((i = 28; i < ${#words[@]}; i += 2)); do
    [[ ${words[i]} =~ ^[a-z_]+$ && ${words[i + 1]} =~ ^[0-9]+$ ]] || die "${words[i]} ${words[i + 1]}"
done
same 'threshold' "$(value v writeback_threshold)" 0
same 'state' "$(value v state)" ok
same 'health' "$(dmsetup message v 0 health)" 'ok none'
same 'steered by' "$(value v steered_by)" 1
[[ $(value v uuid) =~ ^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$ ]]
say 'what is counted'
# The counters are fields 8 to 23 in the order of dm-writeboost: write, hit, in RAM, full.
counters() { local i sum=0; for i in $(seq "$1" "$2"); do sum=$((sum + $(field v "$i"))); done; echo $sum; }
dmsetup message v 0 clear_stat
same 'all counters' "$(counters 8 23)" 0
fio --name=w --filename=/dev/mapper/v --direct=1 --rw=write --bs=4k --size=1m --end_fsync=1 >/dev/null
same 'writes' "$(counters 16 23)" 256
same 'full writes that miss, the tenth' "$(field v 17)" 256
same 'dirty blocks' "$(dirty v)" 256
dmsetup message v 0 clear_stat
fio --name=r --filename=/dev/mapper/v --direct=1 --rw=read --bs=4k --size=1m >/dev/null
same 'writes' "$(counters 16 23)" 0
same 'read misses' "$(counters 8 11)" 0
same 'read hits' "$(counters 12 15)" 256
dd if=/dev/mapper/v of=/dev/null bs=4k skip=8000 count=10 iflag=direct status=none
same 'read misses' "$(counters 8 11)" 10
dmsetup message v 0 clear_stat
same 'all counters' "$(counters 8 23)" 0
same 'dirty blocks' "$(dirty v)" 256
drained v /dev/ram0
healthy v
remove v
