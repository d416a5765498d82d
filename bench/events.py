"""What the tools of network, user programs and BPF itself cost an event, and how long
they take until they watch; how long it takes to list all that can be traced, and to
attach to a thousand functions of a program.

Each load makes a known number of events. Time in the programs is the kernel's own
(``program_statistics``), all programs of a tool together, and of an event all times
that they run for it: a session has two ends and several states.
"""
from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Callable, Iterator, NamedTuple, Sequence

import installed
from installed import Peer, bcc_peer, libbpf_peer, with_tracefs
from place import Place, progress
from processes import PATIENCE, Tool, Trouble, load_cpu, program_statistics, run_load, spend
from table import Row

ROUNDS = 3
LIMIT = 0.80
FUNCTIONS = 1000


class Watched(NamedTuple):
    """A tool with its options, the event that it is measured by, the load that makes so
    many of them, and commands of peers, of which the first that runs here is compared; ``limit`` is
    the most that ours may take of a peer's time."""

    tool: str
    options: list[str]
    event: str
    load: str
    count: int
    peers: Sequence[Peer]
    limit: float | None = None


def _either(tool: str) -> list[Peer]:
    return [bcc_peer(tool), libbpf_peer(tool)]


CALL = "t:syscalls:sys_enter_getppid"
# More than are counted one by one.
MANY_CALLS = "t:syscalls:sys_enter_get*"
WATCHED = (
    Watched("tcplife", [], "session", "sessions", 20_000, _either("tcplife")),
    Watched("tcpconnect", [], "connect", "sessions", 20_000, _either("tcpconnect")),
    Watched("tcpretrans", [], "SYN again", "unanswered", 5_000, _either("tcpretrans"), LIMIT),
    Watched("tcpdrop", [], "refused connect", "refused", 20_000, [bcc_peer("tcpdrop")], LIMIT),
    Watched("skbdrop", [], "refused connect", "refused", 20_000, [bcc_peer("tcpdrop")], LIMIT),
    Watched("tcptop", ["1000"], "segment", "segments", 200_000, _either("tcptop"), LIMIT),
    Watched("tcprtt", [], "segment", "segments", 200_000, _either("tcprtt"), LIMIT),
    Watched("tcprtt", ["-u"], "segment with -u", "segments", 200_000, _either("tcprtt"), LIMIT),
    Watched("tcpaccept", [], "accept", "sessions", 20_000, [bcc_peer("tcpaccept")], LIMIT),
    Watched("tcpconnlat", [], "connect", "sessions", 20_000, _either("tcpconnlat"), LIMIT),
    Watched("tcpstates", [], "session", "sessions", 20_000, _either("tcpstates"), LIMIT),
    Watched("tcptracer", [], "session", "sessions", 20_000, _either("tcptracer"), LIMIT),
    Watched("flowtop", ["-i", "lo", "1000"], "packet", "datagrams", 200_000, []),
    Watched("gethostlatency", [], "look-up", "lookups", 50_000, _either("gethostlatency")),
    Watched("bashreadline", [], "line", "", 500, _either("bashreadline")),
    Watched("funccount", [CALL], "call", "calls", 500_000, [bcc_peer("funccount", CALL)]),
    Watched("funccount", [MANY_CALLS], "call of many", "calls", 500_000, []),
    Watched("bpfsnoop", [], "bpf(2)", "bpfs", 50_000, []),
    Watched("exitsnoop", [], "end", "execs", 5_000, [libbpf_peer("exitsnoop")], LIMIT),
    Watched("sigsnoop", [], "signal", "signals", 200_000, _either("sigsnoop"), LIMIT),
    Watched("killsnoop", [], "kill(2)", "signals", 200_000, _either("killsnoop"), LIMIT),
    Watched("syncsnoop", [], "fsync(2)", "syncs", 200_000, _either("syncsnoop"), LIMIT),
    Watched("bindsnoop", [], "bind(2)", "binds", 50_000, _either("bindsnoop"), LIMIT),
    Watched("solisten", [], "listen(2)", "listens", 200_000, _either("solisten"), LIMIT),
    Watched(
        "softirqs", ["1000"], "packet in time", "datagrams", 200_000,
        [bcc_peer("softirqs", "1000"), libbpf_peer("softirqs", "1000")], LIMIT,
    ),
    Watched(
        "softirqs", ["-C", "1000"], "packet counted", "datagrams", 200_000,
        [bcc_peer("softirqs", "-C", "1000")], LIMIT,
    ),
)  # fmt: skip


class _Announced(Tool):
    """One of ours, which with -v says when it watches."""

    def _wait_until_attached(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while "Hit Ctrl-C" not in self.messages:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Trouble(f"{self.name} does not run here: {self.messages.strip()}")
            time.sleep(0.001)
        self.attached = time.monotonic()


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on these tools."""
    for watched in WATCHED:
        yield from _events(place, watched)
    yield _thousand_functions(place)
    yield _list(place)
    yield _list(place, "tracepoint:*")
    yield from _objects(place)


def _events(place: Place, watched: Watched) -> list[Row]:
    load = _load(place, watched)
    name, peer = place.first_or_none(*watched.peers)
    ours = installed.ours(watched.tool, "-v", *watched.options)
    commands = {"ours": ours, **({name: peer} if peer else {})}
    inside: dict[str, list[float]] = {kind: [] for kind in commands}
    starts: dict[str, list[float]] = {kind: [] for kind in commands}
    for number in range(ROUNDS):
        for kind, command in commands.items():
            progress(f"{watched.tool}, {watched.event} {number + 1}/{ROUNDS}: {kind}")
            of_tool = _Announced if kind == "ours" else Tool
            begin = time.monotonic()
            running = of_tool(kind, command, place.folder / "output", place.env)
            with running, program_statistics():
                starts[kind].append(1000 * (running.attached - begin))
                before, _ = running.program_total()
                load()
                inside[kind].append((running.program_total()[0] - before) / watched.count)
                running.stop()
    rows = [
        Row(
            f"{watched.tool}, programs per {watched.event}",
            median(inside["ours"]), median(inside[name]) if peer else None, name,
            watched.limit if peer else None, "ns",
        )
    ]  # fmt: skip
    if watched.event not in ("call of many", "packet counted", "segment with -u"):
        rows.append(
            Row(
                f"{watched.tool} warm, exec to watching",
                min(starts["ours"]), min(starts[name]) if peer else None, name, None, "ms",
            )
        )  # fmt: skip
    return rows


def _load(place: Place, watched: Watched) -> Callable[[], object]:
    if not watched.load:
        return lambda: _type_lines(watched.count)
    command = [str(place.load(watched.load)), str(watched.count), str(load_cpu())]
    return lambda: run_load(command)


def _type_lines(count: int) -> None:
    """Enter lines into a shell on a terminal of its own, one more than so many."""
    shell, terminal = pty.fork()
    if shell == 0:
        os.execv("/bin/bash", ["bash", "--norc", "--noprofile", "-i"])
    try:
        for _ in range(count):
            os.write(terminal, b":\n")
            os.read(terminal, 1 << 16)
        os.write(terminal, b"exit\n")
        with contextlib.suppress(OSError):  # EIO: the shell has ended
            while os.read(terminal, 1 << 16):
                pass
    finally:
        os.close(terminal)
        os.waitpid(shell, 0)


def many_functions(folder: Path) -> str:
    """A program with so many functions that have one beginning."""
    source, program = folder / "functions.c", folder / "functions"
    lines = [
        f"int measured_{number}(int n) {{ return n + {number}; }}\n" for number in range(FUNCTIONS)
    ]
    source.write_text("".join(lines) + "int main(void) { return 0; }\n")
    if subprocess.run(["gcc", "-O1", "-o", str(program), str(source)], check=False).returncode:
        raise Trouble(f"cannot compile {source}")
    return str(program)


def _thousand_functions(place: Place) -> Row:
    """From exec to exit: attaching to, and detaching from, functions of a program."""
    program = many_functions(place.folder)
    launch = place.load("launch")
    ours = installed.ours("funccount", "-d", "0", f"{program}:measured_*")
    script = f"uprobe:{program}:measured_* {{ @[probe] = count(); }} BEGIN {{ exit(); }}"
    peer = ["/usr/bin/bpftrace", "-e", script]
    limits = ("BPFTRACE_MAX_PROBES", "BPFTRACE_MAX_BPF_PROGS")
    env = {**place.env, **dict.fromkeys(limits, str(2 * FUNCTIONS))}
    spend(launch, "funccount", ours, place.env)
    progress("funccount, 1,000 functions")
    taken = [spend(launch, "funccount", ours, place.env).wall for _ in range(ROUNDS)]
    return Row(
        "funccount, 1,000 user functions, exec to exit",
        1000 * min(taken), 1000 * once(launch, "bpftrace", with_tracefs(peer), env) or None,
        "bpftrace", None, "ms",
    )  # fmt: skip


def once(launch: Path, name: str, command: list[str], env: dict[str, str]) -> float:
    """Seconds of one run, for what takes long; 0 if it does not run here."""
    progress(name)
    try:
        return spend(launch, name, command, env).wall
    except (Trouble, subprocess.TimeoutExpired) as error:
        installed.note(str(error))
        return 0


def _list(place: Place, *pattern: str) -> Row:
    """What can be traced in the kernel, from exec to exit."""
    launch = place.load("launch")
    commands = {
        "ours": installed.ours("tplist", *pattern),
        "bpftrace -l": with_tracefs(["/usr/bin/bpftrace", "-l", *pattern]),
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(ROUNDS):
        for name, command in commands.items():
            progress(f"tplist {number + 1}/{ROUNDS}: {name}")
            taken[name].append(1000 * spend(launch, name, command, place.env).wall)
    ours, peer = (min(times) for times in taken.values())
    what = " ".join(["tplist", *pattern])
    return Row(f"{what}, exec to exit", ours, peer, "bpftrace -l", None, "ms")


def _objects(place: Place) -> Iterator[Row]:
    """The BPF programs, maps and links in the kernel, from exec to exit."""
    launch = place.load("launch")
    for ours, peer, command, limit in (
        (["bpflist"], "bcc bpflist", installed.bcc("bpflist"), LIMIT),
        (["bpflist", "-v"], "bpftool prog", ["/usr/sbin/bpftool", "prog"], None),
        (["bpftop", "-d", "0"], "bpftool prog", ["/usr/sbin/bpftool", "prog"], None),
    ):
        taken: dict[str, list[float]] = {"ours": [], peer: []}
        for number in range(ROUNDS):
            progress(f"{ours[0]} {number + 1}/{ROUNDS}")
            for name, one in (("ours", installed.ours(*ours)), (peer, command)):
                taken[name].append(1000 * spend(launch, name, one, place.env).wall)
        least, of_peer = (min(times) for times in taken.values())
        yield Row(f"{' '.join(ours)}, exec to exit", least, of_peer, peer, limit, "ms")
