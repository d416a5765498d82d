"""How long the tools take from exec to exit, beside bcc's of the same name.

Ours attach, read once, print, and end (``--duration 0``). So do bcc's: ``peers/once`` ends
them where they would wait.
"""
from __future__ import annotations

from typing import Iterator

import installed
from place import Place, progress
from processes import Trouble, spend
from table import Row

ROUNDS = 3
LIMIT = 0.80
# The tools, and the arguments that let bcc's print once.
TOOLS = {
    "runqslower": [],
    "cpudist": ["1", "1"],
    "profile": ["1"],
    "offcputime": ["1"],
    "offwaketime": ["1"],
    "wakeuptime": ["1"],
    "execsnoop": [],
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
}
# Those that run only where there are kprobes.
NEED_FUNCTIONS = ("vfsstat", "filelife", "oomkill", "cputhrottle", "capable")
# Those that ours in ``peers`` can stand in for.
STAND_INS = ("biosnoop", "execsnoop")


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on starting each tool. Of each command's times the least:
    what else the machine does can only add."""
    for tool in TOOLS:
        if installed.kprobes() or tool not in NEED_FUNCTIONS:
            yield from _compared(place, tool)
        else:
            installed.note(f"{tool} needs kprobes. {installed.ELSEWHERE}")


def _compared(place: Place, tool: str) -> list[Row]:
    commands = {
        "warm": installed.ours(tool, "--duration", "0"),
        "cold": installed.ours(tool, "--duration", "0", "--no-cache"),
    }
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
    name, command = f"bcc {tool}", _once(installed.bcc(tool, *TOOLS[tool]))
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
