# shellcheck shell=bash
# Before a device that does much at a time large writes go around a cache that is full. When such a write
# fails the log takes it.

null d 400 irqmode 2 completion_nsec 5000000 hw_queue_depth 64
faulty b /dev/d
null c 64
volume v /dev/mapper/b /dev/c
around() { value v written_around; }
jobs=(--ioengine=io_uring --iodepth=32 --rw=randwrite --bsrange=4k-256k --blockalign=4k)
say 'large writes and small ones'
verify /dev/mapper/v "${jobs[@]}" --size=390m
before=$(around)
say "$before blocks went around"
[ "$before" -gt 10 ] || die 'no write went around the cache'
drained v /dev/d
say 'those that are under way fail'
verify /dev/mapper/v "${jobs[@]}" --size=390m &
writer=$!
more() { [ "$(around)" -gt "$before" ]; }
until_true 60 more
# Not all of it, or it would be a device that is dead, and writes be refused.
faults b io write 400000 400000
sleep 0.3
mended b
wait $writer
[ "$(value v writeback_errors)" -gt 0 ] || die 'none has failed'
say 'the log has them'
is_drained() { drain v && [ "$(dirty v)" = 0 ]; }
until_true 60 is_drained
until_true 5 is state ok
equal /dev/mapper/v /dev/d
remove v
volume v /dev/mapper/b /dev/c
equal /dev/mapper/v /dev/d
remove v
