"""The work of known size for `compare_here.py`, and how to read its numbers from what is printed.

Each work happens in a folder of its own. It yields the tool's options when it is ready, None when
it has worked, and the truth when the tool has ended.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Union

from compare import tell
from disks import Io, loop_disk, stat, worker
from interrupts import missed, softirq_counts
from support import python_child
from test_bashreadline import Terminal

# Numbers by what they count; of the truth, there may be a least and a most.
Found = dict[str, int]
Truth = dict[str, Union[int, tuple[int, int]]]
Workload = Callable[[Path], Generator[Any, None, None]]


def matches(pattern: str, printed: bytes) -> Found:
    """The sum of the second group of each match, by the first."""
    found: Counter[str] = Counter()
    for name, count in re.findall(pattern.encode(), printed, re.M):
        found[name.decode("utf-8", "replace")] += int(count)
    return found


def sums(rows: list[dict[str, Any]], name: str, count: str = "count") -> Found:
    """The sum of a field, by another."""
    found: Counter[str] = Counter()
    for row in rows:
        found[str(row[name])] += row[count]
    return found


def total(found: Found) -> Found:
    return {"": sum(found.values())}


# Interrupts.


def received() -> Counter[Any]:
    return Counter({key: n for key, n in softirq_counts().items() if key[0] == "net_rx"})


def datagrams() -> None:
    """Have the kernel take in 200,000 packets, each by a soft interrupt of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        for _ in range(200_000):
            one.sendto(b"", one.getsockname())


def interrupts(counts: Callable[[], Counter[Any]], work: Callable[[], object]) -> Workload:
    """As many as while the tool was attached for sure, and not more than from its start to its end.
    A few may pass all programs by."""

    def workload(folder: Path) -> Generator[Any, None, None]:
        start = sum(counts().values())
        yield ["-C"]
        attached = sum(counts().values())
        work()
        least = sum(counts().values()) - attached
        yield None
        yield {"": (least - missed(least), sum(counts().values()) - start)}

    return workload


# Disks.

NAMES = """
import mmap, os, sys
disk = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
memory = mmap.mmap(-1, 4096)
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    with open("/proc/self/comm", "wb") as file:
        file.write(b"io-%d" % number + bytes.fromhex(sys.argv[2]))
    os.preadv(disk, [memory], number * 8192)
print("done", flush=True)
sys.stdin.readline()
"""


def named(suffix: str) -> Workload:
    def workload(folder: Path) -> Generator[Any, None, None]:
        with loop_disk(folder) as disk, python_child(NAMES, f"/dev/{disk}", suffix) as child:
            assert child.stdout and child.stdout.readline() == b"ready\n"
            yield []
            tell(child, b"done\n")
            yield None
            yield {"names": 100, "requests": 100}

    return workload


def sizes(sections: list[tuple[str, int]]) -> Found:
    mine = [(name, count) for name, count in sections if name.startswith("io-")]
    return {"names": len({name for name, _ in mine}), "requests": sum(n for _, n in mine)}


def bcc_sizes(printed: bytes) -> Found:
    parts = re.split(r"Process Name = ", printed.decode("utf-8", "replace"))[1:]
    counts = [sum(map(int, re.findall(r" : (\d+) ", part))) for part in parts]
    return sizes([(part.split("\n")[0], count) for part, count in zip(parts, counts)])


def slow_reads(folder: Path) -> Generator[Any, None, None]:
    with loop_disk(folder) as disk, worker(disk, writes=False) as reader:
        before = stat(disk)
        yield ["-d", disk, "1"]
        for number in range(5):
            reader.do([Io("r", number * 512, 256 << 10)])
            time.sleep(1.5)
        yield None
        after = stat(disk)
        yield {
            "requests": after.reads - before.reads,
            "KiB": (after.sectors_read - before.sectors_read) // 2,
        }


def bcc_patterns(printed: bytes) -> Found:
    lines = re.findall(rb"loop\d+ +\d+ +\d+ +(\d+) +(\d+)$", printed, re.M)
    return {
        "requests": sum(int(count) for count, _ in lines),
        "KiB": sum(int(kib) for _, kib in lines),
    }


# Processes. Each child waits for a line, works, and waits for another.

CALLS = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None)
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid); int 0x80; ret
compat = ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
sys.stdin.readline()
for _ in range(1000):
    os.getppid()
    libc.syscall(462, 1, 0, 0)  # mseal(2)
    compat()
print("done", flush=True)
sys.stdin.readline()
"""


def calls(*options: str) -> Workload:
    def workload(folder: Path) -> Generator[Any, None, None]:
        with python_child(CALLS) as child:
            yield [*options, "-p", str(child.pid)]
            tell(child, b"done\n")
            yield None
            kinds = ("getppid", "mseal", "getpid (32-bit)")
            yield dict.fromkeys(kinds if options[0] == "-T" else kinds[:1], 1000)

    return workload


LEAKS = r"""
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
static void *kept[1200];
static int n;
static void by_malloc(void) { for (int i = 0; i < 1000; i++) kept[n++] = malloc(100); }
static void by_none(void) { for (int i = 0; i < 1000; i++) free(malloc(64)); }
static void by_calloc(void) { for (int i = 0; i < 100; i++) kept[n++] = calloc(10, 20); }
static void by_realloc(void)
{
	for (int i = 0; i < 20; i++) {
		kept[n] = malloc(5000);
		realloc(kept[n++], SIZE_MAX / 2 + 1 + n);  /* fails: what was there stays */
	}
}
static void by_memalign(void)
{
	for (int i = 0; i < 10; i++) {
		kept[n] = malloc(300);
		posix_memalign(&kept[n++], 3, 700);  /* fails, and leaves the pointer as it is */
	}
}
int main(void)
{
	char byte;

	read(0, &byte, 1);
	by_malloc(); by_none(); by_calloc(); by_realloc(); by_memalign();
	write(1, "done\n", 5);
	read(0, &byte, 1);
}
"""
SPIN = r"""
#include <time.h>
#include <unistd.h>
static volatile long count;
__attribute__((noinline)) static void hot_function(void)
{
	for (int i = 0; i < 1000000; i++)
		count++;
}
int main(void)
{
	char byte;

	read(0, &byte, 1);
	while (clock() < 2 * CLOCKS_PER_SEC)
		hot_function();
	write(1, "done\n", 5);
}
"""


@contextlib.contextmanager
def program(folder: Path, source: str, *arguments: str) -> Iterator[Any]:
    """A C program that waits for a line."""
    (folder / "program.c").write_text(source)
    options = ["-w", "-O0", "-fno-omit-frame-pointer", "-o", str(folder / "program")]
    subprocess.run(["gcc", *options, str(folder / "program.c")], check=True)
    command = [str(folder / "program"), *arguments]
    with subprocess.Popen(command, stdin=-1, stdout=-1) as child:
        try:
            yield child
        finally:
            child.kill()


def leaks(folder: Path) -> Generator[Any, None, None]:
    with program(folder, LEAKS) as child:
        yield ["-T", "1000", "-p", str(child.pid), "1"]
        tell(child, b"done\n")
        yield None
        kept = {"by_malloc": 100_000, "by_calloc": 20_000, "by_realloc": 100_000}
        yield kept | {"by_memalign": 3000}


def bcc_leaks(printed: bytes) -> Found:
    # The last one may be cut off.
    *_, report, _ = printed.split(b"outstanding allocations:")
    found: Counter[str] = Counter()
    pattern = rb"\t(\d+) bytes in \d+ allocations from stack\n\t\t0x\w+\t(\w+)"
    for size, name in re.findall(pattern, report):
        found[name.decode()] += int(size)
    return found


def our_leaks(rows: list[dict[str, Any]]) -> Found:
    """Of the last report that has a stack."""
    last = {row["user_stack"]: row for row in rows}
    found: Counter[str] = Counter()
    for name, size in leaves(list(last.values()), "bytes"):
        found[name] += size
    return found


def leaves(rows: list[dict[str, Any]], value: str) -> list[tuple[str, int]]:
    """The innermost function and a number of each row."""
    stacks = [(row["user_stack"] or "").split(";") for row in rows]
    return [(re.split("[+ ]", stack[-1])[0], row[value]) for stack, row in zip(stacks, rows)]


def hot(folder: Path) -> Generator[Any, None, None]:
    with program(folder, SPIN) as child:
        yield ["-F", "499", "-U", "-p", str(child.pid)]
        tell(child, b"done\n")
        child.wait()
        yield None
        # Timers of a virtual machine that stands still fire late.
        yield {"samples": (900, 1050), "% named": (95, 100)}


def samples(rows: list[tuple[str, int]]) -> Found:
    number = sum(count for _, count in rows)
    known = sum(count for name, count in rows if name in ("hot_function", "main"))
    return {"samples": number, "% named": 100 * known // max(number, 1)}


def bcc_samples(printed: bytes) -> Found:
    pattern = rb"^    (\S+)\n(?:    .+\n)*        (\d+)$"
    found = re.findall(pattern, printed, re.M)
    return samples([(name.decode(), int(count)) for name, count in found])


LOOK_UPS = """
import ctypes, json, mmap, sys
libc = ctypes.CDLL(None)
kinds = json.loads(sys.argv[1])
hints = (ctypes.c_int * 12)(4)  # AI_NUMERICHOST: nobody is asked
result, error, room = ctypes.c_void_p(), ctypes.c_int(), ctypes.create_string_buffer(4096)
two = mmap.mmap(-1, 8192)
end = ctypes.addressof(ctypes.c_char.from_buffer(two)) + 4096
assert libc.mprotect(ctypes.c_void_p(end), ctypes.c_size_t(4096), 0) == 0
sys.stdin.readline()
for kind, names in kinds.items():
    for name in map(str.encode, names):
        if kind == "edge":
            place = ctypes.c_void_p(end - len(name) - 1)
            ctypes.memmove(place, name + b"\\0", len(name) + 1)
            name = place
        if kind == "reentrant":
            libc.gethostbyname_r(name, ctypes.byref(result, 0), room, ctypes.c_size_t(4096),
                                 ctypes.byref(result), ctypes.byref(error))
        elif libc.getaddrinfo(name, None, hints, ctypes.byref(result)) == 0:
            libc.freeaddrinfo(result)
print("done", flush=True)
sys.stdin.readline()
"""
HOSTS = {
    "plain": [f"127.0.0.{i}" for i in range(50)],
    "long": [f"{i:0200}" for i in range(50)],
    "edge": [f"127.0.1.{i}" for i in range(50)],
    "reentrant": [f"127.0.2.{i}" for i in range(50)],
    "escape": [f"\x1b[31m{i}" for i in range(50)],
}


def look_ups(folder: Path) -> Generator[Any, None, None]:
    with python_child(LOOK_UPS, json.dumps(HOSTS)) as child:
        yield ["-p", str(child.pid)]
        tell(child, b"done\n")
        yield None
        yield {kind: 50 for kind in HOSTS} | {"control characters": 0}


def hosts(names: list[str], printed: bytes) -> Found:
    found = {kind: len(set(known) & set(names)) for kind, known in HOSTS.items()}
    return found | {"control characters": len(re.findall(rb"[\0-\x08\x0b-\x1f]", printed))}


LINES = {
    "short": [f": short {i}" for i in range(20)],
    "long": [f": long {i} {'x' * 200}" for i in range(20)],
    "of sh": [f": sh {i}" for i in range(20)],
}


def shells(folder: Path) -> Generator[Any, None, None]:
    (folder / "sh").symlink_to("/bin/bash")
    with contextlib.ExitStack() as stack:
        shells = []
        for path in ("/bin/bash", str(folder / "sh")):
            shells.append(Terminal(path, "--norc", "--noprofile", "-i"))
            stack.callback(shells[-1].close)
        yield []
        for kind, lines in LINES.items():
            for line in lines:
                shells[kind == "of sh"].enter(line.encode())
        yield None
        yield {kind: 20 for kind in LINES}


def lines(entered: list[str]) -> Found:
    return {kind: len(set(known) & set(entered)) for kind, known in LINES.items()}


def tails(pattern: str, printed: bytes) -> list[str]:
    return re.findall(pattern, printed.decode("utf-8", "replace"), re.M)


# Functions.

NESTED = r"""
#include <unistd.h>
int fall(int depth) { return depth ? fall(depth - 1) + 1 : 0; }
static int left(void) { return fall(0) + 1; }
static int right(void) { return fall(0) + 2; }
int wait_for(int us) { return us ? usleep(us) : 0; }
int main(int argc, char **argv)
{
	char line;

	read(0, &line, 1);
	for (int i = 0; argc > 2 && i < 1000; i++)
		wait_for(i % 100 ? 0 : 50000);
	for (int i = 0; argc == 1 && i < 100; i++)
		fall(9);
	for (int i = 0; argc == 2 && i < 1000; i++)
		i % 10 < 3 ? left() : right();
	write(1, "done\n", 5);
	read(0, &line, 1);
}
"""


def nested(folder: Path) -> Generator[Any, None, None]:
    with program(folder, NESTED) as child:
        yield ["-p", str(child.pid), f"{folder}/program:fall"]
        tell(child, b"done\n")
        yield None
        yield {"calls": 1000}


def two_ways(folder: Path) -> Generator[Any, None, None]:
    with program(folder, NESTED, "two ways") as child:
        yield ["-U", "-p", str(child.pid), f"{folder}/program:fall"]
        tell(child, b"done\n")
        yield None
        yield {"by left": 300, "by right": 700}


def bcc_ways(printed: bytes) -> Found:
    found = re.findall(rb"^  fall\n  (\w+)\n(?:  .+\n)*?    (\d+)$", printed, re.M)
    return {f"by {name.decode()}": int(count) for name, count in found}


def our_ways(rows: list[dict[str, Any]]) -> Found:
    return {f"by {row['user_stack'].split(';')[-2]}": row["count"] for row in rows}


def few_are_slow(folder: Path) -> Generator[Any, None, None]:
    with program(folder, NESTED, "some", "wait") as child:
        yield ["-m", "40", "-p", str(child.pid), f"{folder}/program:wait_for"]
        tell(child, b"done\n")
        yield None
        yield {"slow": 10}


# Sockets.

SESSIONS_PORT = 47113
SESSIONS = """
import ctypes, os, socket, subprocess, sys
assert not ctypes.CDLL(None).unshare(0x40000000)  # CLONE_NEWNET
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
server = os.fork()
with open("/proc/self/comm", "w") as file:
    file.write("client7" if server else "server7")
if not server:
    sys.stdin.close()
    os.close(1)
    while True:
        with listener.accept()[0] as made:
            made.send(b"x")
            made.recv(1)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(50):
    with socket.create_connection(listener.getsockname()) as made:
        made.recv(1)  # it is accepted
        made.shutdown(socket.SHUT_WR)
        made.recv(1)
print("done", flush=True)
sys.stdin.readline()
os.kill(server, 9)
os.wait()
"""


def state_changes(folder: Path) -> Generator[Any, None, None]:
    """Each session has five changes at the client's end, and five at the server's, of which a
    process has the last three. Of the client's changes, the first ones have no local port."""
    with python_child(SESSIONS, str(SESSIONS_PORT)) as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        yield []
        tell(child, b"done\n")
        yield None
        yield {"changes": 500, "of the client": 250, "of the server": 150}


def changes(seen: list[tuple[str, int, int]]) -> Found:
    """Of the names of the processes, the local ports and the remote ports of all changes."""
    mine = Counter(name for name, *ports in seen if SESSIONS_PORT in ports)
    return {
        "changes": sum(mine.values()),
        "of the client": mine["client7"],
        "of the server": mine["server7"],
    }


def bcc_changes(printed: bytes) -> Found:
    pattern = rb"^\S+ +\d+ +(\S*) +\S+ +(\d+) +\S+ +(\d+) +\S+ +-> "
    found = re.findall(pattern, printed, re.M)
    return changes([(name.decode(), int(local), int(remote)) for name, local, remote in found])
