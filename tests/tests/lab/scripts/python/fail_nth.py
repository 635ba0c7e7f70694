"""fail_nth.py SECTORS ARGUMENTS: loads a table of `v` again and again.

Each time another allocation of the kernel's fails.
"""

import fcntl, os, struct, sys

control = os.open("/dev/mapper/control", os.O_RDWR)


def dm(command, targets=0, data=b""):
    size = 312 + len(data)
    head = struct.pack("<3I7IQ128s129s7x", 4, 0, 0, size, 312, targets, 0, 0, 0, 0, 0, b"v", b"")
    fcntl.ioctl(control, 3 << 30 | 312 << 16 | 0xfd << 8 | command, bytearray(head + data))


line = sys.argv[2].encode()
line += bytes(8 - len(line) % 8)
table = struct.pack("<QQiI16s", 0, int(sys.argv[1]), 0, 40 + len(line), b"writeboost") + line
nth = os.open("/proc/thread-self/fail-nth", os.O_RDWR)
refused, n = {}, 0
while True:
    n += 1
    os.pwrite(nth, b"%d" % n, 0)
    try:
        dm(9, 1, table)
        error = 0
    except OSError as e:
        error = e.errno
    injected = os.pread(nth, 16, 0).strip() == b"0"
    os.pwrite(nth, b"0", 0)
    refused[error] = refused.get(error, 0) + 1
    dm(10)
    if not injected:
        if error:
            sys.exit("the table is refused with %d though nothing failed" % error)
        break
print("REPORT %d allocations failed, one at a time; errors: %s" % (n - 1, refused))
if n < 30 or refused.get(12, 0) < 20:
    sys.exit("this tests nothing")
if set(refused) - {0, 12}:
    sys.exit("there are other errors than ENOMEM")
