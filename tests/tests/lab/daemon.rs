//! `wbdaemon`: on real volumes, and as a service of systemd on Debian's own kernel, scraped by Debian's Prometheus.

use std::borrow::Cow;
use std::fs;

use anyhow::Result;
use xtask::lab::{checkout, SUPPORTED};

use crate::support::{script, test, Bench, Body, Level, Test};

/// Functions of these tests.
macro_rules! with_helpers {
    ($script:expr) => {
        concat!(
            r#"
    dirties() {
        fio --name=w --eta=never --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --size=$1M --randseed=$SEED \
            --ioengine=io_uring --iodepth=16 --end_fsync=1 --output=/dev/null
    }
    is_clean() { [ "$(dirty v)" = 0 ]; }
    is_steered() { [ "$(wbctl get v steering_timeout)" = "${1:-10}" ] && [ "$(wbctl get v writeback_threshold)" != default ]; }
    is_option() { [ "$(wbctl get v $1)" = "$2" ]; }
    is_default() {
        local key
        for key in writeback_threshold nr_max_batched_writeback writeback_rate_limit steering_timeout; do
            [ "$(wbctl get v $key)" = default ] || return 1
        done
    }
    saw() { grep -qE "$1" /tmp/log; }
    conf=/etc/writeboost/wbdaemon.toml
    has_volume() {
        ram 2 64
        wbctl create v /dev/ram0 /dev/ram1
        mkdir -p /etc/writeboost
    }
    # has_socket SECONDS: the daemon is told to be silent for so long at most, and to have a page of metrics.
    has_socket() { printf 'steering_timeout_s = %d\n[metrics]\nlisten = "unix:/run/wb.sock"\n' $1 >$conf; }
"#,
            $script
        )
    };
}

/// The tests.
pub const TESTS: &[Test] = &[
    script(
        "daemon::steers",
        60,
        true,
        with_helpers!(
            r#"
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
        say 'what somebody sets by hand is left alone'
        sleep 3
        wbctl set v writeback_threshold 42
        within 10 saw 'somebody has set its options'
        within 5 is_option steering_timeout default
        same 'who steers' "$(value v steered_by)" 1
        refused + 'busy' -- dmsetup message v 0 writeback_threshold 7 daemon
        sleep 3
        same 'by hand' "$(wbctl get v writeback_threshold)" 42
        for key in writeback_threshold nr_max_batched_writeback writeback_rate_limit; do wbctl set v $key default; done
        within 10 is_steered
        say 'a suspended volume keeps nobody waiting'
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
        "#
        ),
    ),
    script(
        "daemon::configuration",
        30,
        true,
        with_helpers!(
            r#"
        has_volume
        say 'none'
        refused 2 '/etc/writeboost/wbdaemon.toml: cannot be read: No such file' -- wbdaemon --check-config
        say 'wrong ones'
        printf '# mine\n[metrics]\nlisen = "x"\n' >$conf
        refused 2 "$conf:3: unknown key lisen; did you mean listen?" -- wbdaemon --check-config
        refused 2 "$conf:3: unknown key lisen" -- wbdaemon
        printf 'interval_s = 0\n' >$conf
        refused 2 "$conf:1: interval_s is from 0.1 to 60" -- wbdaemon --check-config
        printf '[metrics]\nlisten = "0.0.0.0:1"\n' >$conf
        refused 2 "$conf:2: listen is 0.0.0.0:1, which other machines can reach" -- wbdaemon --check-config
        refused 2 "/tmp/no: cannot be read" -- wbdaemon --config /tmp/no
        say 'a right one'
        printf 'interval_s = 0.5\nsteering_timeout_s = 7\n[metrics]\nlisten = "unix:/run/wb.sock"\n[volume.w]\nsteer = false\n' >$conf
        same 'what it says' "$(wbdaemon --check-config)" "$conf: ok"
        say 'only looking'
        wbdaemon --once --dry-run | tee /tmp/said
        grep -q 'would say: writeback_threshold ' /tmp/said || die 'it does not say what it would do'
        is_default || die 'it has done something'
        say 'once'
        wbdaemon --once | tee /tmp/said
        grep -q '; said: writeback_threshold ' /tmp/said || die 'it does not say what it did'
        is_steered 7 || die "$(wbctl get v)"
        say 'as it is told'
        wbdaemon 2>/tmp/log &
        pid=$!
        within 10 is_steered 7
        curl -s --unix-socket /run/wb.sock http://x/metrics >/tmp/page
        ! grep -q '# EOF' /tmp/page || die "$(cat /tmp/page)"
        curl -s -D /tmp/head -H 'Accept: application/openmetrics-text' --unix-socket /run/wb.sock http://x/metrics | tail -n1 >/tmp/end
        grep -qx '# EOF' /tmp/end || die "$(cat /tmp/end)"
        grep -qi '^content-type: application/openmetrics-text; version=1.0.0' /tmp/head || die "$(cat /tmp/head)"
        grep -q '^writeboost_dirty_bytes{volume="v"} ' /tmp/page || die "$(cat /tmp/page)"
        grep -q '^writeboost_requests_total{volume="v",operation="write",result="miss"} ' /tmp/page || die "$(cat /tmp/page)"
        say 'told to read it again: a wrong one changes nothing'
        printf 'interval = 1\n' >$conf
        kill -HUP $pid
        within 10 saw "$conf:1: unknown key interval; did you mean interval_s?.*the configuration stays as it is"
        is_steered 7 || die 'it steers no more'
        say 'a right one counts, without a gap'
        printf 'steering_timeout_s = 5\n[volume.v]\nsteer = true\n' >$conf
        kill -HUP $pid
        within 10 is_steered 5
        ! [ -e /run/wb.sock ] || die 'it still listens'
        say 'not to be steered any more'
        printf '[volume.v]\nsteer = false\n' >$conf
        kill -HUP $pid
        within 10 is_default
        kill $pid
        wait $pid
        cat /tmp/log
        say 'who is not root is told so'
        refused 1 'it runs as root' -- setpriv --reuid=65534 --clear-groups wbdaemon --once
        refused 1 'cannot look for volumes' -- setpriv --reuid=65534 --clear-groups wbdaemon --once --dry-run
        remove v
        "#
        ),
    ),
    script(
        "daemon::alone",
        30,
        true,
        with_helpers!(
            r#"
        has_volume
        has_socket 5
        answers() {
            # Not through a pipe, which is closed as soon as the line is found.
            curl -sf -m 10 --unix-socket /run/wb.sock http://x/metrics >/tmp/page && grep -q '^writeboost_steering_expired{volume="v"} 0' /tmp/page
        }
        ends() { ! kill -0 $1 2>/dev/null; }
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
        say 'whoever removes the lock does not get two'
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
        has v steering_expired 0 || die 'nobody steers'
        say 'what a killed one has left holds nobody up'
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
        "#
        ),
    ),
    script(
        "daemon::clients",
        60,
        true,
        with_helpers!(
            r#"
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
                    curl -s -m 10 --unix-socket /run/wb.sock -X $method -H "Content-Length: $length" http://x/metrics >/dev/null || true
                    kill -0 $pid || die "$(cat /tmp/log)"
                done
            done
            say 'thousands who say nothing, say it slowly, do not read, or never end, for 20 s'
            cat >/tmp/flood.py <<'PY'
import errno, resource, select, socket, sys, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
line = b'GET /metrics HTTP/1.1\r\nHost: x\r\n'
kinds = [b'', line, line + b'\r\n', b'POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n']
sockets, connected, end = [], 0, time.monotonic() + 20
while time.monotonic() < end:
    if len(sockets) < min(3000, hard - 100):
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        try:
            s.connect('/run/wb.sock')
        except BlockingIOError:
            time.sleep(0.001)
            continue
        sockets.append(s)
        connected += 1
        try:
            s.send(kinds[connected % len(kinds)] * (1000 if connected % 8 == 2 else 1))
        except OSError:
            pass
    else:
        time.sleep(0.1)
        for s in sockets[::7]:
            try:
                s.send(b'X')
            except OSError:
                pass
        # New ones in the place of a few: it never rests.
        for s in sockets[:100]:
            s.close()
        del sockets[:100]
print(connected, 'connections')
sys.exit(connected < 2000)
PY
            python3 /tmp/flood.py &
            flood=$!
            sleep 2
            served=0
            while kill -0 $flood 2>/dev/null; do
                # Whoever asks in an ordinary way is served, though there are a thousand before him each time.
                if curl -sf -m 10 --unix-socket /run/wb.sock http://x/metrics -o /tmp/page; then served=$((served + 1)); fi
                has v steering_expired 0 || die 'it does not steer any more'
                sleep 0.5
            done
            wait $flood || die 'there were too few'
            [ $served -ge 3 ] || die "served $served times"
            echo "REPORT with $limit descriptors, others served $served times; $(grep -E '^(VmHWM|Threads)' /proc/$pid/status | tr -s '\t\n ' ' ')"
            [ "$(awk '/^VmHWM/ { print $2 }' /proc/$pid/status)" -lt 20000 ] || die 'it has grown'
            [ "$(awk '/^Threads/ { print $2 }' /proc/$pid/status)" -le 3 ] || die 'it has more threads'
            say 'as if nothing had been'
            curl -sf -m 10 --unix-socket /run/wb.sock http://x/metrics -o /tmp/page
            grep -q '^writeboost_steering_expired{volume="v"} 0' /tmp/page || die "$(cat /tmp/page)"
            # What is set by hand is noticed: it looks, and decides.
            wbctl set v writeback_threshold 42
            within 10 saw 'somebody has set its options'
            for key in writeback_threshold nr_max_batched_writeback writeback_rate_limit; do wbctl set v $key default; done
            within 10 is_steered 5
            # A configuration is read meanwhile.
            printf 'steering_timeout_s = 7\n' >$conf
            kill -HUP $pid
            within 10 is_steered 7
            kill $pid
            wait $pid || die "$(cat /tmp/log)"
            cat /tmp/log
        done
        remove v
        "#
        ),
    ),
    script(
        "daemon::dashboard",
        30,
        true,
        with_helpers!(
            r#"
        hdd x 64
        ram 1 64
        wb() { tmux send-keys -t wb "$@"; }
        screen() { tmux capture-pane -p -t wb; }
        shows() { screen | grep -qE "$1"; }
        starts() { tmux -f /dev/null new-session -d -s wb -x "$1" -y "$2" "TERM=screen-256color LC_ALL=C.UTF-8 wbstat --interval 0.5 $3; echo status \$?; sleep 1000"; }
        say 'without volumes'
        starts 80 24 ''
        within 10 shows 'There is no writeboost volume'
        say 'one that comes'
        wbctl create v /dev/x /dev/ram0
        within 10 shows '> v +ok .* idle'
        shows 'free 126 +of 126 segments' || shows 'of 126 segments' || die "$(screen)"
        say 'it is used'
        fio --name=w --eta=never --filename=/dev/mapper/v --direct=1 --rw=randwrite --bs=4k --rate_iops=100 --time_based --runtime=600 \
            --ioengine=psync --output=/dev/null &
        fio=$!
        within 10 shows '> v +ok .* 100 .* in use'
        say 'an option is changed, after a question'
        wb t
        within 5 shows 'Options of v'
        wb Enter
        within 5 shows 'writeback_threshold = _'
        wb 7 0 0 Enter
        within 5 shows 'takes a number from 0 to 100'
        wb BSpace Enter
        within 5 shows 'Set writeback_threshold from default to 70\?'
        same 'not yet' "$(wbctl get v writeback_threshold)" default
        wb y
        within 5 shows 'writeback_threshold is 70 now'
        same 'now' "$(wbctl get v writeback_threshold)" 70
        wb x
        within 5 shows 'below 70 % busy, decided by: set by hand'
        say 'it is steered'
        wbctl set v writeback_threshold default
        wbdaemon 2>/tmp/log &
        daemon=$!
        within 15 shows 'decided by: wbdaemon'
        say 'another size'
        tmux resize-window -t wb -x 150 -y 45
        within 5 shows 'LOG IN USE'
        screen
        say 'it goes'
        kill $fio $daemon
        wait || true
        wb Enter
        wbctl remove v
        within 10 shows 'There is no writeboost volume'
        wb q
        within 5 shows 'status 0'
        tmux kill-server
        say 'recorded, and shown again'
        wbctl create v /dev/x /dev/ram0
        starts 80 24 '--record /tmp/recording'
        sleep 4
        wb q
        within 5 shows 'status 0'
        tmux kill-server
        wbctl remove v
        wbstat --replay /tmp/recording --csv >/tmp/csv
        [ "$(grep -c ',v,ok,' /tmp/csv)" -ge 3 ] || die "$(cat /tmp/csv)"
        starts 80 24 '--replay /tmp/recording'
        within 5 shows 'REPLAY'
        within 5 shows '> v +ok'
        tmux kill-server
        "#
        ),
    ),
    script(
        "daemon::overhead",
        100,
        false,
        with_helpers!(
            r#"
        ram 20 16
        for i in $(seq 0 9); do wbctl create v$i /dev/ram$((2 * i)) /dev/ram$((2 * i + 1)); done
        for i in $(seq 0 9); do
            fio --name=w --eta=never --filename=/dev/mapper/v$i --direct=1 --rw=randrw --bs=4k --rate_iops=20,20 --time_based --runtime=300 \
                --ioengine=psync --output=/dev/null &
        done
        wbdaemon 2>/tmp/log &
        daemon=$!
        tmux -f /dev/null new-session -d -s wb -x 120 -y 40 'TERM=screen-256color exec wbstat --interval 1'
        within 10 pgrep -x wbstat
        stat=$(pgrep -x wbstat)
        sleep 5
        # Ticks of a hundredth of a second, of user and system.
        ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
        rss() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }
        a=$(ticks $daemon) b=$(ticks $stat) begin=${EPOCHREALTIME/./}
        sleep 60
        a=$(($(ticks $daemon) - a)) b=$(($(ticks $stat) - b)) ms=$(((${EPOCHREALTIME/./} - begin) / 1000))
        echo "REPORT 10 volumes, every second: wbdaemon $((a * 100000 / ms))/100 % of a CPU and $(rss $daemon) KiB," \
            "wbstat $((b * 100000 / ms))/100 % and $(rss $stat) KiB"
        tmux capture-pane -p -t wb
        tmux capture-pane -p -t wb | grep -q v9 || die 'wbstat does not show the volumes'
        for pid in $daemon $stat; do [ $(rss $pid) -lt 20000 ] || die "$(rss $pid) KiB"; done
        kill $daemon
        wait $daemon
        tmux kill-server
        pkill fio || true
        wait || true
        "#
        ),
    ),
    test(
        "daemon::against_fixed_policies",
        400,
        Level::Full,
        Body::Script(with_helpers!(
            r#"
        # A hard disk that somebody reads from, half of the time, and a cache that takes his writes.
        hdd x 1024
        ram 1 256
        policy() {
            local name=$1
            shift
            wbctl create v /dev/x /dev/ram0
            "$@" >/dev/null 2>&1
            echo 3 >/proc/sys/vm/drop_caches
            fio --eta=never --filename=/dev/mapper/v --direct=1 --bs=4k --time_based --runtime=60 --group_reporting \
                --output-format=json --output=/tmp/fio \
                --name=reads --rw=randread --size=1000M --ioengine=psync --thinktime=20ms --thinktime_blocks=1 \
                --new_group --name=writes --rw=randwrite --size=1000M --ioengine=psync --rate_iops=150 --randseed=$SEED
            echo "REPORT $name: reads $(jq -r '.jobs[0].read | "p50 \(.clat_ns.percentile["50.000000"] / 1e6 | round) ms, p99 \(.clat_ns.percentile["99.000000"] / 1e6 | round) ms"' /tmp/fio)," \
                "$(value v written_back) blocks written back, $(dirty v) dirty, $(value v free_segments) of $(field v 3) segments free"
            pkill wbdaemon || true
            wait || true
            wbctl remove v
            head -c 1M /dev/zero >/dev/ram0
        }
        policy 'always' wbctl set v writeback_threshold 100
        policy 'never until full' wbctl set v writeback_threshold 0
        policy '70 %' wbctl set v writeback_threshold 70
        policy 'built in' true
        daemon() { wbdaemon & }
        policy 'wbdaemon' daemon
        "#
        )),
    ),
];

/// The tests on the newest of Debian's kernels.
pub fn on_debian() -> Vec<Test> {
    let Some(&newest) = SUPPORTED.last() else { return Vec::new() };
    let name = format!("daemon::service_{}_{}", newest.major, newest.minor);
    let body = Body::Debian(newest, service);
    vec![Test { name: Cow::Owned(name), seconds: 240, full_seconds: 240, level: Level::Normal, body }]
}

/// As users have it: installed, started by systemd, scraped by Prometheus.
fn service(cx: &Bench) -> Result<()> {
    let guest = cx.guest()?.cpus(2).mem(2048).systemd().timeout(std::time::Duration::from_secs(1800));
    for file in ["wbdaemon.service", "wbdaemon.toml", "alerts.yml", "grafana.json"] {
        fs::copy(checkout().join("wbdaemon/share").join(file), cx.dir().join("share").join(file))?;
    }
    cx.run(guest, &format!("{}\n{SERVICE}", with_helpers!("")))?;
    Ok(())
}

const SERVICE: &str = r#"
say 'installed'
[ -x /usr/local/sbin/wbdaemon ]
install -D -m644 /mnt/share/wbdaemon.toml /etc/writeboost/wbdaemon.toml
install -D -m644 /mnt/share/wbdaemon.service /etc/systemd/system/wbdaemon.service
wbdaemon --check-config
systemctl daemon-reload
systemd-analyze verify wbdaemon.service
modprobe dm-writeboost
null x 64 irqmode 2 completion_nsec 2000000
null c 24
wbctl create v /dev/x /dev/c
say 'started: it is ready when it has looked'
systemctl start wbdaemon
same state "$(systemctl is-active wbdaemon)" active
within 30 is_steered
within 30 grep -q '1 volumes, 1 steered' <(systemctl show -p StatusText wbdaemon)
systemctl show -p StatusText wbdaemon
echo "REPORT systemd-analyze security: $(systemd-analyze security --no-pager wbdaemon | tail -n1)"
say 'one that is started by hand beside it is refused'
refused 3 "another wbdaemon (PID $(systemctl show -p MainPID --value wbdaemon)) steers on this machine" -- wbdaemon --once
say 'the journal has fields'
journalctl -q -u wbdaemon -o json VOLUME=v | head -n1 | tee /tmp/line
jq -e '.VOLUME == "v" and .SYSLOG_IDENTIFIER == "wbdaemon" and (.MESSAGE | contains("found v"))' /tmp/line
say 'a configuration that is read again'
printf '[metrics]\nlisten = "127.0.0.1:9837"\n' >/etc/writeboost/wbdaemon.toml
systemctl reload wbdaemon
within 30 curl -sf http://127.0.0.1:9837/metrics -o /tmp/page
same state "$(systemctl is-active wbdaemon)" active
say 'a real Prometheus'
cat >/tmp/prometheus.yml <<'YML'
global: {scrape_interval: 2s, evaluation_interval: 2s}
rule_files: [/tmp/alerts.yml]
scrape_configs:
  - job_name: writeboost
    static_configs: [{targets: ['127.0.0.1:9837']}]
YML
# In minutes it is for people.
sed 's/for: [0-9]*m/for: 1s/' /mnt/share/alerts.yml >/tmp/alerts.yml
promtool check config /tmp/prometheus.yml
promtool check rules /mnt/share/alerts.yml
prometheus --config.file=/tmp/prometheus.yml --storage.tsdb.path=/tmp/tsdb --web.listen-address=127.0.0.1:9090 >/tmp/prometheus.log 2>&1 &
prometheus=$!
asks() { curl -sfG http://127.0.0.1:9090/api/v1/query --data-urlencode "query=$1"; }
is() { [ "$(asks "$1" | jq -r '.data.result[0].value[1]')" = "$2" ]; }
within 120 is 'up{job="writeboost"}' 1
within 60 is 'writeboost_state{state="ok",volume="v"}' 1
within 60 is 'writeboost_size_bytes' $((64 << 20))
say 'every query of the dashboard and of the rules is understood, and names what there is'
jq -r '.panels[].targets[].expr' /mnt/share/grafana.json | sed 's/\$volume/.*/g; s/\$__rate_interval/1m/g' >/tmp/queries
[ "$(wc -l </tmp/queries)" -gt 12 ] || die 'where are the queries?'
while read -r query; do
    asks "$query" | jq -e '.status == "success"' >/dev/null || die "not understood: $query"
    for name in $(grep -o 'writeboost_[a-z_]*' <<<"$query"); do
        asks "count($name)" | jq -e '.data.result | length == 1' >/dev/null || die "there is no $name, in $query"
    done
done </tmp/queries
for name in $(grep 'expr:' /mnt/share/alerts.yml | grep -o 'writeboost_[a-z_]*'); do
    asks "count($name)" | jq -e '.data.result | length == 1' >/dev/null || die "there is no $name, in alerts.yml"
done
fires() { curl -sf http://127.0.0.1:9090/api/v1/alerts | jq -e --arg a "$1" 'any(.data.alerts[]; .labels.alertname == $a and .state == "firing")' >/dev/null; }
! fires WriteboostNotSteered || die 'it fires'
say 'both formats, as promtool reads the older one'
curl -sf http://127.0.0.1:9837/metrics | promtool check metrics
curl -sf -H 'Accept: application/openmetrics-text' http://127.0.0.1:9837/metrics | tail -n1 | grep -qx '# EOF'
say 'under load, and the dashboard shows it'
fio --name=load --eta=never --filename=/dev/mapper/v --direct=1 --rw=randrw --bs=4k --rate_iops=50,50 --time_based --runtime=30 \
    --ioengine=psync --output=/dev/null &
load=$!
tmux -f /dev/null new-session -d -s wb -x 120 -y 32 'TERM=screen-256color LC_ALL=C.UTF-8 wbstat'
shows() { tmux capture-pane -p -t wb | grep -qE "$1"; }
within 30 shows 'decided by: wbdaemon'
within 30 shows '> v +ok .* (in use|writing back)'
tmux capture-pane -p -t wb
tmux kill-server
wait $load
is_steered || die "$(wbctl get v)"
within 60 is_clean
say 'a watchdog: one that hangs is started again'
mkdir -p /etc/systemd/system/wbdaemon.service.d
printf '[Service]\nWatchdogSec=10\n' >/etc/systemd/system/wbdaemon.service.d/soon.conf
systemctl daemon-reload
systemctl restart wbdaemon
within 30 is_steered
pid=$(systemctl show -p MainPID --value wbdaemon)
kill -STOP "$pid"
restarted() { local now; now=$(systemctl show -p MainPID --value wbdaemon); [ "$now" != 0 ] && [ "$now" != "$pid" ]; }
within 120 restarted
within 30 has v steering_expired 0
say 'killed, and not started again: the built-in policy takes over, and an alert says so when somebody can'
printf '[Service]\nRestart=no\n' >>/etc/systemd/system/wbdaemon.service.d/soon.conf
systemctl daemon-reload
systemctl kill -s KILL wbdaemon
within 60 has v steering_expired 1
logged 'the built-in policy takes over'
within 60 fires WriteboostDaemonDown
say 'a restart'
systemctl reset-failed wbdaemon
systemctl start wbdaemon
within 30 has v steering_expired 0
say 'stopped: at once, and the built-in policy decides'
systemctl stop wbdaemon
same result "$(systemctl show -p Result --value wbdaemon)" success
is_default || die "$(wbctl get v)"
say 'the service beside one that was started by hand: it fails, says why, and is not tried again'
wbdaemon 2>/tmp/log &
pid=$!
within 30 is_steered
for i in 1 2; do
    ! systemctl start wbdaemon || die 'it has started'
    same state "$(systemctl is-active wbdaemon || true)" failed
    same status "$(systemctl show -p ExecMainStatus --value wbdaemon)" 3
done
journalctl -q -u wbdaemon -o cat | grep -F "another wbdaemon (PID $pid) steers on this machine" >/dev/null
within 30 has v steering_expired 0
kill $pid
wait $pid
systemctl start wbdaemon
within 30 is_steered
systemctl stop wbdaemon
journalctl -q -u wbdaemon -o cat | tail -n 20
kill $prometheus
finish v /dev/x /dev/c
"#;
