"""A child that does TCP in a network namespace of its own, and what a tool says of it."""
from __future__ import annotations

import json
from typing import Any

from support import Tool, python_child

# What the code between SETUP and TELL appends to ``told`` is what the test gets. ``snmp`` is one
# of the kernel's own counters of TCP, of this namespace alone.
SETUP = r"""
import ctypes, errno, json, os, select, signal, socket, struct, subprocess, sys, threading, time
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
assert not libc.unshare(CLONE_NEWNS | CLONE_NEWNET), os.strerror(ctypes.get_errno())
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
told = []

def listener(family, address, backlog=4096):
    made = socket.socket(family)
    made.bind((address, 0))
    made.listen(backlog)
    return made

def snmp(name):
    with open("/proc/self/net/snmp") as lines:
        names, values = [line.split() for line in lines if line.startswith("Tcp:")]
    return int(values[names.index(name)])

def sockets_now():
    # Of each that is not in TIME_WAIT: its ports and its state, as the kernel numbers them.
    for file in ("tcp", "tcp6"):
        with open("/proc/thread-self/net/" + file) as lines:
            for line in list(lines)[1:]:
                words = line.split()
                if words[3] != "06":
                    local, remote = (int(words[place].rpartition(":")[2], 16) for place in (1, 2))
                    yield local, remote, int(words[3], 16)

def states(port):
    return [state for local, _, state in sockets_now() if local == port]

def quiet():
    # Until no socket is on its way to its end: they listen, if anything.
    while any(state != 10 for _, _, state in sockets_now()):
        time.sleep(0.001)

def close_hard(made):
    # With a reset.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made.close()

four, six = listener(socket.AF_INET, "127.0.0.1"), listener(socket.AF_INET6, "::")
port4, port6 = four.getsockname()[1], six.getsockname()[1]
"""
READY = r"""
print("ready", flush=True)
sys.stdin.readline()
"""
TELL = r"""
print(json.dumps(told), flush=True)
sys.stdin.readline()
"""
# A session, and what the test is told of it: how it ends, the client's address and port, the
# server's, and for how many seconds the first to close it had it established at least and at most.
SESSION = r"""
def begin(family, to, listener, protocol=0):
    made = socket.socket(family, socket.SOCK_STREAM, protocol)
    before = time.monotonic()
    made.connect(to)
    return made, listener.accept()[0], before, time.monotonic()

def end(begun, way="client"):
    client, server, before, after = begun
    ends = [*client.getsockname()[:2], *client.getpeername()[:2]]
    first, second = (server, client) if way == "server" else (client, server)
    least = time.monotonic() - after
    if way == "reset":
        close_hard(first)
    elif way == "half":
        first.shutdown(socket.SHUT_WR)
    else:
        if way == "twice":
            # Its FIN may have no answer yet when it is closed.
            first.shutdown(socket.SHUT_WR)
        first.close()
    told.append([way, *ends, least, time.monotonic() - before])
    try:
        assert second.recv(1) == b""
    except ConnectionResetError:
        pass
    second.close()
    if way == "half":
        assert first.recv(1) == b""
        first.close()
"""


def traced(
    tool: str, code: str, *options: str, before: str = "", text: bool = False
) -> tuple[int, Any, list[Any]]:
    """The child's pid, what it told, and what the tool, of this network namespace alone, printed:
    values of JSON, or with ``text`` the words of lines. ``before`` is done before the tool
    starts."""
    with python_child(SETUP + before + READY + code + TELL) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == b"ready\n"
        form = [] if text else ["--json"]
        with Tool(tool, *form, "--netns", str(child.pid), *options) as running:
            child.stdin.write(b"\n")
            child.stdin.flush()
            told = json.loads(child.stdout.readline())
            lines = running.stop().splitlines()
        if text:
            return child.pid, told, [line.split() for line in lines]
        # What is lost may be another namespace's: ours is there, or the test fails.
        return child.pid, told, [each for each in map(json.loads, lines) if "lost" not in each]
