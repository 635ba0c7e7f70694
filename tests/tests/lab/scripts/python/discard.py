"""discard.py MIB: discards every other page of three quarters of so many MiB of /dev/ram2."""

import fcntl, os, struct, sys

device = os.open("/dev/ram2", os.O_WRONLY)
BLKDISCARD = 0x1277
for page in range(0, int(sys.argv[1]) * 192, 2):
    fcntl.ioctl(device, BLKDISCARD, struct.pack("QQ", page * 4096, 4096))
