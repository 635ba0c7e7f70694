"""places.py FILE SEED BLOCK...: where these blocks of the file lie in /tmp/image, a copy of a device.

Beside each of these places is the number of a random bit of the block.
"""

import random, sys

image, content = open("/tmp/image", "rb").read(), open(sys.argv[1], "rb").read()
random.seed(int(sys.argv[2]))
place = {image[i:i + 4096]: i // 4096 for i in range(0, len(image), 4096)}
for block in map(int, sys.argv[3:]):
    print(place[content[block * 4096:][:4096]], random.randrange(32768))
