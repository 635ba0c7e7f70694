# shellcheck shell=bash
# A wrong configuration is refused and changes nothing; a right one applies at once, without a gap.

has_volume
say 'none'
refused 2 '/etc/writeboost/wbdaemon.toml: cannot be read: No such file' -- wbdaemon --check-config
say 'wrong ones'
printf '# mine\n[metrics]\nlisen = "x"\n' >"$conf"
refused 2 "$conf:3: unknown key lisen; did you mean listen?" -- wbdaemon --check-config
refused 2 "$conf:3: unknown key lisen" -- wbdaemon
printf 'interval_s = 0\n' >"$conf"
refused 2 "$conf:1: interval_s is from 0.1 to 60" -- wbdaemon --check-config
printf '[metrics]\nlisten = "0.0.0.0:1"\n' >"$conf"
refused 2 "$conf:2: listen is 0.0.0.0:1, which other machines can reach" -- wbdaemon --check-config
refused 2 "/tmp/no: cannot be read" -- wbdaemon --config /tmp/no
say 'a right one'
cat >"$conf" <<'END'
interval_s = 0.5
steering_timeout_s = 7
[metrics]
listen = "unix:/run/wb.sock"
[volume.w]
steer = false
END
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
curl -s -D /tmp/head -H 'Accept: application/openmetrics-text' --unix-socket /run/wb.sock http://x/metrics |
    tail -n1 >/tmp/end
grep -qx '# EOF' /tmp/end || die "$(cat /tmp/end)"
grep -qi '^content-type: application/openmetrics-text; version=1.0.0' /tmp/head || die "$(cat /tmp/head)"
grep -q '^writeboost_dirty_bytes{volume="v"} ' /tmp/page || die "$(cat /tmp/page)"
grep -q '^writeboost_requests_total{volume="v",operation="write",result="miss"} ' /tmp/page ||
    die "$(cat /tmp/page)"
say 'told to read it again: a wrong one changes nothing'
printf 'interval = 1\n' >"$conf"
kill -HUP $pid
within 10 saw "$conf:1: unknown key interval; did you mean interval_s?.*the configuration stays as it is"
is_steered 7 || die 'it steers no more'
say 'a right one counts, without a gap'
printf 'steering_timeout_s = 5\n[volume.v]\nsteer = true\n' >"$conf"
kill -HUP $pid
within 10 is_steered 5
! [ -e /run/wb.sock ] || die 'it still listens'
say 'not to be steered any more'
printf '[volume.v]\nsteer = false\n' >"$conf"
kill -HUP $pid
within 10 is_default
kill $pid
wait $pid
cat /tmp/log
say 'a user that is not root is told so'
refused 1 'it runs as root' -- setpriv --reuid=65534 --clear-groups wbdaemon --once
refused 1 'cannot look for volumes' -- setpriv --reuid=65534 --clear-groups wbdaemon --once --dry-run
remove v
