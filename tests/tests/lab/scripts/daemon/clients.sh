# shellcheck shell=bash
# Clients of its socket that send nonsense, say nothing or never end keep the daemon from nothing.

has_volume
# As users have it, and with so few descriptors that connections could take them all.
for limit in 1024 32; do
    has_socket 5
    bash -c "ulimit -n $limit; exec wbdaemon" 2>/tmp/log &
    pid=$!
    within 10 is_steered 5
    say "with $limit descriptors: a body of any length"
    for length in 99999999999 18446744073709551615; do
        for method in GET POST; do
            curl -s -m 10 --unix-socket /run/wb.sock -X $method -H "Content-Length: $length" \
                http://x/metrics >/dev/null || true
            kill -0 $pid || die "$(cat /tmp/log)"
        done
    done
    say 'thousands of clients that say nothing, say it slowly, do not read, or never end, for 20 s'
    python3 /mnt/share/flood.py &
    flood=$!
    sleep 2
    served=0
    while kill -0 $flood 2>/dev/null; do
        # An ordinary client is served, though a thousand others are in front of it each time.
        if curl -sf -m 10 --unix-socket /run/wb.sock http://x/metrics -o /tmp/page; then
            served=$((served + 1))
        fi
        has v steering_expired 0 || die 'it does not steer any more'
        sleep 0.5
    done
    wait $flood || die 'there were too few'
    [ $served -ge 3 ] || die "served $served times"
    echo "REPORT with $limit descriptors, others served $served times;" \
        "$(grep -E '^(VmHWM|Threads)' /proc/$pid/status | tr -s '\t\n ' ' ')"
    [ "$(awk '/^VmHWM/ { print $2 }' /proc/$pid/status)" -lt 20000 ] || die 'it has grown'
    [ "$(awk '/^Threads/ { print $2 }' /proc/$pid/status)" -le 3 ] || die 'it has more threads'
    say 'as if nothing had been'
    curl -sf -m 10 --unix-socket /run/wb.sock http://x/metrics -o /tmp/page
    grep -q '^writeboost_steering_expired{volume="v"} 0' /tmp/page || die "$(cat /tmp/page)"
    # An option that is set by hand is noticed: the daemon looks, and decides.
    wbctl set v writeback_threshold 42
    within 10 saw 'somebody has set its options'
    for key in writeback_threshold nr_max_batched_writeback writeback_rate_limit; do
        wbctl set v $key default
    done
    within 10 is_steered 5
    # A configuration is read meanwhile.
    printf 'steering_timeout_s = 7\n' >"$conf"
    kill -HUP $pid
    within 10 is_steered 7
    kill $pid
    wait $pid || die "$(cat /tmp/log)"
    cat /tmp/log
done
remove v
