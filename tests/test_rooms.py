"""The packages of the library, its rooms: what is imported goes one way only."""
from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from support import ROOT

pytestmark = pytest.mark.host_only
LIBRARY = ROOT / "lib" / "pytools"
# From the ground up, as data flows; a module imports from its own room and from those before it.
ROOMS = [
    "base", "facts", "compile", "load", "read", "show", "domains", "tool", "bt", "collection",
]  # fmt: skip


def modules() -> dict[str, Path]:
    """Every module of the library by its name below pytools."""
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        name = ".".join(path.relative_to(LIBRARY).with_suffix("").parts)
        found[name.replace(".__init__", "")] = path
    return found


MODULES = modules()


def imported(text: str, known: set[str]) -> set[str]:
    """The modules of the library that a text imports, wherever in it: for types only, or within a
    function, as well."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{name.name}" for name in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] != "pytools":
                continue
            inner = ".".join(parts[1:])
            while inner and inner not in known:
                inner = inner.rpartition(".")[0]
            if inner:
                found.add(inner)
    return found


def backward(arrows: dict[str, set[str]]) -> list[str]:
    """The arrows that run from a room to one that stands behind it."""
    return [
        f"{module} imports {target}"
        for module, targets in arrows.items()
        for target in sorted(targets)
        if ROOMS.index(target.partition(".")[0]) > ROOMS.index(module.partition(".")[0])
    ]


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """The modules that import themselves by way of others."""
    reached = {module: set(targets) for module, targets in arrows.items()}
    while True:
        more = {
            module: targets.union(*(reached.get(target, set()) for target in targets))
            for module, targets in reached.items()
        }
        if more == reached:
            return [module for module, targets in reached.items() if module in targets]
        reached = more


ARROWS = {
    name: imported(path.read_text(), set(MODULES)) - {name}
    for name, path in MODULES.items()
    if name != "__init__"
}


def test_every_module_is_in_a_room() -> None:
    assert {path.name for path in LIBRARY.glob("*.py")} == {"__init__.py"}
    assert {name.partition(".")[0] for name in ARROWS} == set(ROOMS)


def test_arrows_run_one_way() -> None:
    assert backward(ARROWS) == []


def test_no_modules_import_each_other() -> None:
    assert circles(ARROWS) == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_goes_in_and_what_comes_out(room: str) -> None:
    text = ast.get_docstring(ast.parse((LIBRARY / room / "__init__.py").read_text())) or ""
    assert "In: " in text and "Out: " in text


def test_an_arrow_that_runs_back_and_a_circle_are_found() -> None:
    known = {"base.errors", "show.table", "tool.waiting"}
    text = "def late():\n    from pytools.tool import waiting\n    import pytools.show.table\n"
    assert imported(text, known) == {"tool.waiting", "show.table"}
    arrows: dict[str, set[str]] = {
        "base.errors": {"show.table"},
        "show.table": {"tool.waiting"},
        "tool.waiting": set(),
    }
    assert len(backward(arrows)) == 2 and circles(arrows) == []
    arrows["tool.waiting"] = {"base.errors"}
    assert sorted(circles(arrows)) == sorted(arrows)


def test_a_warm_start_reads_neither_typing_nor_what_renders_and_compiles() -> None:
    """They would take more time than all else."""
    tool = str(ROOT / "tools" / "runqlat")
    subprocess.run([tool, "-d", "0"], capture_output=True, check=True)
    command = ["/usr/bin/python3", "-X", "importtime", tool, "-d", "0"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    read = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "pytools.load.loader" in read
    late = {"typing", "tabulate", "pytools.facts.btf", "pytools.compile.template"}
    late |= {"pytools.tool.peers", "difflib"}
    assert not read & {*late, "pytools.compile.compiler", "pytools.facts.differences"}
