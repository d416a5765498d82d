"""Without root: tools run with CAP_BPF and CAP_PERFMON, and docs/privileges.md is right."""
from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from pytools.facts.kernel import running
from support import (
    PATIENCE,
    ROOT,
    TOOLS,
    Tool,
    busy_loops,
    last_cpu,
    needs_btf,
    python_child,
    all_tools,
)

NOBODY = 65534
CAP_DAC_READ_SEARCH, CAP_PERFMON, CAP_BPF = 2, 38, 39
PAGE = ROOT / "docs" / "privileges.md"


@pytest.fixture(autouse=True)
def perf_events() -> Iterator[None]:
    """Where all but root are kept from perf events, as docs/privileges.md says, they are not."""
    level = Path("/proc/sys/kernel/perf_event_paranoid")
    before = level.read_text()
    if int(before) > 2:
        level.write_text("2")
    yield
    level.write_text(before)


def user_with(home: Path, *capabilities: int, mount: bool = True) -> list[str]:
    """The words before a command that is to run as a user with those capabilities only, in
    a mount namespace with tracefs, as root mounts it, or with none."""
    home.mkdir(exist_ok=True)
    os.chown(home, NOBODY, NOBODY)
    held = ",".join(f"+cap_{number}" for number in capabilities)
    there = "[ -d /sys/kernel/tracing/events ]"
    tracefs = f"{there} || mount -t tracefs tracefs /sys/kernel/tracing" if mount else "true"
    # Before Linux v5.11 maps count as locked memory, of which a user has little.
    limit = ["prlimit", "--memlock=unlimited"] if running().version < (5, 11) else []
    return [
        "unshare", "--mount", "sh", "-c", f'{tracefs}; exec "$@"', "sh",
        *limit, "setpriv",
        f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs",
        f"--inh-caps={held}", f"--ambient-caps={held}", f"--bounding-set=-all,{held}",
        "env", "-u", "XDG_CACHE_HOME", f"HOME={home}",
    ]  # fmt: skip


def tool_of_a_user(name: str, home: Path, *capabilities: int, mount: bool = True) -> str:
    """A command that is the tool, started by such a user."""
    script = home.parent / f"{name}-of-a-user"
    command = [*user_with(home, *capabilities, mount=mount), str(TOOLS / name)]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder that a user without privileges can use."""
    folder = tmp_path
    while folder.stat().st_uid == 0 and folder != Path("/tmp") and not folder.stat().st_mode & 1:
        folder.chmod(folder.stat().st_mode | 0o111)
        folder = folder.parent
    return tmp_path / "home"


@needs_btf
def test_runqlen_sees_the_queue_without_root(home: Path) -> None:
    command = tool_of_a_user("runqlen", home, CAP_BPF, CAP_PERFMON, mount=False)
    with busy_loops(last_cpu(), 4), Tool(command, "--json", "-C") as tool:
        with pytest.raises(subprocess.TimeoutExpired):
            tool.process.wait(1)
        records = [json.loads(line) for line in tool.stop().splitlines()]
    (record,) = (record for record in records if record["key"] == {"cpu": last_cpu()})
    waiting = sum(bucket["count"] for bucket in record["buckets"] if bucket["lo"] >= 3)
    assert waiting > 0.8 * record["samples"] > 0
    # Compiled by the user, and kept where only the user may write.
    assert list((home / ".cache" / "pytools").iterdir())


SWITCHES = """
import os, sys
print(os.getpid(), flush=True)
sys.stdin.readline()
a, b = os.pipe(), os.pipe()
if not os.fork():
    for _ in range(1000):
        os.read(a[0], 1)
        os.write(b[1], b"x")
    os._exit(0)
for _ in range(1000):
    os.write(a[1], b"x")
    os.read(b[0], 1)
print("done", flush=True)
sys.stdin.readline()
"""


def test_runqlat_sees_a_process_of_another_user_without_root(home: Path) -> None:
    command = tool_of_a_user("runqlat", home, CAP_BPF, CAP_PERFMON, mount=False)
    with python_child(SWITCHES) as child:
        assert child.stdin is not None and child.stdout is not None
        pid = int(child.stdout.readline())
        with Tool(command, "--json", "-p", str(pid)) as tool:
            before = int(Path(f"/proc/{pid}/schedstat").read_text().split()[2])
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            slices = int(Path(f"/proc/{pid}/schedstat").read_text().split()[2]) - before
            records = [json.loads(line) for line in tool.stop().splitlines()]
    samples = sum(record["samples"] for record in records)
    # Before and after these moments it may get the CPU a few times more.
    assert slices > 500 and 0.95 * slices <= samples <= slices + 20


@pytest.mark.every_kernel
def test_opensnoop_sees_every_open_where_it_may_read_tracefs(home: Path, tmp_path: Path) -> None:
    opener = (
        "import os, sys\nprint(os.getpid(), flush=True)\nsys.stdin.readline()\n"
        "for n in range(50):\n    os.close(os.open(sys.argv[1], os.O_RDONLY))\n"
        "print('done', flush=True)\nsys.stdin.readline()\n"
    )
    file = tmp_path / "file"
    file.touch()
    command = tool_of_a_user("opensnoop", home, CAP_BPF, CAP_PERFMON, CAP_DAC_READ_SEARCH)
    with python_child(opener, str(file)) as child:
        assert child.stdin is not None and child.stdout is not None
        pid = int(child.stdout.readline())
        with Tool(command, "--json", "-p", str(pid)) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            records = [json.loads(line) for line in tool.stop().splitlines()]
    assert [record["path"] for record in records] == [str(file)] * 50


@pytest.mark.host_only
def test_without_a_way_into_tracefs_a_tool_says_what_root_can_do(home: Path) -> None:
    command = user_with(home, CAP_BPF, CAP_PERFMON)
    for tool in ("opensnoop", "execsnoop"):
        result = subprocess.run(
            [*command, TOOLS / tool, "--duration", "0"],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
        assert "mount -o remount,gid=GROUP,mode=750 /sys/kernel/tracing" in result.stderr


def documented(kind: str) -> set[str]:
    """The tools of a row of the page's table."""
    found = re.search(rf"^\| {kind} \|.*\| (.*) \|$", PAGE.read_text(), re.M)
    assert found, kind
    return set(found.group(1).replace(",", " ").split()) - {"none"}


@pytest.mark.host_only
def test_the_page_says_which_tools_need_tracefs(home: Path) -> None:
    """Each is asked by a user with both capabilities, where tracefs is mounted for root."""
    without, needing = documented("nothing else"), documented("tracefs")
    others = documented("more")
    assert without | needing | others == set(all_tools())
    result = subprocess.run(
        [*user_with(home, CAP_BPF, CAP_PERFMON), ROOT / "sbin" / "pytools", "doctor", "--json"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    records = {record["name"]: record for record in map(json.loads, result.stdout.splitlines())}
    for tool in without | needing:
        why_not = records[tool]["why_not"] or ""
        assert ("/sys/kernel/tracing" in why_not) == (tool in needing), (tool, why_not)
        assert tool in needing or records[tool]["works"], (tool, why_not)
