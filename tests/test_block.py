"""What block tools say of disks, operations and flags, and what they ask a kernel for."""
from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import pytest

from capture import recorded
from pytools.tool.filters import EVERY_TASK, Filter
from pytools.domains import block
from pytools.facts import differences
from pytools.base.errors import Usage
from support import run_tool

pytestmark = pytest.mark.rendering


@pytest.mark.parametrize(
    "kind, words, letter, flags",
    [
        (0, "read", "R", None),
        (1 | 1 << 8, "write|sync", "W", "sync"),
        (1 | 1 << 8 | 1 << 14 | 1 << 9, "write|sync|meta|fua", "W", "sync|meta|fua"),
        (2 | 1 << 15, "flush|preflush", "F", "preflush"),
        (3, "discard", "D", None),
        (128, "zone-append", "A", None),
        (17, "operation 17", "N", None),
    ],
)
def test_kinds_in_words(kind: int, words: str, letter: str, flags: str | None) -> None:
    assert (block.kind_words(kind), block.letter(kind)) == (words, letter)
    assert block.flag_words(kind) == flags


def test_the_c_has_a_bit_for_each_flag_in_that_order() -> None:
    text = (Path(block.__file__).parents[1] / "compile" / "bpf" / "block.h").read_text()
    for number, flag in enumerate(block.FLAGS):
        assert f"(all >> __REQ_{flag.upper()} & 1) << {8 + number}" in text


def options(disk: str) -> argparse.Namespace:
    return argparse.Namespace(disk=disk, wanted=Filter(EVERY_TASK))


def test_disks_by_name_path_and_number(tmp_path: Path) -> None:
    name = next(
        name
        for name in sorted(os.listdir("/sys/block"))
        if os.path.exists(f"/dev/{name}") and os.path.exists(f"/sys/block/{name}/dev")
    )
    link = tmp_path / "link"
    link.symlink_to(f"/dev/{name}")
    numbers = {block.settings(options(text))["DISK"] for text in (name, f"/dev/{name}", str(link))}
    (number,) = numbers
    assert block.disk_name(number) == name
    major, minor = map(int, Path(f"/sys/block/{name}/dev").read_text().split(":"))
    assert number == major << 20 | minor


def test_a_disk_that_is_gone_is_shown_by_number() -> None:
    assert block.disk_name(4095 << 20 | 77) == "4095:77"
    assert block.disk_name(0) is None


@pytest.mark.parametrize("name", ["nothing", "", "/", "../etc/passwd", "null"])
def test_what_is_no_disk_is_bad_usage(name: str) -> None:
    with pytest.raises(Usage, match="there is no disk"):
        block.settings(options(name))


@pytest.mark.parametrize(
    "release, disk, status, origin, starts",
    [
        ("5.10", "READ(request, request, rq_disk)", "int", "request->bio", 3),
        ("6.1", "READ(request_queue, queue, disk)", "unsigned char", "request->bio", 3),
        ("6.12", "READ(request_queue, queue, disk)", "unsigned char", "request", 1),
        ("7.3", "READ(request_queue, queue, disk)", "unsigned char", "request", 1),
    ],
)
def test_differences_by_kernel(
    release: str, disk: str, status: str, origin: str, starts: int
) -> None:
    kernel = recorded(release)
    assert differences.REQUEST_DISK(kernel) == disk
    assert differences.COMPLETION_ARGUMENTS(kernel).split(", ")[1] == f"{status} status"
    assert differences.REQUEST_ORIGIN(kernel) == origin
    assert differences.REQUEST_STARTS(kernel).count("RAW_TRACEPOINT(") == starts
    assert ("struct request_queue" in differences.REQUEST_STARTS(kernel)) == (release == "5.10")


@pytest.mark.host_only
def test_a_disk_that_can_have_no_requests_is_no_silent_zero(tmp_path: Path) -> None:
    for tool, *arguments in (["biosnoop", "-d", "4095:1"], ["biolatpcts", "4095:1"]):
        result = run_tool(tool, "--duration", "0", *arguments)
        said = f"{tool}: nothing was seen: there is no disk 4095:1\n"
        assert (result.returncode, result.stderr) == (0, said)
    (tmp_path / "8:0" / "mq").mkdir(parents=True)
    (tmp_path / "8:1" / "partition").mkdir(parents=True)
    (tmp_path / "md0").mkdir()
    (tmp_path / "9:0").symlink_to("md0")
    assert block.idle("8:0", str(tmp_path)) == ""
    words = "8:1 is a partition: the I/O is that of the disk"
    assert block.idle("8:1", str(tmp_path)) == words
    words = "md0 has no requests of its own, but disks below it may"
    assert block.idle("9:0", str(tmp_path)) == words


class Counters:
    """A program's map ``strays``, as Growth reads it."""

    per_cpu = 2
    counts = {0: [1, 0], 1: [0, 0], 2: [2, 0], 3: [0, 3]}

    def items(self) -> list[tuple[int, list[int]]]:
        return list(self.counts.items())


def test_requests_without_room_and_without_an_end_are_lost_the_others_are_told_apart() -> None:
    """An end that the kernel did not show is known when the same request is issued again."""
    said: list[str] = []
    program: Any = argparse.Namespace(maps={"strays": Counters()})
    strays = block.Strays(program, said.append)
    assert strays.since_last() == (5, {"unmatched": 1})
    assert said == ["1 requests unmatched: they began unseen, likely before the start"]
    assert strays.since_last() == (0, {})
