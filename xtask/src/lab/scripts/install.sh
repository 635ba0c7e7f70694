# shellcheck shell=sh
# Installs packages on the host. What is known of the archive may be old, or nothing at all.

apt-get install -y --no-install-recommends "$@" || {
    apt-get update && apt-get install -y --no-install-recommends "$@"
}
