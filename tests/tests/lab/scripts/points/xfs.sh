# shellcheck shell=bash
# XFS, as file_system.sh uses it.

# The three variables allow less than 300 MiB.
make() { TEST_DIR=x TEST_DEV=x QA_CHECK_FS=x mkfs.xfs -q -f "$1"; }
replay_by_hand() { :; } # Only the kernel can.
clean() { quietly xfs_repair -n "$1"; }
