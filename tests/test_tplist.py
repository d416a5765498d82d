"""tplist beside tracefs, bpftool, readelf and bpftrace."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytools.facts.btf import FUNC, TYPEDEF, Btf
from pytools.facts.kernel import running
from support import HAS_BTF, needs_btf, needs_functions, python_child, run_tool

host_only = pytest.mark.host_only
VMLINUX = "/sys/kernel/btf/vmlinux"


def listed(*arguments: str) -> list[str]:
    result = run_tool("tplist", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert len(lines) == len(set(lines))
    return list(lines)


@pytest.mark.every_kernel
@pytest.mark.any_types
def test_tracepoints_are_the_folders_of_tracefs() -> None:
    events = Path(running().tracefs) / "events"
    # Those of "ftrace" are of its own record types: nobody can attach to them.
    there = {
        f"tracepoint:{folder.parent.name}:{folder.name}"
        for folder in events.glob("*/*")
        if (folder / "id").exists() and folder.parent.name != "ftrace"
    }
    found = listed("tracepoint:*")
    assert set(found) == there and len(found) > 1000
    assert found == sorted(found)


@pytest.mark.any_types
def test_fields_of_tracepoints_are_those_of_their_formats() -> None:
    """Every name, also of __data_loc fields and arrays; nothing of the common ones."""
    records = [
        json.loads(line) for line in listed("-v", "--json", "tracepoint:sched:*", "t*:syscalls:*")
    ]
    assert len(records) > 300
    kernel = running()
    for record in records:
        fields = kernel.tracepoint_fields(*record["name"].split(":"))
        names = [field.name for field in fields if not field.name.startswith("common_")]
        shown = re.findall(r"(\w+)(?:\[[^]]*\])?(?:, |$)", record["arguments"])
        assert shown == names


@needs_functions
def test_functions_are_those_that_ftrace_lists() -> None:
    with open(f"{running().tracefs}/available_filter_functions") as lines:
        names = {line.split()[0] for line in lines}
    names = {name for name in names if not name.startswith("__ftrace_invalid_address__")}
    assert set(listed("kprobe:*")) == {f"kprobe:{name}" for name in names}
    fentry = {line.partition(":")[2] for line in listed("fentry:*")}
    if not HAS_BTF:  # which fentry needs, and arguments, too
        assert fentry == set()
        return
    assert fentry <= names and {"vfs_read", "vfs_unlink"} <= fentry
    assert listed("-v", "kprobe:vfs_read") == [
        "kprobe:vfs_read", "    struct file *file", "    char *buf", "    size_t count",
        "    loff_t *pos",
    ]  # fmt: skip


@pytest.mark.every_kernel
@needs_btf
def test_raw_tracepoints_are_those_of_the_types() -> None:
    found = listed("rawtracepoint:*")
    assert {"rawtracepoint:sys_exit", "rawtracepoint:sched_switch"} <= set(found)
    shown = listed("-v", "rawtracepoint:sched_process_exec")
    # Their arguments have names since Linux v6.6.
    words = [re.sub(r"\w+$", "", line).strip() for line in shown[1:]]
    named = ["struct task_struct *", "pid_t", "struct linux_binprm *"]
    assert words == named or [line.strip() for line in shown[1:]] == named


@needs_btf
@host_only
def test_types_are_spelled_as_bpftool_spells_them() -> None:
    """The arguments of every raw tracepoint, in C as libbpf writes it."""
    dump = subprocess.run(
        ["bpftool", "btf", "dump", "file", VMLINUX, "format", "c"],
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    witness = dict(re.findall(r"^typedef void \(\*btf_trace_(\w+)\)\((.*)\);$", dump, re.M))
    assert len(witness) > 1000
    btf = Btf.read(VMLINUX)
    types = btf.names(TYPEDEF)
    for name, arguments in witness.items():
        found = ", ".join(text for _, text in btf.parameters(types[f"btf_trace_{name}"]))
        assert found == arguments.replace("* const", "*const"), name
    shown_names = {line.partition(":")[2] for line in listed("rawtracepoint:*")}
    assert shown_names == set(witness)


@needs_btf
@host_only
def test_parameters_of_every_function_are_those_of_bpftool() -> None:
    dump = subprocess.run(
        ["bpftool", "btf", "dump", "file", VMLINUX, "-j"], stdout=subprocess.PIPE, check=True
    )
    types = {item["id"]: item for item in json.loads(dump.stdout)["types"]}
    functions = [item for item in types.values() if item["kind"] == "FUNC"]
    btf = Btf.read(VMLINUX)
    assert set(btf.names(FUNC)) == {item["name"] for item in functions}
    for item in functions[::17]:
        names = [param["name"] for param in types[item["type_id"]]["params"]]
        shown = [name or "(anon)" for name, _ in btf.parameters(item["id"])]
        assert shown == names


# Programs and libraries.

LIBRARIES = f"/usr/lib/{os.uname().machine}-linux-gnu"
LIBSTDCXX = f"{LIBRARIES}/libstdc++.so.6"  # it has probes


def of_readelf(path: str) -> set[str]:
    """PROVIDER:NAME of the USDT probes of a file."""
    notes = subprocess.run(
        ["readelf", "-n", path], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return set(map(":".join, re.findall(r"Provider: (\S+)\s+Name: (\S+)", notes)))


@host_only
def test_probes_of_a_process_are_those_of_the_files_it_runs() -> None:
    with python_child("import sys; print(flush=True); sys.stdin.readline()") as child:
        assert child.stdout and child.stdout.readline()
        found = listed("-p", str(child.pid), "usdt:*")
    files = {line.split(":")[1] for line in found}
    assert os.path.realpath(sys.executable) in files
    for path in files:
        mine = {line.split(":", 2)[2] for line in found if line.split(":")[1] == path}
        assert mine == of_readelf(path) != set()


@host_only
def test_arguments_of_probes_are_those_of_readelf() -> None:
    notes = subprocess.run(
        ["readelf", "-n", LIBSTDCXX], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    first: dict[str, list[str]] = {}
    for provider, name, arguments in re.findall(
        r"Provider: (\S+)\s+Name: (\S+)\s+Location:.*\s+Arguments: ?(.*)", notes
    ):
        first.setdefault(f"{provider}:{name}", arguments.split())
    for line in listed("-l", "stdc++", "-v", "--json", "usdt:*"):
        record = json.loads(line)
        name = record["name"].split(":", 1)[1]
        assert record["arguments"] == ", ".join(first.pop(name))
    assert not first


# bpftrace, which needs tracefs to be mounted.

MOUNT = 'mount -t tracefs none /sys/kernel/tracing; exec bpftrace "$@" 2>&1'


def of_bpftrace(*arguments: str) -> list[str]:
    result = subprocess.run(
        ["unshare", "-m", "sh", "-c", MOUNT, "sh", *arguments],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return [line for line in result.stdout.splitlines() if not line.startswith("WARNING")]


@host_only
@pytest.mark.parametrize("kind", ["tracepoint", "kprobe"])
def test_what_bpftrace_lists(kind: str) -> None:
    theirs = {line for line in of_bpftrace("-l") if line.startswith(kind + ":")}
    assert set(listed(f"{kind}:*")) == theirs


@host_only
def test_arguments_that_bpftrace_lists() -> None:
    theirs = of_bpftrace("-lv", "tracepoint:*")
    assert len(theirs) > 10000
    # bpftrace sorts them by category and name; a space in a type is not its own.
    ours = listed_with_arguments("tracepoint:*")
    assert ours == by_probe(theirs)


def by_probe(lines: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith(" "):
            found[list(found)[-1]].append(line.strip())
        else:
            found[line] = []
    return found


def listed_with_arguments(*patterns: str) -> dict[str, list[str]]:
    return by_probe(run_tool("tplist", "-v", *patterns).stdout.splitlines())


@host_only
def test_functions_and_probes_that_bpftrace_lists() -> None:
    path = os.path.realpath("/bin/bash")
    assert set(listed("-l", path)) == set(of_bpftrace("-l", f"uprobe:{path}:*"))
    path = os.path.realpath("/usr/bin/python3")
    assert set(listed("-l", path, "usdt:*")) == set(of_bpftrace("-l", f"usdt:{path}:*"))


@host_only
@pytest.mark.parametrize("path", ["/bin/bash", "/usr/bin/python3", LIBSTDCXX])
def test_functions_that_readelf_lists(path: str) -> None:
    """Those that the file has itself, not those that it takes from others."""
    path = os.path.realpath(path)
    symbols = subprocess.run(
        ["readelf", "-sW", path], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    names = re.findall(r" I?FUNC +\w+ +\w+ +\d+ ([^@\s]+)", symbols)
    assert set(listed("-l", path, "uprobe:*")) == {f"uprobe:{path}:{name}" for name in names}


# Use.


@pytest.mark.host_only
def test_patterns_match_the_whole_or_what_is_behind_a_colon() -> None:
    whole = listed("tracepoint:sched:sched_switch")
    assert whole == ["tracepoint:sched:sched_switch"]
    assert set(whole) < set(listed("sched_switch", "software:cpu-*"))
    assert "software:cpu-clock" in listed("software:cpu-*")
    assert listed("sched:sched_switc?") == whole
    assert listed("sched") == listed("nothing at all") == []


@host_only
def test_csv_and_escapes(tmp_path: Path) -> None:
    rows = run_tool("tplist", "--csv", "-v", "tracepoint:sched:sched_process_hang").stdout
    head, row = rows.splitlines()
    assert head == "ts,kind,name,arguments"
    assert re.fullmatch(
        r'[^,]+Z,tracepoint,sched:sched_process_hang,"[^"]*comm[^"]*, pid_t pid"', row
    )
    odd = tmp_path / "li\x1bb"
    odd.write_bytes(Path("/bin/true").read_bytes())
    assert "\x1b" not in run_tool("tplist", "-l", str(odd)).stdout


@host_only
@pytest.mark.parametrize(
    "arguments, status, words",
    [
        (["-p", "4194304"], 2, "there is no process 4194304"),
        (["-l", "no such library"], 2, "there is no program and no library no such library"),
        (["-l", "/etc/passwd"], 1, "cannot read /etc/passwd: not an ELF file"),
        (["-l", "/no/such"], 1, "cannot read /no/such: ENOENT"),
    ],
)
def test_what_is_not_there(arguments: list[str], status: int, words: str) -> None:
    result = run_tool("tplist", *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.startswith(f"tplist: {words}") and len(result.stderr.splitlines()) == 1
