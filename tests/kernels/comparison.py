"""Results of `compare.py` on all kernels, as a page: docs/compared-with-bcc.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["CHECKS", "Compared", "code", "page", "read_comparison", "table", "with_section"]

# Between these is what `make compare-here` wrote.
MARKS = ("<!-- make compare-here -->", "<!-- the end of make compare-here -->")

TOOLS = ("runqlen", "runqlat", "opensnoop")

# What was watched, and when a tool counts as right; the workloads are those of compare.py.
CHECKS = {
    ("runqlen", "one cgroup"): (
        "four busy loops pinned to one CPU, in one cgroup",
        "the CPU's mean is 3 ± 10 %",
    ),
    ("runqlen", "cgroups"): (
        "four busy loops pinned to one CPU, each in a cgroup of its own with the cpu controller",
        "the CPU's mean is 3 ± 10 %",
    ),
    ("runqlat", "one task"): (
        "a process that competes with another for a CPU, for 1.5 s of CPU time each, then has it "
        "answer 5,000 times, and then sleeps while a thread of it starts those below (`-L -p`)",
        "as many samples as `/proc/PID/schedstat` counts slices, ± 2 %, and the bounds of the "
        "buckets, 20 us for each sample added, hold the time waited",
    ),
    ("runqlat", "many tasks"): (
        "2,000 threads of that process, one after the other",
        "a histogram for each of them, ± 2 %",
    ),
    ("opensnoop", "names"): (
        "5,000 opens, each of another name: 2,000 plain, 1,500 that fail, 500 with a newline, 500 "
        "with terminal escapes, 200 of 4,095 bytes, 150 in pages that aren't in memory (away), 150 "
        "that end where the next page can't be read (edge)",
        "every open is reported once with file descriptor, error and name, byte for byte, and no "
        "control character reaches the terminal",
    ),
}

# What compare.py says if a tool admits that it lost events.
LOST = "said to be lost"

# Why ours is right where bcc's differs.
REASONS = {
    ("runqlen", "one cgroup"): (
        "bcc's tool has its own copy of the head of `struct cfs_rq`, and looks at another struct "
        "to decide whether `runnable_weight` is in it. `cfs_rq` lost that member in 5.7, when "
        "`sched_entity` got one of that name with another meaning (commit 9f68395333ad). bcc's "
        "tool therefore reads eight bytes too far. Versions that ask BTF first fall back to the "
        "same guess when BTF says no. On 5.10 and 6.1 they find there the number of tasks with the "
        "policy `SCHED_IDLE`, and from 6.12 on, by luck, `h_nr_runnable`. Ours takes the offset of "
        "the very member that it reads from the kernel's types."
    ),
    ("runqlen", "cgroups"): (
        "A task's `se.cfs_rq` is the queue of its cgroup, not the CPU's. bcc's tool counts what "
        "waits there. A task alone in its cgroup therefore seems to be alone on the CPU, whoever "
        "else waits for it (iovisor/bcc#3093, open since 2020). Ours goes on from there to the "
        "CPU's own `struct rq` and takes `nr_running`, which counts tasks of all cgroups and of "
        "all scheduling classes. The loops are pinned and never sleep, so three of the four wait "
        "at any time."
    ),
    ("runqlat", "one task"): (
        "The witness is the kernel's own counters of that task. bcc's tool does not miss samples "
        "in the tracing, but loses them by the way it keeps the histograms of `-L`: without that "
        "option, bcc 0.26 counted such waits on 6.1 exactly."
    ),
    ("runqlat", "many tasks"): (
        "Each task takes a slot for every bucket of its histogram. Where bcc's tool is wrong, it "
        "keeps all slots in a table of 64, which is bcc's default for a histogram with a key. When "
        "the table is full, it drops what comes, without a word (iovisor/bcc 939828c4 made the "
        "table larger). Ours has room for 262,144, and says so if it loses one. The workload "
        "prints the id of each thread. Each thread ran, so it waited at least once."
    ),
    ("opensnoop", "names"): (
        "bcc's tool has room for 255 bytes of a name; the kernel accepts 4,095 (long). It prints "
        "these bytes as they are: a newline in a name makes two lines of one event, the second of "
        "the name's own choosing, and escapes go to the terminal. Some versions copy all 255 bytes "
        "wherever the name ends. This fails at the end of a page that no readable page follows "
        "(edge, iovisor/bcc#1307). Ours copies a name once, to its end, when the call returns and "
        "the name's page is in memory, and escapes what it prints. The workload chose the names, "
        "and also says what each open returned."
    ),
    "lost": (
        "bcc's tool loses events when they come faster than Python prints them, one by one. How "
        "many it loses depends on how fast the host is. With a perf buffer it reports the loss; "
        "with the ring buffer of 0.37 it does not (iovisor/bcc#3476). Ours reads and prints events "
        "in batches."
    ),
    "start": (
        "bcc's tool compiles against the kernel's headers with the clang of its Debian release. "
        "Headers that are newer than that clang and than bcc's own helpers need not compile, and "
        "without headers nothing compiles. Ours takes only the few members that a program names "
        "from the running kernel's BTF, and needs no headers."
    ),
}


@dataclass
class Compared:
    """What one kernel's machine found, or what kept it from that; ``note``: what was odd."""

    name: str
    versions: dict[str, str] = field(default_factory=dict)
    findings: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    note: str = ""

    def of(self, tool: str, side: str) -> list[dict[str, Any]]:
        return [
            self.findings[tool, check, side]
            for known, check in CHECKS
            if known == tool and (tool, check, side) in self.findings
        ]

    def starts(self, tool: str, side: str) -> str:
        errors = [finding["error"] for finding in self.of(tool, side) if "error" in finding]
        return f"no: `{code(errors[0])}`" if errors else "yes"

    def right(self, tool: str, side: str) -> str:
        found = self.of(tool, side)
        if all("error" in finding for finding in found):
            return "–"
        return "yes" if all(finding["right"] for finding in found) else "**no**"

    @property
    def ours_are_right(self) -> bool:
        return bool(self.findings) and all(
            finding["right"] for (_, _, side), finding in self.findings.items() if side == "ours"
        )


def code(text: str) -> str:
    """Text for a cell of a table, as code."""
    return text.replace("`", "'").replace("|", r"\|")[:240]


def read_comparison(name: str, report: Path, note: str = "") -> Compared:
    """What `compare.py` wrote.

    :raises ValueError: if that can't be read.
    """
    content = json.loads(report.read_text())
    findings = {
        (finding["tool"], finding["check"], finding["side"]): finding
        for finding in content["findings"]
    }
    return Compared(name, content["versions"], findings, note)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---"] * len(head)
    return [f"| {' | '.join(line)} |" for line in (head, rule, *lines)]


def section(text: str) -> str:
    """What stands between the marks on a page, with them; nothing if they don't."""
    begin, end = text.find(MARKS[0]), text.find(MARKS[1])
    return "" if begin < 0 or end < begin else text[begin : end + len(MARKS[1])]


def with_section(text: str, lines: Sequence[str]) -> str:
    """A page with these lines between the marks."""
    rest = text.replace(section(text), "").rstrip("\n") if section(text) else text.rstrip("\n")
    return "\n".join([rest, "", MARKS[0], "", *lines, "", MARKS[1], ""])


def page(kernels: Sequence[Compared], before: str = "") -> str:
    """The page, in Markdown, with the section of `make compare-here` that it had ``before``."""
    text = [
        "# Compared with bcc's own tools",
        "",
        "`make compare-kernels` wrote this page. On each kernel, bcc's tool and ours of the same "
        "name watched the same workloads, one after the other, and each was checked against what "
        "is known of the workload. bcc's tools are those of the Debian release that goes with the "
        "kernel, with the kernel's headers installed. The machines are virtual, with two emulated "
        "processors.",
        "",
        *table(
            ("kernel", "tool", "bcc's starts", "bcc's is right", "ours starts", "ours is right"),
            [
                (
                    kernel.name,
                    tool,
                    kernel.starts(tool, "bcc"),
                    kernel.right(tool, "bcc"),
                    kernel.starts(tool, "ours"),
                    kernel.right(tool, "ours"),
                )
                for kernel in kernels
                for tool in TOOLS
            ],
        ),
        "",
        "A tool is right if everything below that was measured of it is right.",
        "",
        "## Versions",
        "",
        *table(
            ("kernel", "release", "bcc", "Python"),
            [
                (kernel.name, *(kernel.versions[name] for name in ("kernel", "bcc", "python")))
                for kernel in kernels
            ],
        ),
    ]
    text += [line for kernel in kernels if kernel.note for line in ("", f"{kernel.note}")]
    text += ["", "## What was measured, and why ours is right where they differ"]
    for (tool, check), (workload, right) in CHECKS.items():
        text += ["", f"### {tool}: {check}", "", f"Watched: {workload}. Right: {right}.", ""]
        lines = []
        differs = False
        for kernel in kernels:
            sides = [kernel.findings[tool, check, side] for side in ("bcc", "ours")]
            lines.append((kernel.name, *(text for side in sides for text in cells(side))))
            differs |= not sides[0]["right"] and "error" not in sides[0]
        # Some truths are counts of their own run.
        text += table(("kernel", "bcc's", "truth", "ours", "truth"), lines)
        if differs:
            text += ["", REASONS[tool, check]]
        if any(LOST in line[1] for line in lines):
            text += ["", REASONS["lost"]]
    if any(kernel.starts(tool, "bcc") != "yes" for kernel in kernels for tool in TOOLS):
        text += ["", "### Tools that don't start", "", REASONS["start"]]
    kept = section(before)
    return "\n".join([*text, *(["", kept] if kept else [])]) + "\n"


def cells(finding: dict[str, Any]) -> tuple[str, str]:
    """What was found, in bold if it is wrong, and what is true."""
    if "error" in finding:
        return "doesn't start", ""
    found = code(finding["found"])
    return found if finding["right"] else f"**{found}**", finding["truth"]
