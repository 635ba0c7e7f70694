# shellcheck shell=bash
# A program that waits for an event is woken, and the status says by then what the event is about.

ram 1 48
null x 17
over b /dev/ram0
over c /dev/x
# awaits WORD COMMAND...: an event comes, and then the state is WORD.
awaits() {
    local word=$1 before
    shift
    before=$(events v)
    timeout 30 dmsetup wait v "$before" >/dev/null &
    "$@" || true
    wait $! || die "no event for $word"
    until_true 30 is state "$word"
    [ "$(events v)" -gt "$before" ] || die "the number of events is still $before"
}
refuses_drain() { ! drain v 2>/dev/null || die 'it was drained'; }
volume v /dev/mapper/b /dev/mapper/c writeback_threshold 0
same 'fault' "$(value v fault)" none
put /tmp/a 0
say 'the backing device cannot be written'
breaks b /dev/ram0
awaits degraded refuses_drain
same 'fault' "$(value v fault)" backing_write
logged 'cannot write to the backing device'
logged 'writeback has failed'
wbctl status v >/tmp/status
cat /tmp/status
grep -q '^v: degraded' /tmp/status
grep -q 'Repair the backing device' /tmp/status
wbctl list
say 'and works again'
mends b /dev/ram0
awaits ok drain v
same 'fault' "$(value v fault)" none
logged 'writeback works again'
logged 'state ok again'
say 'the cache device cannot be written'
put /tmp/z 1000
breaks c /dev/x
awaits failed dd if=/tmp/a of=/dev/mapper/v bs=4k count=1 oflag=direct,dsync conv=notrunc status=none
# A read of blocks that are not in RAM may have found meanwhile that they cannot be read either.
[[ "$(value v fault)" =~ ^cache_write(,cache_read)?$ ]] || die "fault is $(value v fault)"
logged 'cannot write to the cache device, trying again'
logged 'refuses writes and flushes from now on'
wbctl status v >/tmp/status
cat /tmp/status
grep -q 'repair the cache device' /tmp/status
dmesg | grep -c writeboost
mends c /dev/x
remove v
