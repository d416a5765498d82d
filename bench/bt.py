"""How long bt takes to start, what its programs cost an event, and what it loses, beside the
bpftrace of the distribution.

Every program that is started ends by itself: its BEGIN ends with exit(), after which all is
attached and detached again. Of bpftrace's own tools, copies are started that do.
"""
from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Iterator, NamedTuple

import calls
import events
import installed
import opens
from installed import with_tracefs
from place import Place, progress
from processes import Spent, Trouble, load_cpu, spend
from table import Row

BPFTRACE = "/usr/bin/bpftrace"
TOOLS = Path("/usr/sbin")
ROUNDS = 7
MEMORY_ROUNDS = 2
OPEN_ROUNDS = 3
EXIT = "BEGIN { exit(); }"
COUNT = "tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }"
LATENCY = (
    "tracepoint:raw_syscalls:sys_enter { @start[tid] = nsecs; } "
    "tracepoint:raw_syscalls:sys_exit /@start[tid]/ "
    "{ @ns = hist(nsecs - @start[tid]); delete(@start[tid]); } END { clear(@start); }"
)
LINES = (
    "tracepoint:syscalls:sys_enter_openat "
    r'{ printf("%d %s %s\n", pid, comm, str(args->filename)); }'
)


class Program(NamedTuple):
    """A program that ends by itself: what it is called, and the arguments of bt and bpftrace."""

    name: str
    arguments: list[str]


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on bt."""
    peer = _version()
    yield from _starts(place, peer)
    yield from _events(place, peer)
    yield from _opens(place, peer)
    yield _functions(place, peer)


def _version() -> str:
    try:
        said = subprocess.run([BPFTRACE, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        raise Trouble(f"{BPFTRACE} is not installed (make bench installs it)") from None
    return said.stdout.strip().replace(" v", " ")


def _both(peer: str, *arguments: str) -> dict[str, list[str]]:
    return {
        "our bt": installed.ours("bt", *arguments),
        peer: with_tracefs([BPFTRACE, *arguments]),
    }


# From exec to exit.


def _starts(place: Place, peer: str) -> Iterator[Row]:
    # bpftrace has become slower since.
    old = re.search(r"0\.(\d+)", peer)
    limit = 0.20 if old and int(old[1]) < 20 else 0.15
    programs = [Program(f"bt -e '{EXIT}'", ["-e", EXIT]), _runqlen(place), _largest(place, peer)]
    for name, arguments in programs:
        commands: dict[str, list[str]] = {"cold": [], **_both(peer, *arguments)}
        launch, env = place.load("launch"), place.env
        spent: dict[str, list[Spent]] = {kind: [] for kind in commands}
        for number in range(ROUNDS + 1):
            # Cold: a program that was never started before. With a parameter of its own it is one.
            commands["cold"] = installed.ours("bt", *arguments, f"new{time.time_ns()}")
            for kind, command in commands.items():
                progress(f"{name} {number}/{ROUNDS}: {kind}")
                once = spend(launch, kind, command, env)
                if number:  # what all programs share is in the cache then
                    spent[kind].append(once)
        cold, warm, theirs = (1000 * min(once.wall for once in each) for each in spent.values())
        yield Row(f"{name}, warm", warm, theirs, peer, limit, "ms")
        yield Row(f"{name}, cold", cold, theirs, peer, 1.2, "ms")
        cold, warm, theirs = (1000 * min(once.cpu for once in each) for each in spent.values())
        yield Row(f"{name}, warm, CPU time", warm, theirs, peer, None, "ms")
        yield Row(f"{name}, cold, CPU time", cold, theirs, peer, None, "ms")
        cold, warm, theirs = (_peak(place, command) for command in commands.values())
        yield Row(f"{name}, peak memory", warm, theirs, peer, 0.25, "MiB")
        yield Row(f"{name}, cold, peak memory", cold, theirs, peer, None, "MiB")


def _peak(place: Place, command: list[str]) -> float:
    progress(f"memory of {command[0]}")
    spent: list[Spent] = [
        spend(place.load("launch"), command[0], command, place.env, True)
        for _ in range(MEMORY_ROUNDS)
    ]
    return max(each.peak for each in spent) / 1024


def _runqlen(place: Place) -> Program:
    """bpftrace's runqlen.bt, in the form that bpftrace can read on this kernel."""
    from pytools.facts.kernel import running

    text = (TOOLS / "runqlen.bt").read_text()
    if not running().has_field("cfs_rq", "nr_running"):
        text = text.replace("$my_q->nr_running", "$my_q->nr_queued")
        installed.note("runqlen.bt reads nr_queued here, which bpftrace does not find by itself.")
    return _ending(place, "runqlen.bt", text)


def _largest(place: Place, peer: str) -> Program:
    """The largest of bpftrace's tools that bpftrace runs here."""
    for path in sorted(TOOLS.glob("*.bt"), key=lambda path: -path.stat().st_size):
        program = _ending(place, path.name, path.read_text())
        command = _both(peer, *program.arguments)[peer]
        progress(f"does bpftrace run it: {path.name}")
        try:
            spend(place.load("launch"), path.name, command, place.env)
        except Trouble:
            continue
        return program
    raise Trouble(f"bpftrace runs none of {TOOLS}/*.bt here")


def _ending(place: Place, name: str, text: str) -> Program:
    path = place.folder / name
    # bpftrace 0.17 allows one BEGIN.
    ending, found = re.subn(r"(^BEGIN\s*\{.*?)^\}", r"\1exit(); }", text, 1, re.S | re.M)
    path.write_text(ending if found else f"{text}\n{EXIT}\n")
    return Program(name, [str(path)])


# An event.


def _events(place: Place, peer: str) -> Iterator[Row]:
    load = [str(place.load("calls")), str(calls.CALLS), str(load_cpu())]
    for what, text in (("bt, @[comm] = count()", COUNT), ("bt, hist() of a latency", LATENCY)):
        yield from calls.costs(
            place, what, "call", load, calls.CALLS, _both(peer, "-e", text), 1.0, None
        )


def _opens(place: Place, peer: str) -> list[Row]:
    commands = _both(peer, "-e", LINES)
    each: dict[str, list[float]] = {name: [] for name in ["alone", *commands]}
    lost = dict.fromkeys(commands, 0)
    for number in range(OPEN_ROUNDS):
        progress(f"bt, opens {number + 1}/{OPEN_ROUNDS}: alone")
        each["alone"] += opens.opened(place)[1].each
        for name, command in commands.items():
            progress(f"bt, opens {number + 1}/{OPEN_ROUNDS}: {name}")
            once = opens.traced(place, name, command)
            each[name] += once.each
            lost[name] = max(lost[name], once.lost)
    alone, ours, theirs = (median(times) for times in each.values())
    ours, theirs = ours - alone, theirs - alone
    return [
        Row(f"bt, lines lost of {opens.COUNT:,}", lost["our bt"], lost[peer], peer, most=0),
        Row("bt, a printf's cost of an open", ours, theirs, peer, 0.60, "us"),
    ]


def _functions(place: Place, peer: str) -> Row:
    program = events.many_functions(place.folder)
    text = f"uprobe:{program}:measured_* {{ @[probe] = count(); }} {EXIT}"
    commands = _both(peer, "-q", "-e", text)
    limits = ("BPFTRACE_MAX_PROBES", "BPFTRACE_MAX_BPF_PROGS")
    env = {**place.env, **dict.fromkeys(limits, str(2 * events.FUNCTIONS))}
    launch = place.load("launch")
    spend(launch, "our bt", commands["our bt"], env)
    taken = [spend(launch, "our bt", commands["our bt"], env).wall for _ in range(ROUNDS)]
    theirs = events.once(launch, peer, commands[peer], env)
    return Row(
        f"bt, {events.FUNCTIONS:,} uprobes by a pattern", 1000 * min(taken), 1000 * theirs or None,
        peer, unit="ms", most=300,
    )  # fmt: skip
