# shellcheck shell=bash
# A table that would put two volumes on one cache device is refused; with another target in between a reload
# works.

ram 3 16
volume v /dev/ram0 /dev/ram1
dd if=/dev/urandom of=/dev/mapper/v bs=1M count=4 oflag=direct status=none
table=$(dmsetup table v) before=$(digest /dev/mapper/v)
# Two of them on one cache device, if only for a moment, would each write a log of its own.
logs 'in use by another writeboost volume' -- dmsetup reload v --table "$table"
same 'table' "$(dmsetup table v)" "$table"
same 'content' "$(digest /dev/mapper/v)" "$before"
say 'with another target in between it works'
dmsetup suspend v
dmsetup reload v --table "0 $(sectors /dev/ram0) error"
dmsetup resume v
dmsetup suspend v
dmsetup reload v --table "$table"
dmsetup resume v
same 'content' "$(digest /dev/mapper/v)" "$before"
finish v /dev/ram0 /dev/ram1
