# shellcheck shell=bash
# `wbctl get` and `wbctl set`: options are shown, set, taken back and refused.

ram 2 64
wbctl create v /dev/ram0 /dev/ram1 --opt writeback_threshold=0
n=$(sectors /dev/ram0)
say 'get'
same threshold "$(wbctl get v writeback_threshold)" 0
same 'rate limit' "$(wbctl get v writeback_rate_limit)" default
wbctl get v | tee /tmp/got
same options "$(wc -l </tmp/got)" 8
grep -q '^writeback_threshold  *0  *0 to 100 percent: ' /tmp/got || die 'no threshold'
wbctl --json get v >/tmp/got
same 'the same as JSON' \
    "$(jq -c '.[] | select(.name == "writeback_threshold") | [.value, .min, .max]' /tmp/got)" '[0,0,100]'
same 'not given' "$(jq -c '.[] | select(.name == "steering_timeout") | .value' /tmp/got)" null
say 'set'
same 'what it says' "$(wbctl set v writeback_rate_limit 4096)" 'v: writeback_rate_limit 4096'
wbctl set v nr_max_batched_writeback 8
same table "$(dmsetup table v)" \
    "0 $n writeboost 1:0 1:1 6 writeback_threshold 0 nr_max_batched_writeback 8 writeback_rate_limit 4096"
same 'in the status' "$(value v writeback_rate_limit)" 4096
say 'taken back'
wbctl set v nr_max_batched_writeback default
wbctl set v writeback_threshold default
same table "$(dmsetup table v)" "0 $n writeboost 1:0 1:1 2 writeback_rate_limit 4096"
say 'what is refused changes nothing'
refused 2 'writeback_threshold takes a number from 0 to 100, or default' -- wbctl set v writeback_threshold \
    101
refused 2 'from 0 to 4194304' -- wbctl set v writeback_rate_limit -- -1
refused 2 'unknown option; there are writeback_threshold,' -- wbctl set v threshold 1
refused 2 'unknown option' -- wbctl get v threshold
refused 8 'w is not a writeboost volume' -- wbctl set w writeback_threshold 1
refused 8 'w is not a writeboost volume' -- wbctl get w
refused + 'Invalid argument' -- dmsetup message v 0 writeback_rate_limit 4194305
same table "$(dmsetup table v)" "0 $n writeboost 1:0 1:1 2 writeback_rate_limit 4096"
finish v /dev/ram0 /dev/ram1
