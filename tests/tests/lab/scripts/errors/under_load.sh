# shellcheck shell=bash
# Both devices fail, again and again under load: no hang, no oops, and after the repair all works.

volume v /dev/mapper/b /dev/mapper/c
for round in 1 2 3 4 5 6; do
    fio --name=load --filename=/dev/mapper/v --direct=1 --ioengine=io_uring --iodepth=16 --rw=randrw \
        --eta=never \
        --bsrange=512-32k --blockalign=512 --fsync=16 --time_based --runtime=3 --continue_on_error=all \
        >/dev/null 2>&1 &
    fio=$!
    sleep 1
    case $((round % 3)) in
    0) breaks b /dev/ram0 ;;
    1) breaks c /dev/x ;;
    2) breaks b /dev/ram0; breaks c /dev/x ;;
    esac
    sleep 1
    [ $((round % 2)) = 0 ] || { dmsetup suspend v; dmsetup resume v; }
    mends b /dev/ram0
    mends c /dev/x
    wait $fio || true
    remove v
    volume v /dev/mapper/b /dev/mapper/c
    drain v
    same 'state' "$(value v state)" ok
done
verify /dev/mapper/v --ioengine=io_uring --iodepth=16 --rw=randwrite --bs=4k --size=40m
drained v /dev/mapper/b
remove v
