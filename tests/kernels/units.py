"""A plugin of pytest: which unit of the record (proved.py) each test belongs to.

    PYTOOLS_COLLECTED=FILE pytest -p tests.kernels.units --collect-only    on the host
    PYTOOLS_PROVED=FILE pytest -p tests.kernels.units                      in a machine

On the host it writes the units of all tests that are selected, as JSON. In a machine it leaves out
the tests of the units that FILE names, a line each; has tools started by the fork server; and puts
into JUnit's XML, as properties of each test, what decides whether its unit is proved:

    unit      module, and the tool that the test's parameter ``tool`` names, if any
    started   a tool that the test has started
    partial   there, if not all tests of the unit were selected (pytest's -k)
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parents[1] / "tools"
# What no machine runs, and what a row whose types come from headers doesn't.
NEVER = ("rendering", "host_only")
ANY_TYPES = "any_types"
# All that a row between the oldest and the newest runs.
EVERY_KERNEL = "every_kernel"
# Inodes of namespaces and cgroups, which differ from machine to machine.
NUMBERS = re.compile(r"\b402653\d{4}\b|\b40265\d{5}\b")


def unit_of(item: pytest.Item) -> str:
    """``"test_opensnoop"``, or ``"test_errors opensnoop"`` of a test that is given a tool."""
    module = item.nodeid.partition("::")[0].rpartition("/")[2].partition(".")[0]
    callspec = getattr(item, "callspec", None)
    tool = callspec.params.get("tool") if callspec is not None else None
    return f"{module} {tool}" if isinstance(tool, str) and (TOOLS / tool).is_file() else module


class Units:
    """What one run of pytest knows of its units."""

    def __init__(self) -> None:
        self.all: Counter[str] = Counter()
        self.partial: set[str] = set()
        self.item: pytest.Item | None = None

    def started(self, tool: str) -> None:
        """Of the test that runs, that it starts a tool."""
        if self.item is not None and ("started", tool) not in self.item.user_properties:
            self.item.user_properties.append(("started", tool))

    @pytest.hookimpl(tryfirst=True)  # type: ignore[misc]
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        self.item = item
        unit = unit_of(item)
        item.user_properties.append(("unit", unit))
        if unit in self.partial:
            item.user_properties.append(("partial", unit))


class Unwanted:
    """Hooks that leave out functions which the machine does not run before they become a test for
    each of their parameters: most of a machine's collection otherwise."""

    def __init__(self, names: Sequence[str], wanted: str) -> None:
        self.names = set(names)
        self.wanted = wanted

    @pytest.hookimpl(tryfirst=True)  # type: ignore[misc]
    def pytest_pycollect_makeitem(
        self, collector: pytest.Collector, name: str, obj: object
    ) -> list[pytest.Item] | None:
        if not name.startswith("test"):
            return None
        marks = getattr(obj, "pytestmark", [])
        names = {mark.name for mark in marks}
        # A parameter may be marked, and so may the module.
        may = self.wanted in names or "parametrize" in names
        may |= collector.get_closest_marker(self.wanted) is not None
        return [] if names & self.names or self.wanted and not may else None


def unwanted_marks(config: pytest.Config) -> list[str]:
    """The marks that pytest's -m leaves out."""
    return [name for name in (*NEVER, ANY_TYPES) if f"not {name}" in config.option.markexpr]


def wanted_mark(config: pytest.Config) -> str:
    """The mark that pytest's -m asks for; empty if there is none."""
    return EVERY_KERNEL if f"and {EVERY_KERNEL}" in config.option.markexpr else ""


class Before:
    """Hooks that run before others leave out tests."""

    def __init__(self, units: Units) -> None:
        self.units = units

    @pytest.hookimpl(tryfirst=True)  # type: ignore[misc]
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        unwanted, wanted = unwanted_marks(config), wanted_mark(config)
        for item in items:
            if wanted and not item.get_closest_marker(wanted):
                continue
            if not any(item.get_closest_marker(name) for name in unwanted):
                self.units.all[unit_of(item)] += 1


class After:
    """Hooks that run when others have left out tests."""

    def __init__(self, units: Units) -> None:
        self.units = units

    @pytest.hookimpl(trylast=True)  # type: ignore[misc]
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        selected = Counter(map(unit_of, items))
        self.units.partial = {
            unit for unit, number in self.units.all.items() if selected[unit] != number
        }
        if "PYTOOLS_PROVED" in os.environ:
            proved = set(Path(os.environ["PYTOOLS_PROVED"]).read_text().splitlines())
            left_out = [item for item in items if unit_of(item) in proved]
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if unit_of(item) not in proved]
        if "PYTOOLS_COLLECTED" in os.environ:
            Path(os.environ["PYTOOLS_COLLECTED"]).write_text(json.dumps(collected(items)))
        if "PYTOOLS_RENDERED" in os.environ:
            Path(os.environ["PYTOOLS_RENDERED"]).write_text(json.dumps(rendered()))


def collected(items: list[pytest.Item]) -> dict[str, dict[str, Any]]:
    """By unit: the names of its tests, without parameters; of those that only rows with the
    kernel's types run; and of those that every kernel runs, which may be some of both."""
    units: dict[str, dict[str, Any]] = {}
    for item in items:
        unit = units.setdefault(unit_of(item), {"tests": [], "typed": [], "every": []})
        name = getattr(item, "originalname", None) or item.name
        parts = [unit["typed" if item.get_closest_marker(ANY_TYPES) else "tests"]]
        if item.get_closest_marker(EVERY_KERNEL):
            parts.append(unit["every"])
        for part in parts:
            if name not in part:
                part.append(name)
    return units


def rendered() -> dict[str, dict[str, str]]:
    """By tool and recorded kernel: hash of what the tool's templates are rendered to, with each of
    its options. ``5.10 headers`` is a kernel whose types come from headers."""
    import capture
    from pytools.base import child
    from pytools.base.errors import Failure
    from pytools.compile.template import render
    from pytools.facts.kernel import Kernel
    from support import tool_names

    sys.path.append(str(HERE))
    import matrix

    kernels = {release: capture.recorded(release) for release in capture.RECORDED}
    for row in matrix.read(matrix.TABLE.read_text()):
        if "no-btf" in row.options:
            tracefs = str(capture.FIXTURES / "kernels" / row.release)
            kernels[f"{row.release} headers"] = Kernel(row.release, "/none", tracefs, "/none")

    def idle(*arguments: object) -> subprocess.Popen[bytes]:
        """In the place of what reads symbols for a tool: nothing is asked of it."""
        return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    found: dict[str, dict[str, str]] = {}
    with mock.patch.object(child, "start", idle):
        for tool in tool_names():
            lines = capture.command_lines(tool)
            found[tool] = {}
            module = capture.load(tool)
            for name, kernel in kernels.items():
                state = sha256()
                for line in lines:
                    # The name that a tool has imported is its own.
                    own = {"running": lambda: kernel} if hasattr(module, "running") else {}
                    try:
                        with mock.patch.dict(module.__dict__, own):
                            source = capture.capture(tool, line, kernel)
                        text = render(source, kernel).text
                    except Failure as failure:
                        text = str(failure)
                    # A namespace's number is another one the next time.
                    text = NUMBERS.sub("N", text)
                    state.update(f"{line} {text}\n".replace(str(os.getpid()), "PID").encode())
                found[tool][name] = state.hexdigest()[:16]
    return found


def pytest_configure(config: pytest.Config) -> None:
    units = Units()
    unwanted = Unwanted(unwanted_marks(config), wanted_mark(config))
    for number, hooks in enumerate((units, unwanted, Before(units), After(units))):
        config.pluginmanager.register(hooks, f"pytools-units-{number}")
    if not config.option.collectonly:
        sys.path.append(str(HERE))
        import fork_server

        fork_server.install(units.started)
