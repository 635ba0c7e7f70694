# shellcheck shell=bash
# Installs packages in the root, inside it.
# In front: packages.
# shellcheck disable=SC2086 # A list of words.

dpkg --configure -a
apt-get update
apt-get install -y --no-install-recommends $packages
