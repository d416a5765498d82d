"""How long the tools take from exec to exit, beside bcc's of the same name.

Ours attach, read once, print, and end (``--duration 0``). So do bcc's: ``peers/once`` ends
them where they would wait.
"""
from __future__ import annotations

import os
from typing import Iterator

import installed
from place import Place, progress
from processes import Trouble, spend
from table import Row

ROUNDS = 3
LIMIT = 0.80
# Any disk: what a tool takes to start is the same for all of them.
DISK = min(os.listdir("/sys/block"), default="sda")
# The tools, and the arguments that let bcc's print once.
TOOLS = {
    "runqlat": ["1", "1"],
    "runqslower": [],
    "cpudist": ["1", "1"],
    "profile": ["1"],
    "offcputime": ["1"],
    "offwaketime": ["1"],
    "wakeuptime": ["1"],
    "execsnoop": [],
    "opensnoop": [],
    "syscount": ["--duration", "1"],
    "biolatency": ["1", "1"],
    "biosnoop": [],
    "vfsstat": ["1", "1"],
    "filelife": [],
    "hardirqs": ["1", "1"],
    "wqlat": ["1", "1"],
    "oomkill": [],
    "cputhrottle": [],
    "drsnoop": [],
    "capable": [],
    "klockstat": ["-d", "1"],
    "futexctn": [],
    "softirqs": ["1", "1"],
    "memleak": ["-p", str(os.getpid()), "1", "1"],
    "slabratetop": ["-C", "1", "1"],
    "biotop": ["-C", "1", "1"],
    "bitesize": [],
    "biopattern": ["1", "1"],
    "biolatpcts": ["-i", "0", DISK],
    "exitsnoop": [],
    "sigsnoop": [],
    "killsnoop": [],
    "syncsnoop": [],
    "mountsnoop": [],
    "statsnoop": [],
    "cachestat": ["1", "1"],
    "cachetop": ["1"],
    "filetop": ["-C", "1", "1"],
    "dirtop": ["-C", "-d", "/", "1", "1"],
    "fileslower": [],
    "dcstat": ["1", "1"],
    "ext4dist": ["1", "1"],
    "ext4slower": [],
    "funclatency": ["-d", "1", "c:getppid"],
    "funcslower": ["c:getppid"],
    "stackcount": ["-D", "1", "c:getppid"],
}
# What ours cannot start without.
NEEDED = {
    "biolatpcts": [DISK],
    "memleak": ["-p", str(os.getpid())],
    "dirtop": ["-d", "/"],
    **dict.fromkeys(("funclatency", "funcslower", "stackcount"), ["c:getppid"]),
}
# Those that run only where there are kprobes.
NEED_FUNCTIONS = (
    "vfsstat", "filelife", "oomkill", "cputhrottle", "capable", "cachestat", "cachetop", "filetop",
    "dirtop", "fileslower", "dcstat", "ext4dist", "ext4slower",
)  # fmt: skip
# Those that ours in ``peers`` can stand in for.
STAND_INS = ("biosnoop", "execsnoop", "opensnoop")


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on starting each tool. Of each command's times the least:
    what else the machine does can only add."""
    for tool in TOOLS:
        if installed.kprobes() or tool not in NEED_FUNCTIONS:
            yield from _compared(place, tool)
        else:
            installed.note(f"{tool} needs kprobes. {installed.ELSEWHERE}")


def _compared(place: Place, tool: str) -> list[Row]:
    ours = installed.ours(tool, *NEEDED.get(tool, []), "--duration", "0")
    commands = {"warm": ours, "cold": [*ours, "--no-cache"]}
    # Tried once: that fills the caches that a warm start is to find.
    for command in commands.values():
        _wall(place, f"our {tool}", command)
    peer_is, peer = _peer(place, tool)
    if peer:
        commands["peer"] = peer
    least = {kind: float("inf") for kind in commands}
    for number in range(ROUNDS):
        progress(f"start of {tool} {number + 1}/{ROUNDS}")
        for kind, command in commands.items():
            least[kind] = min(least[kind], _wall(place, f"{kind} {tool}", command))
    limit = LIMIT if peer else None
    return [
        Row(f"{tool} {kind}, exec to exit", least[kind], least.get("peer"), peer_is, limit, "ms")
        for kind in ("warm", "cold")
    ]


def _peer(place: Place, tool: str) -> tuple[str, list[str]]:
    """bcc's tool or, where it cannot run, what stands in for it, if anything does: name
    and command."""
    name = f"bcc {tool}"
    try:
        command = _once(installed.bcc(tool, *TOOLS[tool]))
    except Trouble as error:
        installed.note(f"{error}.")
        return "", []
    try:
        _wall(place, name, command)
        return name, command
    except Trouble as error:
        if tool not in STAND_INS:
            elsewhere = "" if installed.kprobes() else f" {installed.ELSEWHERE}"
            installed.note(f"{error}.{elsewhere}")
            return "", []
        name, stand_in = installed.script_peer(tool)
        installed.note(f"{error}. In its place: {name}.")
        return name, _once(stand_in())


def _once(command: list[str]) -> list[str]:
    return installed.with_tracefs([str(installed.BENCH / "peers" / "once"), *command])


def _wall(place: Place, name: str, command: list[str]) -> float:
    """Milliseconds from fork to exit."""
    progress(f"start of {name}")
    return 1000 * spend(place.load("launch"), name, command, place.env).wall
