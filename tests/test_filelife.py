"""filelife reports files that are created and deleted, all of them and no others."""
from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pytools.facts.kernel import online_cpus
from support import Tool, python_child

# Creates files of known size in a folder and deletes them; the times of both are
# reported as [name, size, earliest and latest age in seconds].
FILES = """
import ctypes, json, os, sys, time
folder, number = sys.argv[1] + "/", int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
made = {}
for i in range(number):
    before = time.monotonic()
    fd = os.open(folder + f"file{i}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.ftruncate(fd, 7 * i)
    os.close(fd)
    made[i] = before, time.monotonic()
os.close(os.open(folder + "file0", os.O_WRONLY | os.O_CREAT))  # is there already
os.close(os.open(folder + "stays", os.O_WRONLY | os.O_CREAT))
os.unlink(folder + "old")
for name in ("nothing", "folder"):
    try:
        os.unlink(folder + name)  # fails
    except OSError:
        pass
os.link(folder + "file1", folder + "second")
os.unlink(folder + "second")  # the file has another name
found = []
for i, (before, after) in made.items():
    early = time.monotonic()
    os.unlink(folder + f"file{i}")
    found.append([f"file{i}", 7 * i, early - after, time.monotonic() - before])
print(json.dumps(found), flush=True)
sys.stdin.readline()
"""


def trace(folder: Path, number: int, *arguments: str) -> tuple[int, list[Any], list[Any]]:
    """The pid of the program, what it did, and what filelife says of it."""
    (folder / "old").write_text("old")
    (folder / "folder").mkdir()
    with python_child(FILES, str(folder), str(number)) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        filters = ["-p", str(child.pid)] if "-p" in arguments else []
        with Tool("filelife", "--json", *filters) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            done = json.loads(child.stdout.readline())
            events = [json.loads(line) for line in tool.stop().splitlines()]
        return child.pid, done, events


@pytest.mark.every_kernel
def test_a_thousand_files_of_known_age_and_size(tmp_path: Path) -> None:
    pid, done, events = trace(tmp_path, 1000, "-p")
    assert [(event["file"], event["size"]) for event in events] == [
        (name, size) for name, size, _, _ in done
    ]
    for event, (_, _, least, most) in zip(events, done):
        assert least <= event["age"] <= most
        assert event["pid"] == pid


def test_the_columns_that_bcc_has_come_first(tmp_path: Path) -> None:
    """awk '{ print $5 }' is the name, as with bcc's tool."""
    with Tool("filelife", "-p", str(os.getpid())) as tool:
        (tmp_path / "a file").write_text("12345")
        (tmp_path / "a file").unlink()
        head, line = tool.stop().splitlines()
    assert head.split() == ["TIME", "PID", "COMM", "AGE(s)", "FILE", "SIZE"]
    assert line.split()[4:] == ["a", "file", "5"]


@pytest.mark.any_types
def test_files_on_a_disk_without_a_filter() -> None:
    folder = Path(os.environ.get("PYTOOLS_SCRATCH", "/var/tmp")) / f"filelife-{os.getpid()}"
    folder.mkdir()
    try:
        pid, done, events = trace(folder, 30)
    finally:
        for name in ("stays", "old"):
            (folder / name).unlink(missing_ok=True)
        (folder / "folder").rmdir()
        folder.rmdir()
    names = [event["file"] for event in events if event["pid"] == pid]
    assert names == [name for name, _, _, _ in done]


# Creates a file and deletes it, again and again, on one CPU.
BRIEF = """
import os, sys
folder, number, cpu = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.sched_setaffinity(0, [cpu])
print("ready", flush=True)
sys.stdin.readline()
for i in range(number):
    os.close(os.open(folder + "/brief", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.unlink(folder + "/brief")
print("done", flush=True)
sys.stdin.readline()
"""
BRIEF_FILES = 1000


@pytest.mark.any_types
def test_files_of_all_cpus_at_once(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        children = []
        for cpu in online_cpus():
            folder = tmp_path / str(cpu)
            folder.mkdir()
            program = python_child(BRIEF, str(folder), str(BRIEF_FILES), str(cpu))
            children.append(stack.enter_context(program))
        with Tool("filelife", "--json") as tool:
            for child in children:
                assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
                child.stdin.write(b"\n")
                child.stdin.flush()
            for child in children:
                assert child.stdout and child.stdout.readline() == b"done\n"
            events = [json.loads(line) for line in tool.stop().splitlines()]
    assert b"lost" not in tool.messages
    counted = Counter(event["pid"] for event in events if event["file"] == "brief")
    assert counted == {child.pid: BRIEF_FILES for child in children}


# Creates and deletes files by names of all kinds, below its own root directory if one is given.
PATHS = """
import os, sys
folder, root = sys.argv[1:3]
if root:
    os.chroot(root)
os.chdir(folder)
print("ready", flush=True)
sys.stdin.readline()
deep = "/".join(f"level{number}" for number in range(30))
os.makedirs(deep)
for name in ("plain", "a b", "deep/../other", deep + "/leaf", "\\u00e9", "n" * 255):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    os.makedirs("deep", exist_ok=True)
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
    os.unlink(name)
at = os.open(deep, os.O_PATH)
os.close(os.open("by-descriptor", os.O_CREAT | os.O_WRONLY, dir_fd=at))
os.unlink("by-descriptor", dir_fd=at)
print("done", flush=True)
sys.stdin.readline()
"""


def paths(folder: str, root: str = "") -> tuple[list[str], list[str]]:
    """Those that such a program deletes in a folder, and what filelife says of them."""
    with python_child(PATHS, folder, root) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        with Tool("filelife", "-F", "--json", "-p", str(child.pid)) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            events = [json.loads(line) for line in tool.stop().splitlines()]
    deep = "/".join(f"level{number}" for number in range(30))
    names = ["plain", "a b", "other", f"{deep}/leaf", "\u00e9", "n" * 255, f"{deep}/by-descriptor"]
    return [f"{folder}/{name}" for name in names], [event["file"] for event in events]


def test_full_paths(tmp_path: Path) -> None:
    deleted, said = paths(str(tmp_path))
    assert said == deleted


@pytest.mark.every_kernel
def test_full_paths_across_mounts_and_within_the_root_of_the_process(tmp_path: Path) -> None:
    """Below a tmpfs in a folder, and below a bind mount of a folder of that."""
    (tmp_path / "outer").mkdir()
    mounts = [["-t", "tmpfs", "none", str(tmp_path / "outer")]]
    with contextlib.ExitStack() as stack:
        for arguments in mounts:
            subprocess.run(["mount", *arguments], check=True)
            stack.callback(subprocess.check_call, ["umount", arguments[-1]])
        for name in ("source/below", "target"):
            (tmp_path / "outer" / name).mkdir(parents=True)
        source, target = (str(tmp_path / "outer" / name) for name in ("source", "target"))
        subprocess.run(["mount", "--bind", source, target], check=True)
        stack.callback(subprocess.check_call, ["umount", target])
        deleted, said = paths(f"{target}/below")
        assert said == deleted
        for level in sorted(Path(source, "below").rglob("*"), reverse=True):
            level.rmdir()
        deleted, said = paths("/target/below", str(tmp_path / "outer"))
        assert said == deleted


def test_a_file_system_that_is_below_another_one_deletes_by_its_own_path(tmp_path: Path) -> None:
    """In an overlay: the file is known, and deleted, by the path that the process has for it."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "upper"], check=True)
    try:
        for name in ("files", "work"):
            (tmp_path / "upper" / name).mkdir()
        layers = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper/files"
        more = f"workdir={tmp_path}/upper/work"
        mounted = subprocess.run(
            ["mount", "-t", "overlay", "none", "-o", f"{layers},{more}", tmp_path / "merged"],
            capture_output=True,
        )
        if mounted.returncode:
            pytest.skip(f"no overlay can be mounted here: {mounted.stderr.decode()}")
        try:
            deleted, said = paths(str(tmp_path / "merged"))
            assert said == deleted
        finally:
            subprocess.run(["umount", tmp_path / "merged"], check=True)
    finally:
        subprocess.run(["umount", tmp_path / "upper"], check=True)
