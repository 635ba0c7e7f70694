# shellcheck shell=dash
# What the script in the room of a guest that hibernates begins with; for the shell of busybox.

set -eu
die() { echo "FAILED: $*"; sleep 1000; }
# The host is not told of its end, which would be a file of 9p.
trap 'die "the script has ended with $?"' EXIT
# shellcheck disable=SC2034 # For the tests.
backing=/dev/lab/disk0 cache=/dev/lab/disk1 swap=/dev/lab/disk2
sectors() { cat "/sys/class/block/$(busybox basename "$(busybox readlink "$1")")/size"; }
size=$(sectors $backing)
volume() { dmsetup create --noudevsync v --table "0 $size writeboost $backing $cache"; }
is_ok() {
    case "$(dmsetup status v)" in
    *' state 0 '*) ;;
    *) die "status $(dmsetup status v)" ;;
    esac
}
# Makes all durable that was written to a device: of a history, by itself, only what its seed says.
durable() { dd if=/dev/null of="$1" conv=notrunc,fsync 2>/dev/null; }
# image_goes_to DEVICE: the image of a hibernation.
image_goes_to() { mkswap "$1" >/dev/null; swapon "$1"; }
echo test_resume >/sys/power/disk
