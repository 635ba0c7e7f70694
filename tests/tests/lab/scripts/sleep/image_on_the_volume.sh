# shellcheck shell=dash
# The image would go to the volume itself: then there is no hibernation, and the system goes on.

volume
dmsetup create --noudevsync upper --table "0 1048576 linear /dev/mapper/v 0"
dmsetup create --noudevsync lower --table "0 98304 linear /dev/mapper/v 1048576"
image_goes_to /dev/mapper/upper
wbtest history-write /dev/mapper/lower --seed "$SEED" --last 300 --every 5
for _ in 1 2; do
    if echo disk >/sys/power/state; then die 'it hibernates'; fi
    is_ok
done
wbtest history-write /dev/mapper/lower --seed "$SEED" --from 301 --last 400 --every 5
durable /dev/mapper/lower
echo DONE
sleep 1000
