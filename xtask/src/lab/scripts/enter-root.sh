# shellcheck shell=sh
# Enters the root `$0` and runs the rest of the arguments there, with a `/proc` because objtool reads its
# limits from it. The mount is the command's own and goes when it ends. A container may forbid it, and UML
# does without.

# shellcheck disable=SC2016 # For the shell in the mount namespace.
inside='{ mount -t proc proc "$0/proc" || mount --rbind /proc "$0/proc"; } 2>/dev/null; exec chroot "$0" "$@"'
if unshare --mount true 2>/dev/null; then
    exec unshare --mount sh -c "$inside" "$0" "$@"
fi
exec chroot "$0" "$@"
