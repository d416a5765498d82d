"""The command pytools: it lists the tools, runs them, and knows which of them work here."""
from __future__ import annotations

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import capture
from programs import program_ids, wait_until_detached
from pytools.collection import catalogue
from support import DECLARED, EMULATED, LISTING, PATIENCE, ROOT, TOOLS, all_tools

COMMAND = str(ROOT / "sbin" / "pytools")
host_only = pytest.mark.host_only


def pytools(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False,
        **options,
    )  # fmt: skip


@host_only
def test_every_tool_is_listed_in_its_area_with_a_line() -> None:
    result = pytools()
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert sorted(line.split()[0] for line in lines if re.match("  [^ ]", line)) == all_tools()
    others = {name for tool in DECLARED.values() for name in tool.names}
    assert "ext4slower" in others and others <= set(re.findall(r"\w+", result.stdout))
    headings = [line for line in lines[:-2] if line and not line.startswith(" ")]
    assert headings == list(catalogue.AREAS)


@host_only
def test_the_list_as_json_says_what_the_tools_declare() -> None:
    records = [json.loads(line) for line in pytools("--json").stdout.splitlines()]
    loaded = {name: capture.load(name).tool for name in all_tools()}
    assert {(record["name"], record["area"], record["description"]) for record in records} == {
        (name, tool.area, tool.about) for name, tool in loaded.items()
    }


@pytest.mark.rendering
@pytest.mark.parametrize("tool", all_tools())
def test_what_a_tool_declares_is_read_without_running_it(tool: str) -> None:
    """And it says in a line of 60 characters, which is whole, what it shows."""
    declared, loaded = DECLARED[tool], capture.load(tool).tool
    assert declared == (
        tool, loaded.area, loaded.about, loaded.needs, loaded.try_with, loaded.traces,
        declared.names,
    )  # fmt: skip
    assert all(os.readlink(TOOLS / name) == tool for name in declared.names)
    assert 20 <= len(loaded.about) <= 60 and loaded.about[-1].isalnum()
    assert loaded.about[0].islower() or loaded.about.split()[0].isupper()
    assert loaded.area in catalogue.AREAS


@pytest.mark.rendering
def test_the_pages_have_the_tables_that_the_tools_declare() -> None:
    subprocess.run([ROOT / "packaging" / "declared.py", "--check"], check=True)


@pytest.mark.host_only
def test_it_becomes_the_tool_with_its_arguments_and_status() -> None:
    assert pytools("runqlen", "--version").stdout == pytools("--version").stdout
    record = json.loads(pytools("runqlat", "--json", "-d", "0").stdout)
    assert record["tool"] == "runqlat"
    assert pytools("ext4slower", "--help").stdout.startswith("usage: ext4slower ")
    usage = pytools("runqlat", "--no-such-option")
    assert usage.returncode == 2 and usage.stderr.startswith("runqlat: ")


@host_only
@pytest.mark.parametrize("name", ["nonesuch", "pytools", "../tools/runqlen", "", "doctor.py"])
def test_what_is_no_tool_is_not_run(name: str) -> None:
    result = pytools(name)
    assert (result.returncode, result.stdout) == (2, "")
    assert "there is no tool" in result.stderr and len(result.stderr.splitlines()) == 1


def test_doctor_is_right_about_every_tool() -> None:
    """The witness is the tool itself: it works, or fails with the line that was foretold."""
    before = program_ids()
    result = pytools("doctor", "--json")
    wait_until_detached(before)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    found = {record["name"]: record for record in records if record["area"] != "machine"}
    assert sorted(found) == all_tools() and result.stderr == ""

    def start(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [TOOLS / name, *capture.shortest(name)], stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    # In a machine, other tests show of every tool that it works.
    names = [name for name, record in found.items() if not (EMULATED and record["works"])]
    # Half of a start is waiting for the kernel to detach.
    with ThreadPoolExecutor(4) as pool:
        started = dict(zip(names, pool.map(start, names)))
    for name, tool in started.items():
        record = found[name]
        assert record["works"] == (tool.returncode == 0), (name, record, tool.stderr)
        assert (record["why_not"] is None) == record["works"]
        if tool.returncode:
            # Several functions may be missing: which one is named first is not foretold.
            said = re.sub(r"function \w+", "", tool.stderr.splitlines()[-1])
            assert said == f"{name}: " + re.sub(r"function \w+", "", record["why_not"])
    assert result.returncode == (0 if all(record["works"] for record in found.values()) else 1)


@pytest.mark.host_only
def test_doctor_names_the_machine() -> None:
    result = pytools("doctor", "--json")
    records = {record["name"]: record for record in map(json.loads, result.stdout.splitlines())}
    assert records["kernel"]["found"] == f"{os.uname().release} {os.uname().machine}"
    for name in ("kernel", "tracefs", "lockdown", "privileges", "bcc", "LLVM", "tabulate"):
        assert records[name]["found"] and records[name]["why_not"] is None, records[name]
    library = subprocess.run(
        ["/usr/bin/python3", "-c", "import bcc, os; print(open('/proc/self/maps').read())"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    llvm = re.findall(r"libLLVM[-.](?:so\.)?(\d+)", library)
    assert not llvm or records["LLVM"]["found"].partition(".")[0] == llvm[0]
    version = subprocess.run(
        ["/usr/bin/python3", "-c", "import bcc; print(bcc.__version__)"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert records["bcc"]["found"] == version


@host_only
def test_doctor_says_what_a_plain_user_lacks() -> None:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    result = subprocess.run(
        [*command, COMMAND, "doctor"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert result.returncode == 1 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(result.stdout.split())
    assert "privileges no: cannot create a BPF map: EPERM: Operation not permitted" in text
    assert "run it as root, or with CAP_BPF and CAP_PERFMON" in text
    work = {line.split()[0] for line in lines if re.match(r"\w+ +yes", line)}
    assert work <= LISTING


@host_only
def test_doctor_says_that_a_package_is_missing() -> None:
    """Without the distribution's packages, as -S keeps Python from finding them."""
    result = subprocess.run(
        ["/usr/bin/python3", "-S", COMMAND, "doctor", "--json"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    records = {record["name"]: record for record in map(json.loads, result.stdout.splitlines())}
    assert "install python3-bpfcc" in records["bcc"]["why_not"]
    assert records["tabulate"]["why_not"] == "install python3-tabulate"
    assert result.returncode == 1
