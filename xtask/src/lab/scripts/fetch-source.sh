# shellcheck shell=bash
# Puts the source tree of a kernel into the root, inside it. Streaming from package to tree saves unpacking
# twice. The selftests alone are a tenth of the files.
# In front: package, its version, dir.
# shellcheck disable=SC2164 # `set -e` holds.

rm -rf "$dir.new"
mkdir "$dir.new"
cd "$dir.new"
apt-get -o APT::Sandbox::User=root -o Acquire::Retries=3 download "$package=$version"
dpkg-deb --fsys-tarfile ./*.deb | tar -xO "./usr/src/$package.tar.xz" |
    tar -xJ --strip-components=1 --exclude='*/tools/testing'
rm ./*.deb
mv "$dir.new" "$dir"
