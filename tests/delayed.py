"""Two network namespaces with a link between them that holds each packet back for a known time, at
least: two TUN devices, and a program that carries packets from one to the other."""
from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from typing import Iterator

import pytest

from support import python_child

NEAR, FAR = "10.98.0.1", "10.98.0.2"
NEAR6, FAR6 = "fd98::1", "fd98::2"
TUN = "/dev/net/tun"

RELAY = r"""
import ctypes, fcntl, heapq, os, select, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
delay = float(sys.argv[3])
ends = []
for name in sys.argv[1:3]:
    namespace = os.open("/run/netns/" + name, os.O_RDONLY)
    assert not libc.setns(namespace, 0x40000000), os.strerror(ctypes.get_errno())
    os.close(namespace)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"link", 0x1001))  # IFF_TUN | IFF_NO_PI
    ends.append(tun)
print("ready", flush=True)
sys.stdin.readline()  # until both are up
other = dict(zip(ends, reversed(ends)))
waiting, number = [], 0
while True:
    left = max(waiting[0][0] - time.monotonic(), 0) if waiting else None
    for tun in select.select(ends, [], [], left)[0]:
        number += 1
        heapq.heappush(waiting, (time.monotonic() + delay, number, other[tun], os.read(tun, 65536)))
    while waiting and waiting[0][0] <= time.monotonic():
        _, _, tun, packet = heapq.heappop(waiting)
        os.write(tun, packet)
"""


def _skip_without_tun() -> None:
    # Where nothing has made the device's file, opening it loads the module.
    with contextlib.suppress(FileExistsError):
        os.makedirs(os.path.dirname(TUN), exist_ok=True)
        os.mknod(TUN, stat.S_IFCHR | 0o600, os.makedev(10, 200))
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        pytest.skip(f"{os.uname().release} has no tun: packets can't be held back")


@contextlib.contextmanager
def network(seconds: float) -> Iterator[tuple[str, str]]:
    """The names of both namespaces; a packet takes so many seconds from one to the other."""
    _skip_without_tun()
    names = [f"pytools-{end}-{os.getpid()}" for end in ("near", "far")]
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        with python_child(RELAY, *names, str(seconds)) as relay:
            assert relay.stdin and relay.stdout and relay.stdout.readline() == b"ready\n"
            for name, *addresses in zip(names, (NEAR, FAR), (NEAR6, FAR6)):
                for address, length in zip(addresses, ("24", "64")):
                    subprocess.run(
                        ["ip", "-n", name, "address", "add", f"{address}/{length}", "dev", "link",
                         *["nodad"] * (length == "64")],
                        check=True,
                    )  # fmt: skip
                subprocess.run(["ip", "-n", name, "link", "set", "dev", "link", "up"], check=True)
            relay.stdin.write(b"up\n")
            relay.stdin.flush()
            yield names[0], names[1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
