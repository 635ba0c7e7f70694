# shellcheck shell=bash
# Functions of the tests of file systems.

# keeps_trees BACKING CACHE FSCK WORDS...: trees that are copied to the file system on v are what they were:
# on the volume, and after a drain on the backing device alone; fsck has nothing to repair on either.
keeps_trees() {
    local backing=$1 cache=$2
    shift 2
    mount /dev/mapper/v "$m"
    cp -a /usr/include "$m/first"
    sync
    cp -a "$m/first" "$m/second"
    rm -r "$m/second/linux"
    cp -a "$m/first/linux" "$m/second/linux"
    umount "$m"
    "$@" /dev/mapper/v
    mount /dev/mapper/v "$m"
    diff -r --no-dereference /usr/include "$m/first"
    diff -r --no-dereference "$m/first" "$m/second"
    umount "$m"
    finish v "$backing" "$cache"
    say the backing device alone
    "$@" "$backing"
    mount -o ro "$backing" "$m"
    diff -r --no-dereference /usr/include "$m/first"
    umount "$m"
}
