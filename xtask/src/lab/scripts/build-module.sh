# shellcheck shell=bash
# Builds a module, inside the root.
# In front: dir, with its sources; kdir and words for make, as the kernel wants them; jobs.
# shellcheck disable=SC2086,SC2164 # A list of words. `set -e` holds.

cd "$dir"
rm -f ./*.ko
make -C "$kdir" "M=$dir" $words "-j$jobs" modules
