"""Copies files as a person or a database would: each tenth is fsync'd, and reported once fsync has returned.

copy.py TREE TARGET COUNT [MANIFEST]: prints `synced SHA256 PATH` for those files and `copied FILES SECONDS`
at the end, when all of it is synced. Into MANIFEST.sha256 go the checksums of all files, into
MANIFEST-fsynced.sha256 those of the files that were fsync'd.
"""
import hashlib, os, sys, time

tree, target, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
files = sorted(os.path.join(d, f) for d, _, fs in os.walk(tree) for f in fs)[:count]
start, sums = time.monotonic(), []
for n, source in enumerate(files):
    path = os.path.join(target, os.path.relpath(source, tree))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    data = open(source, "rb").read()
    digest = hashlib.sha256(data).hexdigest()
    with open(path, "wb") as out:
        out.write(data)
        if n % 10 == 0:
            out.flush()
            os.fsync(out.fileno())
            # The name has to be durable too.
            fd = os.open(os.path.dirname(path), os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            print("synced", digest, path, flush=True)
    sums.append(f"{digest}  {path}\n")
os.sync()
print("copied", len(files), round(time.monotonic() - start, 2), flush=True)
if len(sys.argv) > 4:
    open(sys.argv[4] + ".sha256", "w").writelines(sums)
    open(sys.argv[4] + "-fsynced.sha256", "w").writelines(sums[::10])
