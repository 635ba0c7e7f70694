# shellcheck shell=bash
# Puts the source of the C dm-writeboost into the root, inside it. Its Makefile is one for Kbuild, too.
# In front: package; dir.
# shellcheck disable=SC2103,SC2164 # `set -e` holds.

rm -rf "$dir.new"
mkdir -p "$dir.new/package"
cd "$dir.new/package"
apt-get -o APT::Sandbox::User=root -o Acquire::Retries=3 download "$package"
dpkg-deb -f ./*.deb Version >../VERSION
dpkg-deb -x ./*.deb .
mv usr/src/dm-writeboost-*/* ..
cd ..
rm -rf package
cp Makefile Kbuild
mv "$dir.new" "$dir"
