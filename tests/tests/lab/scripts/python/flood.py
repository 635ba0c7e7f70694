"""Clients of the daemon's socket by the thousand, for 20 s.

Some say nothing, some say it slowly, some do not read, some never end.
"""

import resource, socket, sys, time

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
line = b'GET /metrics HTTP/1.1\r\nHost: x\r\n'
kinds = [b'', line, line + b'\r\n', b'POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n']
sockets, connected, end = [], 0, time.monotonic() + 20
while time.monotonic() < end:
    if len(sockets) < min(3000, hard - 100):
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        try:
            s.connect('/run/wb.sock')
        except BlockingIOError:
            time.sleep(0.001)
            continue
        sockets.append(s)
        connected += 1
        try:
            s.send(kinds[connected % len(kinds)] * (1000 if connected % 8 == 2 else 1))
        except OSError:
            pass
    else:
        time.sleep(0.1)
        for s in sockets[::7]:
            try:
                s.send(b'X')
            except OSError:
                pass
        # New ones in the place of a few: it never rests.
        for s in sockets[:100]:
            s.close()
        del sockets[:100]
print(connected, 'connections')
sys.exit(connected < 2000)
