"""bt runs every tool of Debian's package bpftrace, unchanged: each compiles, attaches where the
kernel lets it, and prints what happened."""
from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, Callable, Iterator, NamedTuple

import pytest

from disks import DIRECT, loop_disk, scratch_disk
from pytools.facts.kernel import running
from pytools.facts.syscalls import numbers
from support import EMULATED, PATIENCE, ROOT, last_cpu
from test_bashreadline import PROMPT, shell
from test_bt import Started, bt

INSTALLED = Path("/usr/sbin")
# In a machine of the matrix, which has no bpftrace: run.py puts them there.
FOLDER = INSTALLED if list(INSTALLED.glob("*.bt")) else ROOT / "build" / "bpftrace"
SCRIPTS = sorted(FOLDER.glob("*.bt"))
NANOSLEEP = next(iter(numbers("nanosleep")))
THREADS = 3
READS = 20


class Seen(NamedTuple):
    """What a tool printed, the pid of the workload and what that said."""

    lines: list[str]
    pid: int
    told: list[str]

    def of_workload(self, column: int) -> list[list[str]]:
        """The words of the lines that have its pid in a column."""
        words = [line.split() for line in self.lines]
        return [each for each in words if each[column : column + 1] == [str(self.pid)]]

    def amount(self, key: str) -> int:
        """All that a map counted under a key, or (a pattern) keys."""
        found = [re.fullmatch(rf"@\w*\[?{key}\]?: (\d+)", line) for line in self.lines]
        return sum(int(match[1]) for match in found if match)

    def samples(self, bucket: str = ".*") -> int:
        """The count of the buckets of its histograms that match."""
        found = [re.match(rf"\[(?:{bucket})[\])]\s+(\d+) \|", line) for line in self.lines]
        return sum(int(match[1]) for match in found if match)


class Case(NamedTuple):
    """A tool's workload, which is a program in Python, and what must be printed then:
    with ``waits`` by the tool's intervals, else when it is ended."""

    code: str
    check: Callable[[Seen], bool]
    waits: bool = False
    load: Callable[..., Any] | None = None  # instead of a program: a context, which gives a Seen


READ = f"f = os.open('/proc/self/stat', 0); [os.read(f, 1) for _ in range({READS})]"
EXECS = (
    f"import subprocess\nfor n in range({THREADS}): subprocess.run(['/bin/true', 'a b', str(n)])"
)
STATS = """
os.statvfs('/tmp')
try: os.statvfs('/no/such/file')
except OSError: pass
"""
OPENS = """
f = os.open('/etc/passwd', 0)
print(f)
try: os.open('/no/such/file', 0)
except OSError: pass
"""
KILLS = """
os.kill(os.getpid(), 0)
try: os.kill(1 << 30, 9)
except OSError: pass
"""
SYNCS = """
f = os.open('/tmp', os.O_RDWR | os.O_TMPFILE)
os.fsync(f); os.fdatasync(f); os.fdatasync(f)
"""
SETUIDS = "import ctypes; os.setuid(0); os.setresuid(0, 0, 0); ctypes.CDLL(None).setfsuid(0)"
CALLS = """
import ctypes
open('/proc/self/comm', 'w').write('btcalls')
function = ctypes.CDLL(None).getppid
for _ in range(200_000): function()
"""
NAP = f"""
import ctypes, struct
wanted = struct.pack('qq', 0, 5_000_000)
assert ctypes.CDLL(None).syscall({NANOSLEEP}, wanted, None) == 0
"""
# Two processes on one CPU, each of which wakes the other.
WAKEUPS = 1000
PING_PONG = f"""
os.sched_setaffinity(0, [{last_cpu()}])
a, b, c, d = *os.pipe(), *os.pipe()
if os.fork():
    for _ in range({WAKEUPS}): os.write(b, b'x'); os.read(c, 1)
    os.wait()
else:
    for _ in range({WAKEUPS}): os.read(a, 1); os.write(d, b'x')
"""
SPIN = f"""
import time
os.sched_setaffinity(0, [{last_cpu()}])
children = []
for _ in range(4):
    child = os.fork()
    while not child: pass
    children.append(child)
end = time.monotonic() + 1.5
while time.monotonic() < end: pass
for child in children: os.kill(child, 9)
for child in children: os.waitpid(child, 0)
"""
FORKS = 50
FORK = f"""
for _ in range({FORKS}):
    child = os.fork()
    if not child: os._exit(0)
    os.waitpid(child, 0)
"""
LOOK_UPS = f"import socket\nfor _ in range({THREADS}): socket.getaddrinfo('127.0.0.1', 80)"
START = f"""
import threading
for _ in range({THREADS}):
    thread = threading.Thread(target=int); thread.start(); thread.join()
"""
HANDSHAKES = f"""
import ssl
for _ in range({THREADS}):
    context = ssl.create_default_context()
    side = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname='a')
    try: side.do_handshake()
    except ssl.SSLWantReadError: pass
"""
SESSION = """
import socket
listener = socket.socket()
listener.bind(('127.0.0.1', 0)); listener.listen(7)
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\\1\\0\\0\\0\\5\\0\\0\\0')
client.sendall(bytes(20480)); left = 20480
while left: left -= len(server.recv(left))
print(client.getsockname()[1], server.getsockname()[1])
client.close(); server.recv(1); server.close(); listener.close()
"""
DATAGRAM = """
import socket
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
a.send(b'hello'); assert b.recv(5) == b'hello'
"""
MISS = "try: os.stat('/tmp/no-such-file-for-dcsnoop')\nexcept OSError: pass"


@contextlib.contextmanager
def typed(tool: Started, path: Path) -> Iterator[Seen]:
    """Lines that are entered into bash."""
    with shell(PS1=PROMPT.decode()) as terminal:
        for line in (b"true one", b"true two"):
            terminal.enter(line)
        yield Seen([], terminal.pid, [])


@contextlib.contextmanager
def disk_reads(tool: Started, path: Path) -> Iterator[Seen]:
    """Reads of 4 KiB that no cache has."""
    with contextlib.ExitStack() as stack:
        disk = scratch_disk() if EMULATED else stack.enter_context(loop_disk(path))
        calls = [
            str(next(iter(numbers(f"io_{name}")))) for name in ("setup", "submit", "getevents")
        ]
        command = [sys.executable, "-c", DIRECT, f"/dev/{disk}", "r", *calls]
        with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as child:
            told, _ = child.communicate(
                "".join(f"r {8 * n} 4096\n" for n in range(READS)) + "end\n"
            )
            assert told.split() == ["ready", "done"] and child.returncode == 0
        yield Seen([], child.pid, [disk])


def attached_only(seen: Seen) -> bool:
    """Its events can't be made here."""
    return True


def printed_every_second(seen: Seen) -> bool:
    """Its events can't be made here, and its interval prints a line all the same."""
    return bool(seen.lines)


def _handshakes_failed(seen: Seen) -> bool:
    return (
        any(re.match(rf"@statF\[SSL_do_handshake\]: .*\b{THREADS}\b", line) for line in seen.lines)
        and seen.samples() >= THREADS
    )


CASES = {
    "bashreadline": Case(
        "",
        lambda seen: [each[2:] for each in seen.of_workload(1)]
        == [["true", "one"], ["true", "two"]],
        load=typed,
    ),
    "biolatency": Case("", lambda seen: seen.samples() >= READS, load=disk_reads),
    "biosnoop": Case(
        "",
        lambda seen: [each[1] for each in seen.of_workload(3)].count(seen.told[0]) == READS,
        load=disk_reads,
    ),
    "biostacks": Case("", lambda seen: seen.samples() >= READS, load=disk_reads),
    "bitesize": Case("", lambda seen: seen.samples("4K, 8K") >= READS, load=disk_reads),
    "capable": Case(
        "os.chroot('/')",
        lambda seen: [w[4:6] for w in seen.of_workload(2)].count(["18", "CAP_SYS_CHROOT"]) == 1,
    ),
    "cpuwalk": Case(SPIN, lambda seen: seen.samples(f"{last_cpu()}(?:, .*)?") > 10),
    "dcsnoop": Case(
        MISS,
        # Which look-ups d_lookup() is asked for differs from kernel to kernel.
        lambda seen: ["R", "no-such-file-for-dcsnoop"] in [w[3:] for w in seen.of_workload(1)],
    ),
    "execsnoop": Case(
        EXECS,
        lambda seen: all(
            sum(line.endswith(f" /bin/true a b {n}") for line in seen.lines) == 1
            for n in range(THREADS)
        ),
    ),
    "gethostlatency": Case(
        LOOK_UPS, lambda seen: [w[-1] for w in seen.of_workload(1)] == ["127.0.0.1"] * THREADS
    ),
    "killsnoop": Case(
        KILLS,
        lambda seen: [each[3:] for each in seen.of_workload(1)]
        == [["0", str(seen.pid), "0"], ["9", str(1 << 30), "-3"]],
    ),
    "loads": Case("", lambda seen: _loads(seen), waits=True),
    "naptime": Case(
        NAP,
        lambda seen: [(int(w[1]), w[4], w[5]) for w in seen.of_workload(3)]
        == [(os.getpid(), os.path.basename(sys.executable)[:15], "0.005")],
    ),
    "opensnoop": Case(
        OPENS,
        lambda seen: [each[2:] for each in seen.of_workload(0)][-2:]
        == [[seen.told[0], "0", "/etc/passwd"], ["-1", "2", "/no/such/file"]],
    ),
    "pidpersec": Case(FORK, lambda seen: _forks(seen) >= FORKS, waits=True),
    "runqlat": Case(PING_PONG, lambda seen: seen.samples() >= 2 * WAKEUPS),
    "runqlen": Case(SPIN, lambda seen: seen.samples(r"(?:[3-9]|\d\d)(?:, .*)?") > 0),
    "setuids": Case(
        SETUIDS,
        lambda seen: [" ".join(each[3:]) for each in seen.of_workload(1)]
        == [
            "0 setuid uid=0 (0)",
            "0 setresuid ruid=0 euid=0 suid=0 (0)",
            "0 setfsuid uid=0 (prevuid=0)",
        ],
    ),
    "ssllatency": Case(HANDSHAKES, _handshakes_failed),
    "sslsnoop": Case(
        HANDSHAKES,
        lambda seen: [w[-1] for w in seen.of_workload(1)] == ["SSL_do_handshake"] * THREADS,
    ),
    "statsnoop": Case(
        STATS,
        lambda seen: [each[2:] for each in seen.of_workload(0)][-2:]
        == [["0", "/tmp"], ["2", "/no/such/file"]],
    ),
    "swapin": Case("", printed_every_second, waits=True),
    "syncsnoop": Case(
        SYNCS,
        lambda seen: [each[3].rpartition("_")[2] for each in seen.of_workload(1)]
        == ["fsync", "fdatasync", "fdatasync"],
    ),
    "syscount": Case(CALLS, lambda seen: 200_000 <= seen.amount("btcalls") < 201_000),
    "tcpaccept": Case(
        SESSION,
        lambda seen: [each[3:] for each in seen.of_workload(1)]
        == [["127.0.0.1", seen.told[0], "127.0.0.1", seen.told[1], "0/7"]],
    ),
    "tcpconnect": Case(
        SESSION,
        lambda seen: [each[3:] for each in seen.of_workload(1)]
        == [["127.0.0.1", seen.told[0], "127.0.0.1", seen.told[1]]],
    ),
    "tcplife": Case(
        SESSION,
        lambda seen: any(
            words[2:8] == ["127.0.0.1", seen.told[0], "127.0.0.1", seen.told[1], "20", "0"]
            for words in map(str.split, seen.lines)
        ),
    ),
    "tcpsynbl": Case(SESSION, lambda seen: seen.samples() == 1 and "@backlog[7]:" in seen.lines),
    "threadsnoop": Case(START, lambda seen: len(seen.of_workload(1)) == THREADS),
    "undump": Case(
        DATAGRAM, lambda seen: ["5", "hello"] in [words[3:] for words in seen.of_workload(2)]
    ),
    "vfscount": Case(READ, lambda seen: seen.amount("vfs_read") >= READS),
    "vfsstat": Case(READ, lambda seen: seen.amount("vfs_read") >= READS, waits=True),
}  # fmt: skip


def _forks(seen: Seen) -> int:
    return sum(int(line.partition("@: ")[2]) for line in seen.lines if "PIDs/sec: @: " in line)


def _loads(seen: Seen) -> bool:
    """Within what a second can change."""
    lines = [line for line in seen.lines if "load averages: " in line]
    printed = [float(word) for line in lines[:1] for word in line.rpartition(": ")[2].split()]
    near = [abs(a - b) < 1 + b / 5 for a, b in zip(printed, os.getloadavg())]
    return near == [True] * 3


@contextlib.contextmanager
def python(tool: Started, case: Case) -> Iterator[Seen]:
    """The workload in a process of its own."""
    with Popen([sys.executable, "-c", f"import os\n{case.code}"], stdout=PIPE, text=True) as child:
        told, _ = child.communicate(timeout=PATIENCE)
    assert child.returncode == 0
    yield Seen([], child.pid, told.split())


def attaches_in_matrix_only(path: Path) -> bool:
    """Whether it needs what the matrix's kernels have, and others need not."""
    return bool(re.search(r"^k(ret)?probe:|\bkaddr\(", path.read_text(), re.M))


def is_explained(message: str, text: str) -> bool:
    """Whether a tool was refused for what this kernel doesn't have, and that was said."""
    kernel = running()
    if not kernel.has_kprobes and "this kernel has no kprobes" in message:
        return bool(re.search(r"^k(ret)?probe:", text, re.M))
    match = re.search(r"No matches for k(?:ret)?probe (\w+)", message)
    if match:
        return kernel.attachable(match[1]) is None
    match = re.search(r"struct (\w+) has no member (?:called )?'?(\w+)", message)
    if match:
        return kernel.has_field(match[1], match[2]) is False
    match = re.search(r"Failed to resolve kernel symbol: (\w+)", message)
    if match:
        return f" {match[1]}\n" not in Path("/proc/kallsyms").read_text()
    return False


def cases() -> list[Any]:
    return [
        pytest.param(
            path.stem, marks=[] if attaches_in_matrix_only(path) else [pytest.mark.host_only]
        )
        for path in SCRIPTS
    ]


@pytest.mark.parametrize("script", cases())
def test_runs_as_it_is(script: str, tmp_path: Path) -> None:
    path = FOLDER / f"{script}.bt"
    tried = bt("--dry-run", str(path))
    if tried.returncode:
        first, *others = tried.stderr.splitlines()
        assert (tried.returncode, tried.stdout) == (1, "") and "ERROR" in first and len(others) <= 3
        assert is_explained(first, path.read_text()), tried.stderr
        return
    case = CASES.get(script, Case("", attached_only))
    with Started("-q", str(path)) as tool:
        with case.load(tool, tmp_path) if case.load else python(tool, case) as seen:
            lines: list[str] = []
            assert tool.process.stdout is not None
            deadline = time.monotonic() + PATIENCE
            while case.waits and not case.check(seen._replace(lines=lines)):
                assert time.monotonic() < deadline, "\n".join(lines)
                lines.append(tool.process.stdout.readline().rstrip("\n"))
            lines += tool.stop().splitlines()
    assert lines, "it printed nothing"
    assert case.check(seen._replace(lines=lines)), "\n".join(lines)
