# shellcheck shell=bash
# The table that dmsetup shows makes the same volume again.

ram 2 16
n=$(sectors /dev/ram0)
# The table that dmsetup shows makes the same volume again.
for options in "" "2 writeback_threshold 70" \
    "8 writeback_threshold 0 nr_max_batched_writeback 8 sync_data_interval 5 update_sb_record_interval 60"; do
    dmsetup create v --table "0 $n writeboost /dev/ram0 /dev/ram1 $options"
    table=$(dmsetup table v)
    echo "$table"
    same table "$table" "0 $n writeboost 1:0 1:1 ${options:-0}"
    remove v
    dmsetup create v --table "$table"
    same 'table of the table' "$(dmsetup table v)" "$table"
    remove v
done
