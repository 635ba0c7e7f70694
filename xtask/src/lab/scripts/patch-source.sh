# shellcheck shell=bash
# Makes a copy of a kernel's source tree with patches, inside the root. Its files are links to the original's,
# which `patch` replaces and does not write to.
# In front: source; target, the copy; patches, files.
# shellcheck disable=SC2086,SC2164 # The values in front are words without spaces, but for the list of
# patches.

rm -rf $target $target.new
cp -al $source $target.new
cd $target.new
cat $patches | patch -p1 --no-backup-if-mismatch
mv $target.new $target
