"""Filters: what a user names is checked, and becomes C and numbers only."""
from __future__ import annotations

import argparse
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

import capture
import golden
from pytools.load import pinned
from pytools.tool import filters
from pytools.compile.compiler import Compiler
from pytools.base.errors import Failure, Usage
from pytools.tool.filters import Filter
from pytools.compile.unrendered import Unrendered
from pytools.compile.template import render
from support import ROOT

NO_PROCESS = 2**22  # one more than the highest process id there can be
OF_TASKS = (
    "$WANTED\nPERF_EVENT(program)\n{\n"
    "\tstruct task_struct *task = (struct task_struct *)bpf_get_current_task();\n"
    "\treturn wanted(task);\n}\n"
)
OF_SOCKETS = (
    '#include "ends.h"\n$WANTED\nPERF_EVENT(program)\n{\n'
    "\tstruct ends ends = {};\n\treturn wanted_socket(&ends);\n}\n"
)
# Each filter alone, and all of them.
GIVEN: dict[str, dict[str, Any]] = {
    "none": {},
    "pid": {"pid": [os.getpid()]},
    "pids": {"pid": [1, os.getpid()]},
    "tids": {"tid": [1, os.getpid()]},
    "ppid": {"ppid": 1},
    "uid": {"uid": 0},
    "comm": {"comm": "cat"},
    "comm begins": {"comm": "cat*"},
    "comm as a pattern": {"comm": "*c[!a-c]?"},
    "thread": {"thread": "*worker"},
    "name": {"name_part": "cat"},
    "pidns": {"pidns": os.getpid()},
    "mntns": {"mntns": os.getpid()},
    "cgroup": {"cgroup": "/"},
}
GIVEN["cgroupmap"] = {"cgroupmap": "/sys/fs/bpf/cgroups"}
GIVEN["mntnsmap"] = {"mntnsmap": "/sys/fs/bpf/namespaces"}
GIVEN["all"] = {name: value for given in GIVEN.values() for name, value in given.items()}
GIVEN["exec"] = {"command": ["true"]}
GIVEN_SOCKETS: dict[str, dict[str, Any]] = {
    "none": {},
    "local ports": {"lports": [80, 443]},
    "remote ports": {"rports": [80]},
    "ports": {"ports": [80]},
    "version": {"ip": 6},
    "namespace": {"netns": str(os.getpid())},
}
GIVEN_SOCKETS["all"] = {n: value for given in GIVEN_SOCKETS.values() for n, value in given.items()}


def tasks(**given: Any) -> Filter:
    nothing = {"pid": None, "tid": None, "comm": None, "pidns": None, "mntns": None, "cgroup": None}
    return filters.tasks(argparse.Namespace(**{**nothing, **given}))


def compiles_on_every_kernel(given: Filter, program: str = OF_TASKS) -> None:
    """Where the text is another one, but for the padding."""
    source = Unrendered(program, {"WANTED": given.code}, given.values, given.settings)
    seen = set()
    for release in capture.RECORDED:
        found = render(source, capture.recorded(release))
        if golden.form(found.text) in seen:
            continue
        seen.add(golden.form(found.text))
        with Compiler() as compiler:
            image = compiler.compile(found)
        (filtering,) = (each for each in image.programs if each.kind == "perf_event")
        assert {name for _, name in filtering.settings} == set(given.settings), release
        made = {"family", "family_counts"} if "family.h" in given.code else set()
        maps = {*given.entries, *given.numbers, *given.pinned, *made}
        assert {spec.name for spec in image.maps} == maps, release


@pytest.mark.rendering
@pytest.mark.parametrize("name", GIVEN)
def test_a_filter_compiles_on_every_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "_hierarchy", lambda path: [])
    monkeypatch.setattr(pinned, "open_hash", lambda path, key_bytes: 0)
    compiles_on_every_kernel(tasks(**GIVEN[name]))


@pytest.mark.rendering
@pytest.mark.parametrize("name", GIVEN_SOCKETS)
def test_a_filter_of_sockets_compiles_on_every_kernel(name: str) -> None:
    given = filters.sockets(argparse.Namespace(**{"ip": None, **GIVEN_SOCKETS[name]}))
    compiles_on_every_kernel(given, OF_SOCKETS)


@pytest.mark.rendering
@pytest.mark.parametrize("controllers", [["cpu", "cpuacct"], ["memory"]])
def test_a_filter_of_a_version_1_cgroup_compiles_on_every_kernel(
    controllers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "_hierarchy", lambda path: controllers)
    compiles_on_every_kernel(tasks(cgroup="/"))


def test_namespaces_are_known_by_their_inodes() -> None:
    for kind, name in (("mnt", "MOUNT_NAMESPACE"), ("pid", "PID_NAMESPACE")):
        given = tasks(**{f"{kind}ns": os.getpid()})
        assert given.settings == {name: os.stat(f"/proc/self/ns/{kind}").st_ino}


@pytest.mark.host_only
def test_many_pids_are_the_entries_of_a_map() -> None:
    assert tasks(pid=[os.getpid(), 1, 1]).entries == {"wanted_pids": [1, os.getpid()]}
    assert tasks(pid=[1]).settings == {"PID": 1}


@pytest.mark.host_only
@pytest.mark.parametrize("name", ["", "sixteen letters!", "\u00e9" * 8])
def test_a_name_that_no_command_can_have_is_refused(name: str) -> None:
    with pytest.raises(Usage, match="no command's name"):
        tasks(comm=name)


@pytest.mark.host_only
@pytest.mark.parametrize(
    "path, message",
    [
        ("/nonexistent", "No such file or directory"),
        ("/", "not a cgroup"),
        ("/proc/self/cgroup", "not a cgroup"),
        ("/dev/null", "not a cgroup"),
        ("", "No such file or directory"),
        ("/sys/fs/cgroup/\x1b[2J", "No such file or directory"),
        ("a" * 5000, "File name too long"),
    ],
)
def test_what_is_no_cgroup_is_named(path: str, message: str) -> None:
    with pytest.raises(Failure, match=message):
        tasks(cgroup=path)


@pytest.mark.host_only
def test_no_path_s_text_comes_into_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / '"; bpf_trace_printk($UNIT) zqxj'
    folder.mkdir()
    monkeypatch.setattr(filters, "_hierarchy", lambda path: [])
    given = tasks(cgroup=str(folder))
    assert "zqxj" not in given.code
    assert given.settings["CGROUP_ID"] == folder.stat().st_ino
    assert all(type(value) is int for value in given.settings.values())


@pytest.mark.host_only
@hypothesis.given(st.text(max_size=50))
def test_any_path_is_a_cgroup_or_a_failure(path: str) -> None:
    if "\0" in path:
        return  # no argument of a program has one
    try:
        tasks(cgroup=path)
    except Failure:
        pass


MOUNTINFO = """\
24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
25 24 0:23 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
26 24 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
27 24 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
28 1 0:25 /system.slice/x.service /inside\\040it rw - cgroup2 cgroup2 rw
"""


@pytest.mark.host_only
@pytest.mark.parametrize(
    "path, controllers, level",
    [
        ("/sys/fs/cgroup/cpu,cpuacct", ["cpu", "cpuacct", "rw"], 0),
        ("/sys/fs/cgroup/cpu,cpuacct/a/b", ["cpu", "cpuacct", "rw"], 2),
        ("/sys/fs/cgroup/systemd/a", ["name=systemd", "rw"], 1),
        ("/sys/fs/cgroup/unified", [], 0),
        ("/sys/fs/cgroup/unified/a", [], 1),
        ("/inside it", [], 2),
        ("/inside it/deeper", [], 3),
        ("/sys/fs/cgroup", None, 0),
        ("/sys/fs/cgroup/unifiedx", None, 0),
    ],
)
def test_a_cgroup_s_hierarchy_and_depth_come_from_its_mount(
    path: str,
    controllers: list[str] | None,
    level: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTINFO)
    real = open

    def opened(name: str, *rest: object, **named: object) -> object:
        path = table if name == "/proc/self/mountinfo" else name
        return real(path, *rest, **named)  # type: ignore

    monkeypatch.setattr("builtins.open", opened)
    monkeypatch.setattr(os.path, "isdir", lambda name: True)
    monkeypatch.setattr(os.path, "realpath", lambda name: name)
    assert filters._hierarchy(path) == controllers
    if controllers is not None:
        assert filters._level(path) == level


@pytest.mark.host_only
def test_what_users_have_mounted_anywhere_does_no_harm() -> None:
    """At paths that no encoding has, that have ends of lines in them, or octal numbers."""
    code = (
        "import os, subprocess, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pytools.tool import filters\n"
        "for name in (b'\\xff', b'a\\rb c', b'a\\nb', b'\\\\134', 'größe'.encode()):\n"
        "    path = b'/run/' + name; os.mkdir(path)\n"
        "    subprocess.run([b'mount', b'-t', b'cgroup2', b'none', path], check=True)\n"
        "    inner = os.fsdecode(path + b'/pytools-inner')\n"
        "    os.makedirs(inner, exist_ok=True)\n"
        "    print(filters._hierarchy(inner), filters._level(inner))\n"
        "    os.rmdir(inner)\n"
    )
    command = ["unshare", "-m", "sh", "-ec", 'mount -t tmpfs none /run; exec "$0" "$@"']
    result = subprocess.run(
        [*command, "/usr/bin/python3", "-c", code, str(ROOT / "lib")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.stdout.splitlines() == ["[] 1"] * 5, result.stderr


def test_processes_and_threads_that_exist_are_told_from_others() -> None:
    filters.process_exists(os.getpid())
    with pytest.raises(Usage, match=f"there is no process {NO_PROCESS}"):
        filters.process_exists(NO_PROCESS)
    ready, end = threading.Event(), threading.Event()
    ids = []

    def run() -> None:
        ids.append(threading.get_native_id())
        ready.set()
        end.wait()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        filters.thread_exists(ids[0])
    finally:
        end.set()
        thread.join()
    with pytest.raises(Usage, match=f"there is no .* {NO_PROCESS}"):
        filters.thread_exists(NO_PROCESS)
    with pytest.raises(Usage):
        tasks(mntns=NO_PROCESS)
