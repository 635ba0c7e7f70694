# shellcheck shell=bash
# One daemon steers at a time, also after its lock or its socket has been removed.

has_volume
has_socket 5
answers() {
    # Not through a pipe, which is closed as soon as the line is found.
    curl -sf -m 10 --unix-socket /run/wb.sock http://x/metrics >/tmp/page &&
        grep -q '^writeboost_steering_expired{volume="v"} 0' /tmp/page
}
ends() { ! kill -0 "$1" 2>/dev/null; }
wbdaemon 2>/tmp/log &
pid=$!
within 10 is_steered 5
within 10 answers
say 'a second one is refused, and told whom to end'
refused 3 "another wbdaemon (PID $pid) steers on this machine" -- wbdaemon
refused 3 "another wbdaemon (PID $pid) steers on this machine" -- wbdaemon --once
say 'one that only looks may, but does not get the socket'
wbdaemon --once --dry-run
refused 1 "another process (PID $pid) listens there" -- wbdaemon --dry-run
answers || die "the socket is gone: $(ls -l /run/wb.sock; cat /tmp/page /tmp/log)"
say 'without the lock file there is still one only'
rm -r /run/wbdaemon
within 10 test -e /run/wbdaemon/lock
refused 3 "another wbdaemon (PID $pid) steers on this machine" -- wbdaemon --once
say 'one that is faster is the only one then, and what it has set stays'
kill -STOP $pid
rm -r /run/wbdaemon
printf 'steering_timeout_s = 6\n' >/tmp/conf
wbdaemon --config /tmp/conf 2>/tmp/log2 &
second=$!
within 10 is_steered 6
kill -CONT $pid
within 10 ends $pid
status=0
wait $pid || status=$?
same 'status of the first one' $status 3
saw "another wbdaemon .PID $second. steers" || die "$(cat /tmp/log)"
! [ -e /run/wb.sock ] || die 'it has left its socket'
sleep 7
is_steered 6 || die "$(wbctl get v)"
has v steering_expired 0 || die 'the volume is not steered'
say 'the socket and the lock of a killed one do not hold the next one up'
kill $second
wait $second
wbdaemon 2>/tmp/log &
pid=$!
within 10 answers
kill -KILL $pid
wait $pid || true
[ -S /run/wb.sock ] || die 'where is the socket?'
wbdaemon 2>/tmp/log &
pid=$!
within 10 answers
kill $pid
wait $pid
! [ -e /run/wb.sock ] || die 'it has left its socket'
remove v
