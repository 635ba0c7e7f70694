# shellcheck shell=bash
# No write touches the superblock after the format, and a device writes a sector whole. A superblock that is
# torn all the same is refused, and a copy of it helps.

null b 32
null c 17
volume v /dev/b /dev/c writeback_threshold 0
put /tmp/a 0
remove v
dd if=/dev/c of=/tmp/copy bs=4k count=1 iflag=direct status=none
digests() {
    { dd if=/dev/b bs=1M iflag=direct status=none; dd if=/dev/c bs=1M iflag=direct status=none; } | b2sum
}
# torn NAME FROM LENGTH SOURCE: bytes of the superblock's sector.
torn() {
    cp /tmp/copy /tmp/torn
    dd if="$4" of=/tmp/torn bs=1 seek="$2" count="$3" conv=notrunc status=none
    ! cmp -s /tmp/copy /tmp/torn || { echo "$1: nothing is lost"; return; }
    dd if=/tmp/torn of=/dev/c bs=4k count=1 oflag=direct conv=notrunc status=none
    local before
    before=$(digests)
    logs 'refusing the cache device' -- dmsetup create v --table \
        "0 $(sectors /dev/b) writeboost /dev/b /dev/c"
    dmesg | grep 'refusing the cache device'
    refused + '' -- wbctl create v /dev/b /dev/c
    cat /tmp/said
    grep -q 'wbformat --force --force' /tmp/said || die 'wbctl does not say what to do'
    same "devices after $1" "$(digests)" "$before"
}
torn 'first half zero' 0 256 /dev/zero
torn 'second half zero' 256 256 /dev/zero
torn 'all zero' 0 512 /dev/zero
torn 'first half garbage' 0 256 /dev/urandom
torn 'second half garbage' 256 256 /dev/urandom
torn 'all garbage' 0 512 /dev/urandom
torn 'all ones' 0 512 <(tr '\0' '\377' </dev/zero)
say 'a copy of the sector brings it all back'
dd if=/tmp/copy of=/dev/c bs=4k count=1 oflag=direct conv=notrunc status=none
volume v /dev/b /dev/c writeback_threshold 0
same 'dirty blocks' "$(dirty v)" 512
get /tmp/a 0 | cmp - /tmp/a
finish v /dev/b /dev/c
say 'a format that was torn: the superblock comes last'
for by in wbctl dmsetup; do
    dd if=/dev/zero of=/dev/c bs=1M count=17 oflag=direct status=none
    wbformat --name v --backing /dev/b /dev/c
    dd if=/dev/zero of=/dev/c bs=4k count=1 oflag=direct conv=notrunc status=none
    [ "$(dd if=/dev/c bs=4k skip=1 count=1 iflag=direct status=none | tr -d '\0' | wc -c)" != 0 ] ||
        die 'no checkpoint'
    if [ $by = wbctl ]; then wbctl create v /dev/b /dev/c; else volume v /dev/b /dev/c; fi
    put /tmp/z 0
    finish v /dev/b /dev/c
done
say 'a volume without dirty data is formatted when its first sector has been blanked, as ever'
for by in wbctl dmsetup; do
    dd if=/dev/zero of=/dev/c bs=512 count=1 oflag=direct conv=notrunc status=none
    if [ $by = wbctl ]; then wbctl create v /dev/b /dev/c; else volume v /dev/b /dev/c; fi
    put /tmp/z 0
    finish v /dev/b /dev/c
done
