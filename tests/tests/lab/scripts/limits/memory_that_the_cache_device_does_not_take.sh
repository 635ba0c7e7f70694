# shellcheck shell=bash
# The cache device never gets pieces of memory that meet within one of its blocks, if it cannot have them
# within a page.

null b 64
null c 24 blocksize 4096 virt_boundary 1
# Several times what is kept in RAM.
dd if=/dev/urandom of=/tmp/a bs=1M count=12 status=none
say 'a disk like the cache device refuses them'
null alone 24 blocksize 4096 virt_boundary 1
dd if=/tmp/a of=/dev/alone bs=1M oflag=direct status=none
status=0
python3 /mnt/share/pieces.py /dev/alone 2>/tmp/error || status=$?
same 'status' "$status $(cat /tmp/error)" '9 '
say 'the volume reads what it would refuse'
volume v /dev/b /dev/c writeback_threshold 0
dd if=/tmp/a of=/dev/mapper/v bs=1M oflag=direct conv=fsync status=none
read=$(python3 /mnt/share/pieces.py /dev/mapper/v)
[ "$read" -gt 500 ] || die "it has read $read blocks"
same 'reads that it was refused' "$(value v read_again)" 0
healthy v
finish v /dev/b /dev/c
