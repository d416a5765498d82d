"""Filters: what a user names is checked, and becomes C and numbers only."""
from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

import capture
from pytools import filters
from pytools.compiler import Compiler
from pytools.errors import Failure, Usage
from pytools.filters import Filter
from pytools.template import render

NO_PROCESS = 2**22  # one more than the highest process id there can be
PROGRAM = (
    "$FILTER\nPERF_EVENT(program)\n{\n"
    "\tstruct task_struct *task = (struct task_struct *)bpf_get_current_task();\n"
    "\treturn FUNCTION(task);\n}\n"
)


def compiles(given: Filter, function: str, release: str) -> None:
    template = PROGRAM.replace("FUNCTION", function)
    with Compiler() as compiler:
        compiler.compile(
            render(template, capture.recorded(release), {"FILTER": given.code}, given.values)
        )


@pytest.mark.parametrize("release", capture.RECORDED)
@pytest.mark.parametrize("controllers", [[], ["cpu", "cpuacct"], ["memory"]])
def test_a_cgroup_filter_compiles_on_every_kernel(
    controllers: list[str], release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "_hierarchy", lambda path: controllers)
    compiles(filters.cgroup("/"), "in_cgroup", release)


@pytest.mark.parametrize("release", capture.RECORDED)
def test_a_mount_namespace_filter_compiles_on_every_kernel(release: str) -> None:
    given = filters.mount_namespace(os.getpid())
    assert given.values == {"MOUNT_NAMESPACE": os.stat("/proc/self/ns/mnt").st_ino}
    compiles(given, "in_mount_namespace", release)


def test_without_an_argument_everything_passes() -> None:
    for given, function in (
        (filters.cgroup(None), "in_cgroup"),
        (filters.mount_namespace(None), "in_mount_namespace"),
    ):
        assert not given.values
        compiles(given, function, "6.12")


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
        filters.cgroup(path)


def test_no_path_s_text_comes_into_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / '"; bpf_trace_printk($UNIT) zqxj'
    folder.mkdir()
    monkeypatch.setattr(filters, "_hierarchy", lambda path: [])
    given = filters.cgroup(str(folder))
    assert "zqxj" not in given.code
    assert given.values["CGROUP_ID"] == folder.stat().st_ino
    assert all(type(value) is int for value in given.values.values())


@hypothesis.given(st.text(max_size=50))
def test_any_path_is_a_cgroup_or_a_failure(path: str) -> None:
    if "\0" in path:
        return  # no argument of a program has one
    try:
        filters.cgroup(path)
    except Failure:
        pass


MOUNTINFO = """\
24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
25 24 0:23 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
26 24 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
27 24 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
28 1 0:25 /system.slice/x.service /inside\\040it rw - cgroup2 cgroup2 rw
"""


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

    def opened(name: str, *rest: object) -> object:
        return real(table if name == "/proc/self/mountinfo" else name, *rest)  # type: ignore

    monkeypatch.setattr("builtins.open", opened)
    monkeypatch.setattr(os.path, "isdir", lambda name: True)
    monkeypatch.setattr(os.path, "realpath", lambda name: name)
    assert filters._hierarchy(path) == controllers
    if controllers is not None:
        assert filters._level(path) == level


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
        filters.mount_namespace(NO_PROCESS)


def test_filters_have_the_placeholders_that_they_give_values_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filters, "_hierarchy", lambda path: [])
    for given in (filters.cgroup("/"), filters.mount_namespace(os.getpid())):
        assert set(given.values) <= set(re.findall(r"\$([A-Z_]+)", given.code))
