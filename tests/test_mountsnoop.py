"""mountsnoop against a program that mounts and unmounts, in a mount namespace of its own."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from file_work import Worker, worker
from pytools.domains.mounts import CALLS, call_text
from support import Tool

SETUP = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0  # CLONE_NEWNS
assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE

def call(name, *arguments):
    return libc.syscall(NUMBERS[name], *arguments)
"""
# The numbers of calls since 5.1 are those of every machine. Older libraries don't know them.
NEW_API = {
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
}  # fmt: skip
TIMES = 10


def prepare(program: Worker) -> str:
    """Gives the program a mount namespace, whose number is returned."""
    program.do(f"NUMBERS = {NEW_API}\n{SETUP}")
    return os.readlink(f"/proc/{program.pid}/ns/mnt").strip("mnt:[]")


def trace(path: Path, work: str, *arguments: str) -> list[dict[str, Any]]:
    with worker(path) as program:
        namespace = prepare(program)
        with Tool("mountsnoop", "--json", "-p", str(program.pid), *arguments) as tool:
            program.do(work)
            lines = tool.stop().splitlines()
        events = [json.loads(line) for line in lines]
        for event in events:
            assert event["pid"] == event["tid"] == program.pid
            assert (event["ppid"], str(event["mnt_ns"])) == (os.getpid(), namespace)
    return events


@pytest.mark.every_kernel
def test_ten_mounts_by_the_old_calls(tmp_path: Path) -> None:
    work = f"""
for i in range({TIMES}):
    assert libc.mount(b"no\\\\ne", b".", b"tmpfs", 0x2 | 0x8, b"size=1m,mode=700") == 0
    os.umask(0)
    assert libc.umount2(b"{tmp_path}", 2) == 0
assert libc.mount(b"none", b"nonesuch", None, 0x1000, None) == -1
"""
    events = trace(tmp_path, work)
    expected = [
        'mount("no\\\\ne", ".", "tmpfs", MS_NOSUID|MS_NOEXEC, "size=1m,mode=700") = 0',
        f'umount("{tmp_path}", MNT_DETACH) = 0',
    ] * TIMES
    expected.append('mount("none", "nonesuch", NULL, MS_BIND, NULL) = -ENOENT')
    assert [event["call"] for event in events] == expected
    assert [event["error"] for event in events] == [None] * 2 * TIMES + ["ENOENT"]


@pytest.mark.every_kernel
def test_ten_mounts_by_the_new_calls(tmp_path: Path) -> None:
    work = f"""
for i in range({TIMES}):
    fs = call("fsopen", b"tmpfs", 1)
    assert call("fsconfig", fs, 1, b"size", b"1m", 0) == 0
    assert call("fsconfig", fs, 6, None, None, 0) == 0
    mount = call("fsmount", fs, 1, 0xA)
    assert call("move_mount", mount, b"", -100, b".", 4) == 0
    tree = call("open_tree", -100, b"{tmp_path}", 0x80001)
    assert libc.umount2(b"{tmp_path}", 0) in (0, -1)
    for each in (fs, mount, tree):
        os.close(each)
    libc.umount2(b"{tmp_path}", 2)
os.write(os.open("/dev/null", os.O_WRONLY), b"")
"""
    events = trace(tmp_path, work)
    made = [event for event in events if event["syscall"] != "umount"]
    assert len(made) == 6 * TIMES
    for number in range(TIMES):
        opened, size, create, mounted, moved, tree = made[6 * number : 6 * number + 6]
        fs, mount = opened["result"], mounted["result"]
        assert [each["call"] for each in (opened, size, create, mounted, moved, tree)] == [
            f'fsopen("tmpfs", FSOPEN_CLOEXEC) = {fs}',
            f'fsconfig({fs}, FSCONFIG_SET_STRING, "size", "1m", 0) = 0',
            f"fsconfig({fs}, FSCONFIG_CMD_CREATE, NULL, NULL, 0) = 0",
            f"fsmount({fs}, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID|MOUNT_ATTR_NOEXEC) = {mount}",
            f'move_mount({mount}, "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH) = 0',
            f'open_tree(AT_FDCWD, "{tmp_path}", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC) = '
            f'{tree["result"]}',
        ]


def test_the_columns_are_those_of_bcc(tmp_path: Path) -> None:
    with worker(tmp_path) as program:
        namespace = prepare(program)
        with Tool("mountsnoop", "-P", "-p", str(program.pid)) as tool:
            program.do("libc.umount2(b'/none\\x1b', 0)")
            head, line = tool.stop().splitlines()
    assert head.split() == "COMM PID TID PCOMM PPID MNT_NS CALL".split()
    assert line.split()[-6:-3] == [str(os.getpid()), namespace, r'umount("/none\x1b",']
    assert line.split()[-3:] == ["0x0)", "=", "-ENOENT"]


@pytest.mark.host_only
def test_arguments_that_cannot_be_read() -> None:
    number = [call.name for call in CALLS].index("mount_setattr")
    attributes = b"".join(value.to_bytes(8, "little") for value in (1, 0, 1 << 18, 0))
    arguments = [2**64 - 100, 0x1000, 0x8000, 0x2000, 32]
    assert call_text(number, arguments, b"\0\0", attributes, "0") == (
        "mount_setattr(AT_FDCWD, 0x1000, AT_RECURSIVE, "
        "{attr_set=MOUNT_ATTR_RDONLY, propagation=MS_PRIVATE}, 32) = 0"
    )
