# shellcheck shell=bash
# After a silence of steering_timeout the built-in policy takes over; an option that is set ends that.

ram 2 64
volume v /dev/ram0 /dev/ram1
say 'a timeout that is set after a long silence begins then'
sleep 3
dmsetup message v 0 writeback_threshold 0
sleep 3
dmsetup message v 0 steering_timeout 2
same expired "$(value v steering_expired)" 0
dirties 8
say 'as long as options are set'
for _ in 1 2 3 4 5 6; do
    dmsetup message v 0 writeback_threshold 0
    sleep 1
    same expired "$(value v steering_expired)" 0
done
! is_clean || die 'it was written back'
say 'silence'
events=$(dmsetup info -c --noheadings -o events v)
within 5 has v steering_expired 1
within 5 is_clean
within 15 test $(($(dmsetup info -c --noheadings -o events v))) -gt "$events"
logged 'the built-in policy takes over'
say 'it shows what was given all the same'
same threshold "$(value v writeback_threshold)" 0
say 'what is no option is no steering'
dmsetup message v 0 clear_stat
same expired "$(value v steering_expired)" 1
! dmsetup message v 0 writeback_threshold 101 2>/dev/null || die 'it was taken'
same expired "$(value v steering_expired)" 1
say 'a word, and it is steered again'
dmsetup message v 0 writeback_threshold 0
same expired "$(value v steering_expired)" 0
say 'a resume is like one'
within 5 has v steering_expired 1
dmsetup suspend v
dmsetup resume v
same expired "$(value v steering_expired)" 0
say 'without the rule, silence means nothing'
dmsetup message v 0 steering_timeout default
dmsetup message v 0 writeback_threshold 0
dirties 8
stays_dirty 4
finish v /dev/ram0 /dev/ram1
