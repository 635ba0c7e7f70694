# shellcheck shell=bash
# Makes a layer of what is staged, inside the root, whose user owns it then. The kernel's own modules are
# linked and not copied: they can be a lot.
# In front: staged; layer, the result; from, the kernel's modules; modules, where they go; release.
# shellcheck disable=SC2164 # `set -e` holds.

rm -rf "$layer.new"
cp -r "$staged" "$layer.new"
cd "$layer.new"
chown -R root:root .
chmod -R go=u-w .
cp -al "$from/." "$modules/"
rm -f "$modules/build" "$modules/source"
depmod -b "$PWD/fs/usr" "$release"
touch used
chmod 666 used
mv "$layer.new" "$layer"
rm -r "$staged"
