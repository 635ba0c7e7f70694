# shellcheck shell=bash
# Messages set options within their limits; a refused one changes nothing.

ram 2 16
volume v /dev/ram0 /dev/ram1
set_to() { dmsetup message v 0 "$1" "$2"; same "$1" "$(value v "$1")" "$2"; }
set_to writeback_threshold 70
set_to writeback_threshold 0
set_to writeback_threshold 100
set_to nr_max_batched_writeback 1
set_to nr_max_batched_writeback 32
set_to sync_data_interval 3600
set_to sync_data_interval 0
set_to update_sb_record_interval 60
before=$(dmsetup table v)
same 'table' "${before#*1:1 }" \
    '8 writeback_threshold 100 nr_max_batched_writeback 32 sync_data_interval 0 update_sb_record_interval 60'
say 'what is refused changes nothing'
logs 'unknown option' -- dmsetup message v 0 frobnicate 1
logs 'unknown message frobnicate' -- dmsetup message v 0 frobnicate
logs 'unknown message' -- dmsetup message v 0 writeback_threshold
logs 'unknown message' -- dmsetup message v 0 writeback_threshold 1 2
for value in -1 101 x 4294967296 99999999999999999999 1.5; do
    logs 'writeback_threshold takes a number from 0 to 100' -- dmsetup message v 0 writeback_threshold -- \
        $value
done
logs 'nr_max_batched_writeback takes a number from 1' -- dmsetup message v 0 nr_max_batched_writeback 0
logs 'sync_data_interval takes a number from 0' -- dmsetup message v 0 sync_data_interval 3601
same 'table' "$(dmsetup table v)" "$before"
say 'names of messages are taken in any case, as dm-writeboost does'
dmsetup message v 0 CLEAR_STAT
dmsetup message v 0 Drop_Caches
healthy v
remove v
