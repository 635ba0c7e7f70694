"""Interrupts `wbctl drain v` after a second. Fails unless it then says what is left and exits with 130."""

import subprocess, signal, sys, time

p = subprocess.Popen(["wbctl", "drain", "v"], stderr=subprocess.PIPE)
time.sleep(1)
p.send_signal(signal.SIGINT)
said = p.communicate()[1].decode()
print(said)
sys.exit(0 if p.returncode == 130 and "still dirty" in said else 1)
