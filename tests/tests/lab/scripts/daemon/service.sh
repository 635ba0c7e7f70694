# shellcheck shell=bash
# The daemon as users have it: a service of systemd, scraped by Prometheus, with its alerts and its
# dashboard.

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
refused 3 "another wbdaemon (PID $(systemctl show -p MainPID --value wbdaemon)) steers on this machine" -- \
    wbdaemon --once
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
prometheus --config.file=/tmp/prometheus.yml --storage.tsdb.path=/tmp/tsdb \
    --web.listen-address=127.0.0.1:9090 >/tmp/prometheus.log 2>&1 &
prometheus=$!
asks() { curl -sfG http://127.0.0.1:9090/api/v1/query --data-urlencode "query=$1"; }
is() { [ "$(asks "$1" | jq -r '.data.result[0].value[1]')" = "$2" ]; }
within 120 is 'up{job="writeboost"}' 1
within 60 is 'writeboost_state{state="ok",volume="v"}' 1
within 60 is 'writeboost_size_bytes' $((64 << 20))
say 'every query of the dashboard and of the rules is understood, and names what there is'
# shellcheck disable=SC2016 # These are Grafana's.
jq -r '.panels[].targets[].expr' /mnt/share/grafana.json |
    sed 's/\$volume/.*/g; s/\$__rate_interval/1m/g' >/tmp/queries
[ "$(wc -l </tmp/queries)" -gt 12 ] || die 'where are the queries?'
while read -r query; do
    asks "$query" | jq -e '.status == "success"' >/dev/null || die "not understood: $query"
    # shellcheck disable=SC2013 # Words.
    for name in $(grep -o 'writeboost_[a-z_]*' <<<"$query"); do
        asks "count($name)" | jq -e '.data.result | length == 1' >/dev/null ||
            die "there is no $name, in $query"
    done
done </tmp/queries
# shellcheck disable=SC2013 # Words.
for name in $(grep 'expr:' /mnt/share/alerts.yml | grep -o 'writeboost_[a-z_]*'); do
    asks "count($name)" | jq -e '.data.result | length == 1' >/dev/null ||
        die "there is no $name, in alerts.yml"
done
fires() {
    curl -sf http://127.0.0.1:9090/api/v1/alerts |
        jq -e --arg a "$1" 'any(.data.alerts[]; .labels.alertname == $a and .state == "firing")' >/dev/null
}
! fires WriteboostNotSteered || die 'it fires'
say 'both formats, as promtool reads the older one'
curl -sf http://127.0.0.1:9837/metrics | promtool check metrics
curl -sf -H 'Accept: application/openmetrics-text' http://127.0.0.1:9837/metrics | tail -n1 | grep -qx '# EOF'
say 'under load, and the dashboard shows it'
fio --name=load --eta=never --filename=/dev/mapper/v --direct=1 --rw=randrw --bs=4k --rate_iops=50,50 \
    --time_based --runtime=30 --ioengine=psync --output=/dev/null &
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
restarted() {
    local now
    now=$(systemctl show -p MainPID --value wbdaemon)
    [ "$now" != 0 ] && [ "$now" != "$pid" ]
}
within 120 restarted
within 30 has v steering_expired 0
say 'killed, and not started again: the built-in policy takes over, and an alert says so'
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
for _ in 1 2; do
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
