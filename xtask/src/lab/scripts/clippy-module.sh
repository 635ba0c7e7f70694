# shellcheck shell=bash
# Asks clippy about a module's Rust, inside the root. Only what is denied: the kernel has opinions of its own,
# most of them about what bindgen has made.
# In front: dir, with its sources; kdir and words for make, as the kernel wants them.
# shellcheck disable=SC2086,SC2164 # A list of words. `set -e` holds.

cd "$dir"
make -C "$kdir" "M=$dir" $words CLIPPY=1 KRUSTFLAGS='-Awarnings -Dunused' src/writeboost_main.o
