# shellcheck shell=bash
# The daemon finds volumes, steers them, leaves alone what is set by hand, and gives options back when it
# ends.

hdd x 256
ram 1 64
say 'without volumes'
wbdaemon --once | tee /tmp/said
grep -q 'no writeboost volume' /tmp/said || die 'it does not say so'
wbdaemon 2>/tmp/log &
pid=$!
sleep 2
kill -0 $pid || die "$(cat /tmp/log)"
say 'a volume that comes later'
wbctl create v /dev/x /dev/ram0
within 15 is_steered
saw 'found v: /dev/x with /dev/ram0 as its cache' || die "$(cat /tmp/log)"
same 'who steers' "$(value v steered_by)" 2
say 'idle time is used'
dirties 2
within 60 is_clean
say 'it is not heard: killed'
kill -KILL $pid
wait $pid || true
is_steered || die 'it was not killed'
within 20 has v steering_expired 1
say 'back again, and nothing is lost'
wbdaemon 2>/tmp/log &
pid=$!
within 15 has v steering_expired 0
say 'options that are set by hand are left alone'
sleep 3
wbctl set v writeback_threshold 42
within 10 saw 'somebody has set its options'
within 5 is_option steering_timeout default
same 'who steers' "$(value v steered_by)" 1
refused + 'busy' -- dmsetup message v 0 writeback_threshold 7 daemon
sleep 3
same 'by hand' "$(wbctl get v writeback_threshold)" 42
for key in writeback_threshold nr_max_batched_writeback writeback_rate_limit; do
    wbctl set v $key default
done
within 10 is_steered
say 'a suspended volume does not hold the daemon up'
dmsetup suspend v
sleep 3
kill -0 $pid || die "$(cat /tmp/log)"
dmsetup resume v
within 10 has v steering_expired 0
say 'told to end'
kill $pid
wait $pid || die "status $?"
is_default || die "$(wbctl get v)"
say 'one that was set by hand before'
wbctl set v writeback_threshold 0
wbdaemon 2>/tmp/log &
pid=$!
within 10 saw 'v is steered: by hand'
sleep 2
same 'by hand' "$(wbctl get v writeback_threshold) $(wbctl get v steering_timeout)" '0 default'
say 'it goes'
wbctl remove v
within 20 saw 'v is gone'
kill $pid
wait $pid
cat /tmp/log
