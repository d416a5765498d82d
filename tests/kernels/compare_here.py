#!/usr/bin/python3
"""Hold the tools against bcc's own and against the truth, on the kernel that runs here.

    compare_here.py [TOOL...]

For bcc's tools that need no kernel functions and read nothing of the kernel's structs, the layout
of which they take from headers. Each workload runs twice: bcc's tool watches it, then ours. With no
TOOL, this writes the section of docs/compared-with-bcc.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("bench", "lib", "tests")]

import installed  # noqa: E402
from compare import Failed, Tool, version  # noqa: E402
from comparison import code, table, with_section  # noqa: E402
from here_work import (  # noqa: E402
    Found,
    Truth,
    Workload,
    bcc_changes,
    bcc_leaks,
    bcc_patterns,
    bcc_samples,
    bcc_sizes,
    bcc_ways,
    calls,
    changes,
    datagrams,
    few_are_slow,
    hosts,
    hot,
    interrupts,
    leaks,
    leaves,
    lines as entered,
    look_ups,
    matches,
    named,
    nested,
    our_leaks,
    our_ways,
    received,
    samples,
    shells,
    sizes,
    slow_reads,
    state_changes,
    sums,
    tails,
    total,
    two_ways,
)
from interrupts import interrupt_counts  # noqa: E402
from support import all_tools  # noqa: E402
from test_hardirqs import writes  # noqa: E402

PAGE = ROOT / "docs" / "compared-with-bcc.md"
# bcc's tools that attach here, but read structs; and those that only list.
STRUCTS = "biolatpcts exitsnoop runqlat runqlen runqslower tcplife wakeuptime".split()
LISTS = ["bpflist", "tplist"]


class Check(NamedTuple):
    """A workload, what its numbers are in bcc's output and in ours, and why these differ."""

    tool: str
    watched: str
    workload: Workload
    bcc: Callable[[bytes], Found]
    ours: Callable[[list[dict[str, Any]]], Found]
    why: str


class Here(Tool):
    """A tool on this machine. bcc's may print its head before it attaches."""

    def command(self, name: str, *options: str) -> list[str]:
        if self.side == "bcc":
            command: list[str] = installed.with_tracefs(installed.bcc(name, *options))
        else:
            command = installed.ours(name, "-v", "--json", *options)
        return command

    def attached(self) -> bool:
        if self.side == "ours":
            return b"Hit Ctrl-C to end." in self.said.read_bytes()
        before = self.probes()
        time.sleep(2)
        return before > 0 and before == self.probes()

    def probes(self) -> int:
        """How many descriptors of probes the tool has open."""
        found = 0
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += os.readlink(link) in ("anon_inode:[perf_event]", "anon_inode:bpf_link")
        return found

    def stop(self) -> bytes:
        """Some print once a second."""
        time.sleep(5)
        self.process.send_signal(2)
        return self.wait()


def many_writes() -> None:
    for _ in range(5):
        writes()


CHECKS = [
    Check(
        "hardirqs",
        "1,000 blocks written to a file, each with fsync (`-C`), beside /proc/interrupts",
        interrupts(interrupt_counts, many_writes),
        lambda printed: total(matches(r"^(\S+) +(\d+)$", printed)),
        lambda rows: total(sums(rows, "hardirq")),
        "",
    ),
    Check(
        "softirqs",
        "200,000 datagrams to the machine itself (`-C`, net_rx), beside /proc/softirqs",
        interrupts(received, datagrams),
        lambda printed: total(matches(r"^(net_rx) +(\d+)$", printed)),
        lambda rows: total(sums([row for row in rows if row["softirq"] == "net_rx"], "softirq")),
        "",
    ),
    Check(
        "bitesize",
        "100 direct reads of a disk, each by another name of the process",
        named(""),
        bcc_sizes,
        lambda rows: sizes([(row["key"]["comm"], row["samples"]) for row in rows]),
        "bcc's tool has room for 64 bars of all names together, because it asks for no other size "
        "of the table. It drops further ones, and does not say so.",
    ),
    Check(
        "bitesize",
        "the same, with two bytes in the names that are no UTF-8",
        named("fffe"),
        bcc_sizes,
        lambda rows: sizes([(row["key"]["comm"], row["samples"]) for row in rows]),
        "bcc's tool decodes names strictly when it prints. One process with such a name, of any "
        "user, costs it all that it has counted.",
    ),
    Check(
        "biopattern",
        "5 reads of 256 KiB, one every 1.5 s, printed every second, beside /sys/block/DISK/stat",
        slow_reads,
        bcc_patterns,
        lambda rows: {
            "requests": sum(row["count"] for row in rows),
            "KiB": sum(row["bytes"] for row in rows) >> 10,
        },
        "bcc's tool forgets after each interval where the last request ended. It leaves out the "
        "first request of each disk in each interval, with its bytes, because it has nothing to "
        "compare it with.",
    ),
    Check(
        "syscount",
        "1,000 calls each of getppid, of mseal, and of getpid as 32-bit programs make it (`-p`)",
        calls("-T", "1000"),
        lambda printed: {
            name: count
            for name, count in matches(r"^(\S.*?) +(\d+)$", printed).items()
            if count >= 1000
        },
        lambda rows: sums([row for row in rows if row["count"] >= 1000], "syscall"),
        "bcc's tool looks all numbers up in the table of 64-bit calls, where getpid's number as a "
        "32-bit call is writev's. Its own list ends before mseal (Linux 6.10).",
    ),
    Check(
        "funccount",
        "1,000 calls of getppid (`-p`, `c:getppid`)",
        calls("c:getppid"),
        lambda printed: matches(r"^(getppid) +(\d+)$", printed),
        lambda rows: {"getppid": sum(row["count"] for row in rows)},
        "",
    ),
    Check(
        "funccount",
        "the same (`-p`, `t:syscalls:sys_enter_getppid`)",
        calls("t:syscalls:sys_enter_getppid"),
        lambda printed: matches(r"sys_enter_(getppid)\S* +(\d+)$", printed),
        lambda rows: {"getppid": sum(row["count"] for row in rows)},
        "bcc's tool counts tracepoints, and fails at the end when it prints their names: it takes "
        "them for bytes, and they are text.",
    ),
    Check(
        "funclatency",
        "100 calls of a function, each of which calls itself nine times (`-p`)",
        nested,
        lambda printed: {"calls": total(matches(r"^ +(\d+ -> \d+) +: (\d+)", printed))[""]},
        lambda rows: {"calls": sum(row["samples"] for row in rows)},
        "bcc's tool has one start for each thread. A call within another one overwrites it, so "
        "that the innermost call alone is counted, if not asked for levels (`-l`).",
    ),
    Check(
        "funcslower",
        "1,000 calls of a function, of which 10 take 50 ms (`-m 40 -p`)",
        few_are_slow,
        lambda printed: {"slow": len(tails(r"^program .*:(wait_for)", printed))},
        lambda rows: {"slow": len(rows)},
        "",
    ),
    Check(
        "stackcount",
        "a function that two others call, 300 and 700 times (`-U -p`)",
        two_ways,
        bcc_ways,
        our_ways,
        "",
    ),
    Check(
        "memleak",
        "a program that keeps four kinds of memory: bytes by the function that asked for it (`-p`)",
        leaks,
        bcc_leaks,
        our_leaks,
        "bcc's tool takes a block for freed when realloc is called, also if that then fails "
        "(by_realloc). It looks at the pointer, and not at the result, of posix_memalign: if that "
        "fails, what the pointer pointed to before has a new size (by_memalign).",
    ),
    Check(
        "profile",
        "a program that runs in one function for 2 s and ends (`-F 499 -U -p`)",
        hot,
        bcc_samples,
        lambda rows: samples(leaves(rows, "samples")),
        "bcc's tool looks for names when it prints. The program has ended by then, and nobody "
        "knows any more which files it had mapped.",
    ),
    Check(
        "gethostlatency",
        "50 look-ups each of plain names, of names of 200 bytes, of names that end where the next "
        "page can't be read (edge), by gethostbyname_r (reentrant), and of names with an escape",
        look_ups,
        lambda printed: hosts(tails(r"^\S+ +\d+ .{16} +[\d.]+ (.*?)\0*$", printed), printed),
        lambda rows: hosts([row["host"] for row in rows], b""),
        "bcc's tool has room for 79 bytes of a name, and always copies 80, which fails at the end "
        "of what can be read. It knows three functions, and not gethostbyname_r. It prints what is "
        "in a name as it is, also to a terminal.",
    ),
    Check(
        "bashreadline",
        "20 short lines, 20 of 200 bytes and more, and 20 in a bash that is called sh",
        shells,
        lambda printed: entered(tails(r"^\S+ +\d+ +(.*)$", printed)),
        lambda rows: entered([row["command"] for row in rows]),
        "bcc's tool has room for 79 bytes of a line, and looks only at processes that are called "
        "bash. It sees only what is read from a prompt that comes after its start: the first short "
        "line was entered at one that was there before.",
    ),
    Check(
        "tcpstates",
        "50 sessions of two processes over loopback: changes, and those of the right process",
        state_changes,
        bcc_changes,
        lambda rows: changes([(row["comm"] or "", row["lport"], row["rport"]) for row in rows]),
        "bcc's tool shows the task that runs when a state changes. Packets of one process change "
        "the states of the other one's sockets.",
    ),
]


# The page.


def observe(check: Check, side: str) -> tuple[Found | str, Truth]:
    """What a tool finds, or why it found nothing; and the truth."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="compare-"))
        steps = stack.enter_context(contextlib.closing(check.workload(Path(folder))))
        tool = stack.enter_context(contextlib.closing(Here(side, check.tool, *next(steps))))
        next(steps)
        try:
            printed = tool.stop()
            if side == "bcc":
                found: Found | str = check.bcc(printed)
            else:
                found = check.ours([json.loads(line) for line in printed.splitlines()])
        except Failed as error:
            found = str(error)
        truth: Truth = next(steps)
    return found, truth


def is_right(found: Found | str, truth: Truth) -> bool:
    if isinstance(found, str) or set(found) - set(truth):
        return False
    bounds = {kind: (n, n) if isinstance(n, int) else n for kind, n in truth.items()}
    return all(low <= found.get(kind, 0) <= high for kind, (low, high) in bounds.items())


def text(numbers: Truth) -> str:
    return ", ".join(
        f"{f'{n:,}' if isinstance(n, int) else f'{n[0]:,} to {n[1]:,}'} {kind}".strip()
        for kind, n in numbers.items()
    )


def cell(found: Found | str, truth: Truth) -> str:
    said = f"`{code(found)}`" if isinstance(found, str) else code(text({**found}) or "nothing")
    return said if is_right(found, truth) else f"**{said}**"


def section(checks: list[Check]) -> tuple[list[str], bool]:
    """What `make compare-here` writes, and whether ours is right throughout."""
    lines, reasons, right = [], [], True
    for check in checks:
        cells, truths = [], []
        for side in ("bcc", "ours"):
            found, truth = observe(check, side)
            print(f"{check.tool}, {side}: {found}, truth {truth}", flush=True)
            cells.append(cell(found, truth))
            truths.append(text(truth))
            if side == "ours":
                right &= is_right(found, truth)
            elif not is_right(found, truth):
                reasons.append(f"- {check.tool}: {check.why}")
        truth_cell = truths[0] if truths[0] == truths[1] else f"{truths[0]}; then {truths[1]}"
        lines.append((check.tool, check.watched, cells[0], truth_cell, cells[1]))
    theirs = {tool for tool in all_tools() if Path(f"/usr/sbin/{tool}-bpfcc").exists()}
    release = platform.release().split("-")[0]
    absent = sorted(theirs - {check.tool for check in CHECKS} - {*STRUCTS, *LISTS})
    return [
        "## Tools that need no kernel functions",
        "",
        f"`make compare-here` wrote this section on Linux {release}, which has no "
        f"kprobes, with bcc {version('python3-bpfcc')} and Python {platform.python_version()}. "
        "bcc's tool and ours watched the same workload, one after the other. What is wrong is "
        "bold.",
        "",
        *table(("tool", "watched", "bcc's", "truth", "ours"), lines),
        "",
        "Why they differ:",
        "",
        *reasons,
        "",
        "These tools of bcc's do not start here, most of them because they need kprobes: "
        f"{', '.join(absent)}. These start, but take the layout of the kernel's structs from "
        "headers. This kernel has no headers, so it would be no comparison: "
        f"{', '.join(STRUCTS)}.",
    ], right


def main(tools: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="headers-") as folder:
        Here.environment = installed.environment(Path(folder))
        checks = [check for check in CHECKS if not tools or check.tool in tools]
        written, right = section(checks)
    if tools:
        print("\n".join(written))
    else:
        PAGE.write_text(with_section(PAGE.read_text(), written))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
