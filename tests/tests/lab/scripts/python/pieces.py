"""pieces.py DEVICE: reads the content of /tmp/a from it, each time into many pieces of memory.

Prints how many blocks it has read. Exits with 9 when a read is refused.
"""

import mmap, os, sys

content = open("/tmp/a", "rb").read()
disk = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
memory = memoryview(mmap.mmap(-1, 1 << 20))
blocks = 0
for piece in 512, 1024, 1536, 4096:
    # With as much between them, so that none are one.
    places = [memory[at : at + piece] for at in range(piece, 32 * 1024, 2 * piece)]
    while sum(map(len, places)) % 4096:
        places.pop()
    size = sum(map(len, places))
    for at in range(0, len(content) - size, 20 * 4096):
        try:
            assert os.preadv(disk, places, at) == size
        except OSError:
            sys.exit(9)
        assert b"".join(places) == content[at : at + size], (piece, at)
        blocks += size // 4096
print(blocks)
