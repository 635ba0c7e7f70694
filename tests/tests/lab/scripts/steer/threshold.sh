# shellcheck shell=bash
# writeback_threshold: at 0 no background writeback, at 100 always, by default when the volume is idle.

ram 2 128
volume v /dev/ram0 /dev/ram1 writeback_threshold 0
dirties 16
say '0: only when it must'
stays_dirty 4
say '100: always, whatever the load'
dmsetup message v 0 writeback_threshold 100
within 10 is_clean
dmsetup message v 0 writeback_threshold 0
dirties 16
say 'default: when the volume is idle'
dmsetup message v 0 writeback_threshold default
within 10 is_clean
say 'a pass that goes on for long ends when it is not wanted any more'
dmsetup message v 0 writeback_rate_limit 512
dirties 16
dmsetup message v 0 writeback_threshold 100
sleep 2
! is_clean || die 'all is written back'
dmsetup message v 0 writeback_threshold 0
sleep 1
stays_dirty 3
finish v /dev/ram0 /dev/ram1
