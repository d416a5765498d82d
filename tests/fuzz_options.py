#!/usr/bin/python3
"""Random command lines for all tools: each ends with status 0, 1 or 2, with one line where it
fails, and leaves nothing attached.

    tests/fuzz_options.py [--sets N] [--seed N] [--attach N]

Each runs in a process of its own, which has Python and the library already (support.in_fork). Most
end in the parser. Of those that don't, one in N goes the whole way; the others end where the
program would be compiled, after all that was said of the options.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import shlex
import signal
import sys
import tempfile
from typing import Any, Iterator, Sequence

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), HERE]

import capture  # noqa: E402
import support  # noqa: E402
from programs import program_ids, wait_until_detached  # noqa: E402
from pytools.load import program  # noqa: E402

STALLED_SECONDS = 60
VERBOSE = (": rewritten for ", ": compiled: ", ": image ")
LONG = 64 * 1024
# What somebody may type, or another program may put there.
NUMBERS = (
    "0", "-0", "+1", "1", "2", "-1", "255", "256", "4095", "4096", "65535", "65536", "4194304",
    "4194305", "2147483647", "2147483648", "4294967295", "4294967296", "9223372036854775807",
    "9223372036854775808", "18446744073709551615", "18446744073709551616", "-9223372036854775809",
    "9" * 400, "9" * 5000, "1e3", "1e308", "1e309", "-1e309", "nan", "-nan", "inf", "-inf", "0.1",
    "1e-320", "0x10", "0b1", "1_000", "\uff11", "\u0663", "1,2", "1,", ",", "1,,2", "1,-1",
    ",".join(map(str, range(1, 3000))), "1;2", "1 2", " 1", "1\n", "1\t", "++1", "--1", "00",
)  # fmt: skip
TEXTS = (
    "", " ", "-", "--", "---", "/", "//", ".", "..", "../../..", "~", "*", "?", "[", "[!", "[]",
    "{}", "%", "%s%n", "$(reboot)", "`id`", ";", "|", "&", "'", '"', "\\", "\\\\", "$EVENT",
    "${WANTED}", "*/", "/*", "//", "\n#include </etc/shadow>\n", '"; return 1; //', "a" * 15,
    "a" * 16, "a" * 255, "a" * 4095, "a" * 4096, "a" * LONG, "\x01", "\x1b[2J",
    "\x1b]0;title\x07", "\r", "\n", "a\nb", "\x7f", "\x85", "\x9b31m", "\u202egnp.exe", "\u2066",
    "\u200b", "\ufeff", "\u0301", "\udcff", "\udc80a", "gr\xf6\xdfe", "\u6771\u4eac",
    "\U0001f600", "(", ")", "(a+)+$", "(a*)*b", "(.*)*x", "(?P<a>", "\\1", "a{9999}",
    "a{99999999999}", "((((((((((a*)*)*)*)*)*)*)*)*)*", "*a" * 200, "[a-z" * 50, "^$", "(?i)a",
    "x|" * 500, "init", "lo", "eth99", "sda", "loop0", "root", "nobody", "ENOENT", "EWHAT",
    "O_WRONLY", "O_NOTHING", "read", "sys_read", "t:sched:sched_switch", "t:sched:*", "t::", "t:",
    "p:", "u:", "::", ":::", "u:c:*", "c:getppid", "c:", ":c", "p:c:getpp*", "/bin/sh:*",
    "/dev/zero:x", "/dev/null:x", "/:x", "/dev/null", "/dev/full", "/dev/tty", "/nonexistent/x",
    "/proc/self", "/proc/self/mem:x", "/proc/1/ns/net", "/sys/fs/cgroup", "/proc", "/etc/passwd",
    "/etc/passwd/x", "/dev/fd/99", "file",
)  # fmt: skip


def value(chance: random.Random, action: argparse.Action) -> str:
    """A value for an option or an argument: one that may do, or any."""
    what = chance.random()
    if action.dest == "command":  # whatever is named there is run
        return capture.SAMPLES["command"]
    if action.choices and what < 0.5:
        return str(chance.choice(list(action.choices)))
    if what < 0.25 and action.dest in capture.SAMPLES:
        return capture.SAMPLES[action.dest]
    if what < 0.35:
        length = chance.choice((1, 3, 8, 16, 64))
        return os.fsdecode(bytes(chance.randrange(1, 256) for _ in range(length)))
    return chance.choice(NUMBERS if what < 0.6 else TEXTS)


def command_line(chance: random.Random, tool: str) -> list[str]:
    """A command line of up to eight options and arguments, which ends at once."""
    parser = capture.load(tool).parser
    given = []
    for _ in range(chance.randrange(9)):
        action = chance.choice(parser._actions)
        if action.dest in ("ebpf", "help", "schema", "version") and chance.random() < 0.8:
            continue  # they end all
        needs_value = action.nargs != 0
        text = value(chance, action) if needs_value else ""
        if not action.option_strings:
            given.append(text)
        elif not needs_value:
            given.append(chance.choice(action.option_strings))
        else:
            name = chance.choice(action.option_strings)
            joined = name + ("=" if name.startswith("--") else "") + text
            given += [joined] if chance.random() < 0.5 else [name, text]
    ends = any(action.dest == "duration" for action in parser._actions)
    return [
        *(support.needed(tool, given) if chance.random() < 0.7 else given),
        *["--duration=0"] * ends,
    ]


def run(tool: str, arguments: Sequence[str], attach: bool) -> tuple[int, bytes, bytes]:
    """Its status, and what it wrote to standard output and error."""

    def stop(*rest: object) -> None:
        raise KeyboardInterrupt

    def before() -> None:
        signal.alarm(STALLED_SECONDS)
        if not attach:
            program.prepare = stop  # type: ignore[assignment]

    return support.forked(tool, arguments, before)


def mistake(tool: str, status: int, output: bytes, messages: bytes) -> str:
    """What is wrong with how a tool ended; empty if nothing is."""
    lines = messages.decode("utf-8", "surrogateescape").split("\n")
    if status == -signal.SIGALRM:
        return "stalled"
    if status not in (0, 1, 2):
        return f"status {status}"
    if lines.pop() or not all(line.replace("\t", "").isprintable() for line in lines):
        return "a message that is no line"
    if not output.decode().replace("\n", "").replace("\t", "").isprintable():
        return "output with control characters"
    # bt says what is wrong with a program as bpftrace does.
    failed = [
        line for line in lines if line.startswith(f"{tool}: ") or tool == "bt" and "ERROR: " in line
    ]
    if status and not failed:
        return "no reason"
    # With -v, it also says what was compiled before it came to that.
    lines = [line for line in lines if not line.startswith(VERBOSE, len(tool))]
    if status == 2 and (len(lines) != 1 or output):
        return f"{len(lines)} lines of bad usage"
    if any("Traceback" in line for line in lines):
        return "a traceback"
    return ""


def mistakes(
    sets: int, seed: int, attach: int, counts: collections.Counter[Any]
) -> Iterator[tuple[str, list[str], str, bytes]]:
    """(tool, command line, what is wrong, what it said) of each of so many that went wrong."""
    chance = random.Random(seed)
    tools = support.all_tools()
    started, before = 0, program_ids() if attach else set()
    place = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # for the files that they name
        try:
            for number in range(sets):
                tool = tools[number % len(tools)]
                arguments = command_line(chance, tool)
                started += 1
                attached = bool(attach) and not started % attach
                status, output, messages = run(tool, arguments, attached)
                counts[status] += 1
                wrong = mistake(tool, status, output, messages)
                if wrong:
                    yield tool, arguments, wrong, messages
        finally:
            os.chdir(place)
    if attach:
        wait_until_detached(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--attach", type=int, default=20)
    options = parser.parse_args()
    counts: collections.Counter[Any] = collections.Counter()
    found = 0
    with contextlib.suppress(KeyboardInterrupt):
        for tool, arguments, wrong, messages in mistakes(
            options.sets, options.seed, options.attach, counts
        ):
            found += 1
            line = shlex.join([tool, *arguments])
            print(f"{wrong}: {ascii(line)[:300]}\n\t{ascii(messages[-300:])}", flush=True)
    by_status = ", ".join(f"{count} status {status}" for status, count in sorted(counts.items()))
    print(f"{sum(counts.values())} command lines, seed {options.seed}: {by_status}; {found} wrong")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
