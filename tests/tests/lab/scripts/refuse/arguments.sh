# shellcheck shell=bash
# Tables and command lines that are wrong.

for blank in yes no; do
    [ $blank = yes ] || { volume v /dev/b /dev/c; remove v; }
    no_table 'Two devices are needed' 0 "$n" writeboost
    no_table 'Two devices are needed' 0 "$n" writeboost /dev/b
    no_table 'Cannot open the cache device' 0 "$n" writeboost /dev/b /dev/nowhere
    no_table 'Cannot open the backing device' 0 "$n" writeboost /dev/nowhere /dev/c
    no_table 'Cannot open the cache device' 0 "$n" writeboost /dev/b /dev/null
    no_table 'number of option words' 0 "$n" writeboost /dev/b /dev/c x
    no_table 'number of option words' 0 "$n" writeboost /dev/b /dev/c -2
    no_table 'number of option words' 0 "$n" writeboost /dev/b /dev/c 1 writeback_threshold
    no_table 'number of option words' 0 "$n" writeboost /dev/b /dev/c 2 writeback_threshold
    no_table 'number of option words' 0 "$n" writeboost /dev/b /dev/c 2 writeback_threshold 70 0
    no_table 'number of option words' 0 "$n" writeboost /dev/b /dev/c 4 writeback_threshold 70
    no_table 'number of option words' 0 "$n" writeboost /dev/b /dev/c writeback_threshold 70
    no_table 'number of option words' 0 "$n" writeboost /dev/b /dev/c 99999999999999999999 \
        writeback_threshold 70
    no_table 'unknown option' 0 "$n" writeboost /dev/b /dev/c 2 frobnicate 1
    no_table 'An option is unknown' 0 "$n" writeboost /dev/b /dev/c 2 frobnicate 1
    no_table 'unknown option' 0 "$n" writeboost /dev/b /dev/c 4 writeback_threshold 70 Writeback_Threshold 1
    for value in 101 -1 x 4294967296 1e1; do
        no_table 'writeback_threshold takes a number from 0 to 100' \
            0 "$n" writeboost /dev/b /dev/c 2 writeback_threshold $value
    done
    no_table 'takes a number from 1' 0 "$n" writeboost /dev/b /dev/c 2 nr_max_batched_writeback 0
    no_table 'takes a number from 1' 0 "$n" writeboost /dev/b /dev/c 2 nr_max_batched_writeback 1000000
    no_table 'takes a number from 0 to 3600' 0 "$n" writeboost /dev/b /dev/c 2 sync_data_interval 3601
done
wipe
no_volume 2 'Usage' /dev/b
no_volume 2 'same device' /dev/b /dev/b
no_volume 1 'No such file' /dev/b /dev/nowhere
no_volume 1 'No such file' /dev/nowhere /dev/c
no_volume 1 'neither a block device nor a regular file' /dev/b /dev/null
no_volume 2 'KEY=VALUE' /dev/b /dev/c --opt writeback_threshold
no_volume 2 'given twice' /dev/b /dev/c --opt writeback_threshold=1 --opt writeback_threshold=2
truncate -s 16M /tmp/file
no_volume 2 'losetup' /dev/b /tmp/file
wbctl create v /dev/b /dev/c
wbctl remove v
no_volume 11 'unknown option' /dev/b /dev/c --opt frobnicate=1
no_volume 11 'takes a number from 0 to 100' /dev/b /dev/c --opt writeback_threshold=101
refused 2 'empty' -- wbctl create '' /dev/b /dev/c
refused 2 '' -- wbctl create a/b /dev/b /dev/c
