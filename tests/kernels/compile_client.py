"""Stands in for compiler_child.py in a machine: has the host compile (compile_server.py), with the
bcc of the machine's userland. Emulated, a compilation takes ten times as long.
"""

from __future__ import annotations

import binascii
import fcntl
import os
import sys

# guest.sh names the port that leads to the server so.
PORT = "/run/compiler"
# A port has one reader.
LOCK = "/run/compiler.lock"


def main() -> None:
    request = sys.stdin.buffer.read()
    name = os.urandom(8).hex().encode()
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(PORT, "r+b", buffering=0) as port:
            # The first newline ends what a client that was killed may have left.
            left = memoryview(b"\n%s %s\n" % (name, request))
            while left:
                left = left[port.write(left) :]
            received = b""
            while True:
                if not (more := port.read(65536)):
                    sys.exit("error: the host has stopped compiling")
                *lines, received = (received + more).split(b"\n")
                for line in lines:
                    # Others are replies to clients that were killed.
                    if line.startswith(name + b" "):
                        _, status, output, messages = line.split(b" ")
                        sys.stdout.buffer.write(binascii.a2b_base64(output))
                        sys.stderr.buffer.write(binascii.a2b_base64(messages))
                        sys.exit(int(status))


if __name__ == "__main__":
    main()
