"""What the result of a unit of tests depends on, read from the checkout.

A unit is a module of tests, or what such a module proves of one tool (units.py). Its inputs are
files, found by reading: what Python files import, wherever in them; the headers that C includes;
the scripts that are named in strings; the tools that the tests name. Nothing of it is run, but for
two things that one run of Python has to say (`ask`): which tests there are, and what the templates
of the tools are rendered to.
"""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from matrix import Row

__all__ = ["Asked", "Checkout", "NotCollected", "ask", "unit_key"]

# These modules of the library only decide how a template is rendered. Of a tool they count by what
# its templates are rendered to, with each of its options, so that a difference between kernels that
# one tool asks for is no other tool's affair. Tests that import one themselves depend on its text.
RENDERING_ONLY = (
    "lib/pytools/facts/btf.py",
    "lib/pytools/facts/differences.py",
    "lib/pytools/compile/template.py",
)

# What makes a machine what it is, and judges what comes back.
MACHINE_FILES = tuple(
    f"tests/kernels/{name}"
    for name in (
        "compile_client.py",
        "bytecode.py",
        "compile_root.sh",
        "compile_server.py",
        "fork_server.py",
        "guest.sh",
        "initramfs.sh",
        "machine.py",
        "results.py",
        "units.py",
    )
)

# The same of an arm64 machine in particular. The recorded kernels are of x86-64: what templates are
# rendered to for another processor counts by the text of the modules that do it.
ARM64_FILES = ("tests/kernels/arm64.py", "tests/kernels/install.sh", *RENDERING_ONLY)

# Tables of what is said of tools: a name there starts none.
TABLES = ("tests/support.py", "tests/capture.py", "tests/conftest.py")
# What goes through all tools: a function of support.py with all that call it, a table there, a
# module of the library by its function tools().
LIST_OF_TOOLS = "all_tools"
DECLARATIONS = "DECLARED"
CATALOGUE = "catalogue"
# It goes through all tools as well.
COMMAND = "sbin/pytools"


class NotCollected(Exception):
    """The tests of the checkout can't be collected."""


class Asked(NamedTuple):
    """What a run of Python says of a checkout."""

    # By unit: the names of its tests, those that only rows with the kernel's types run, and those
    # that rows between the oldest and the newest run.
    units: dict[str, dict[str, list[str]]]
    # By tool and recorded kernel (``"5.10"``, or ``"5.10 headers"``): hash of all that its
    # templates are rendered to.
    rendered: dict[str, dict[str, str]]


def ask(root: Path) -> Asked:
    """Have Python collect the tests and render the templates of the checkout at ``root``.

    :raises NotCollected: with what it printed, if it can't.
    """
    with tempfile.TemporaryDirectory(prefix="pytools-units-") as directory:
        collected, rendered = Path(directory) / "units", Path(directory) / "rendered"
        environment = {
            **os.environ,
            "PYTOOLS_KERNEL": "none",
            "PYTOOLS_COLLECTED": str(collected),
            "PYTOOLS_RENDERED": str(rendered),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-m", "pytest", "-p", "tests.kernels.units", "--collect-only"]
        command += ["-q", "-p", "no:cacheprovider", "-m", "not rendering and not host_only"]
        run = subprocess.run(
            [*command, "--ignore=tests/kernels", "--ignore=tests/packages", "tests"],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
        )
        if run.returncode or not collected.exists() or not rendered.exists():
            raise NotCollected(f"the tests can't be collected:\n{run.stdout[-4000:]}")
        return Asked(json.loads(collected.read_text()), json.loads(rendered.read_text()))


class Checkout:
    """Files of a checkout and what they depend on. Paths are strings, relative to ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tools = frozenset(
            path.name
            for path in (root / "tools").iterdir()
            if path.is_file() and os.access(path, os.X_OK)
        )
        library = [path for path in (root / "lib").rglob("*") if path.is_file()]
        self.headers = {
            path.name: self.name(path)
            for path in library
            if path.suffix == ".h" and path.parent.name == "bpf"
        }
        # What the compiler is given with every program, and what the library reads.
        self.data = sorted(
            self.name(path)
            for path in library
            if path.suffix not in (".py", ".pyc") and path.parent.name != "bpf"
        )
        self.scripts = {path.name: self.name(path) for path in library if path.suffix == ".py"}

    def name(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    @lru_cache(maxsize=None)
    def text(self, path: str) -> str:
        return (self.root / path).read_text(errors="surrogateescape")

    @lru_cache(maxsize=None)
    def digest(self, path: str) -> str:
        return sha256((self.root / path).read_bytes()).hexdigest()[:16]

    @lru_cache(maxsize=None)
    def tree(self, path: str) -> ast.Module:
        return ast.parse(self.text(path))

    @lru_cache(maxsize=None)
    def module(self, name: str, base: str) -> tuple[str, ...]:
        """The files that an import of ``name`` reads, packages first; none if it isn't ours."""
        found = []
        place = self.root / base
        for part in name.split("."):
            place = place / part
            if (place / "__init__.py").is_file():
                found.append(self.name(place / "__init__.py"))
            elif place.with_suffix(".py").is_file():
                found.append(self.name(place.with_suffix(".py")))
                break
            elif not place.is_dir():
                break
        return tuple(found)

    def imported_names(self, path: str) -> Iterator[str]:
        """The full names of what a file imports; those in its strings too, which are programs."""
        package = Path(path).parent.parts[1:]
        programs = [self.tree(path)]
        for text in strings(self.tree(path)):
            if re.search(r"^\s*(from|import) \w", text, re.M):
                lines = re.findall(r"^[ \t]*((?:from|import) \w[^;\n]*)", text, re.M)
                for line in lines:
                    try:
                        programs.append(ast.parse(line))
                    except SyntaxError:
                        pass  # a sentence, not a statement
        for node in (node for program in programs for node in ast.walk(program)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                start = package[: len(package) - node.level + 1] if node.level else ()
                module = ".".join([*start, *([node.module] if node.module else [])])
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names)

    @lru_cache(maxsize=None)
    def direct(self, path: str) -> frozenset[str]:
        """The files that a file needs by its own text."""
        found: set[str] = set()
        if path.endswith(".h"):
            return frozenset(self.included(self.text(path)))
        for name in self.imported_names(path):
            for base in ("lib", "tests", "tests/kernels"):
                found.update(self.module(name, base))
        found |= self.included(self.text(path))
        for text in strings(self.tree(path)):
            script = text.rpartition("/")[2]
            if script in self.scripts:
                found.add(self.scripts[script])
        found.discard(path)
        return frozenset(found)

    def included(self, text: str) -> set[str]:
        names = re.findall(r"""#\s*include\s+["<]([\w.]+\.h)[">]""", text)
        return {self.headers[name] for name in names if name in self.headers}

    def closure(self, paths: Iterable[str]) -> set[str]:
        """``paths`` and all that they need, directly or not."""
        found: set[str] = set()
        waiting = list(paths)
        while waiting:
            path = waiting.pop()
            if path not in found:
                found.add(path)
                waiting += self.direct(path)
        return found

    def of_tool(self, tool: str) -> set[str]:
        """The files of a tool, but for those that only decide how its templates are rendered."""
        found = self.closure([f"tools/{tool}"])
        return (found | set(self.data)) - set(RENDERING_ONLY)

    # Of tests.

    def tools_of(self, unit: str) -> frozenset[str]:
        """The tools that a unit's result depends on."""
        module, _, tool = unit.partition(" ")
        return frozenset([tool]) if tool else self.named_tools(module)

    @lru_cache(maxsize=None)
    def test_files(self, module: str) -> frozenset[str]:
        """A module of tests and the tests' own modules that it imports."""
        found = self.closure([f"tests/{module}.py", "tests/conftest.py"])
        return frozenset(path for path in found if path.startswith("tests/"))

    @lru_cache(maxsize=None)
    def test_library(self, module: str) -> frozenset[str]:
        """What of the library the tests import: of what only renders, what the module imports
        itself."""
        files = self.test_files(module)
        found = self.closure(files) - files - set(RENDERING_ONLY)
        return frozenset(found | (self.direct(f"tests/{module}.py") & set(RENDERING_ONLY)))

    @lru_cache(maxsize=None)
    def listing(self) -> frozenset[str]:
        """The functions of support.py that go through all tools."""
        functions = {
            node.name: names_in(node)
            for node in self.tree("tests/support.py").body
            if isinstance(node, ast.FunctionDef)
        }
        found = {LIST_OF_TOOLS}
        while more := {name for name, used in functions.items() if used & found} - found:
            found |= more
        return frozenset(found)

    @lru_cache(maxsize=None)
    def named_tools(self, module: str) -> frozenset[str]:
        """The tools that a module of tests, or one that it imports, runs: those it names in a
        string, or all."""
        found: set[str] = set()
        if COMMAND in self.other_files(module):
            return self.tools
        for path in self.test_files(module):
            if path in TABLES or path.startswith("tests/kernels/"):
                continue
            if goes_through_tools(self.tree(path), self.listing()):
                return self.tools
            for text in strings(self.tree(path), docstrings=False):
                found |= self.tools & set(re.findall(r"[\w-]+", text))
        return frozenset(found)

    @lru_cache(maxsize=None)
    def other_files(self, module: str) -> frozenset[str]:
        """Files of the checkout that a module of tests names: ``ROOT / "docs" / "privileges.md"``.
        lib and tools are found by other ways."""
        found: set[str] = set()
        tree = self.tree(f"tests/{module}.py")
        names = names_in(tree)
        if names & {"FIXTURES", "golden_path"}:
            found |= self.below("tests/fixtures")
        elif names & {"RECORDED", "recorded"}:
            found |= self.below("tests/fixtures/kernels")
        shorter = {id(node.left) for node in ast.walk(tree) if isinstance(node, ast.BinOp)}
        for node in ast.walk(tree):
            parts = path_below_root(node) if id(node) not in shorter else []
            if parts and parts[0] not in ("lib", "tools"):
                found |= self.below("/".join(parts))
        scripts = [path for path in found if self.text(path).startswith("#!/usr/bin/python3")]
        return frozenset(found | (self.closure(scripts) - set(RENDERING_ONLY)))

    @lru_cache(maxsize=None)
    def below(self, path: str) -> frozenset[str]:
        place = self.root / path
        if place.is_file():
            return frozenset([path])
        return frozenset(self.name(each) for each in place.rglob("*") if each.is_file())

    @lru_cache(maxsize=None)
    def machine(self) -> tuple[object, ...]:
        """What every machine is and does, whatever runs in it."""
        files = [(path, self.digest(path)) for path in MACHINE_FILES]
        parser = configparser.ConfigParser()
        parser.read(self.root / "setup.cfg")
        return (files, sorted(parser.items("tool:pytest")))


def strings(tree: ast.AST, docstrings: bool = True) -> Iterator[str]:
    """The string constants in a tree."""
    skipped = set()
    if not docstrings:
        kinds = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        for node in ast.walk(tree):
            if isinstance(node, kinds) and node.body and isinstance(node.body[0], ast.Expr):
                skipped.add(id(node.body[0].value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in skipped:
            if isinstance(node.value, str):
                yield node.value
            elif isinstance(node.value, bytes):
                yield node.value.decode(errors="replace")


def names_in(tree: ast.AST) -> set[str]:
    """The names that a tree uses, those of attributes too."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def goes_through_tools(tree: ast.AST, listing: frozenset[str]) -> bool:
    """Whether a tree uses one of the functions in ``listing``, or asks the catalogue for the tools
    in a folder."""
    return bool(names_in(tree) & (listing | {DECLARATIONS})) or any(
        isinstance(node, ast.Attribute)
        and node.attr == "tools"
        and isinstance(node.value, ast.Name)
        and node.value.id == CATALOGUE
        for node in ast.walk(tree)
    )


def path_below_root(node: ast.AST) -> list[str]:
    """``["docs", "x"]`` of ``ROOT / "docs" / "x"``; as far as it is written out."""
    parts: list[str] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        if isinstance(node.right, ast.Constant) and isinstance(node.right.value, str):
            parts.insert(0, node.right.value)
        else:
            parts.clear()
        node = node.left
    return parts if isinstance(node, ast.Name) and node.id == "ROOT" else []


def stand_ins(row: Row, recorded: Sequence[str]) -> list[str]:
    """The recorded kernels whose rendered templates stand for a row's: its own, or those of the
    next ones around it."""

    def version(release: str) -> tuple[int, ...]:
        return tuple(map(int, release.split(".")))

    suffix = " headers" if "no-btf" in row.options else ""
    known = sorted({name for name in recorded if not name.endswith(" headers")}, key=version)
    if row.release in known:
        return [row.release + suffix]
    own = version(row.release)
    before = [release for release in known if version(release) < own][-1:]
    after = [release for release in known if version(release) > own][:1]
    return [release + suffix for release in before + after]


def unit_key(checkout: Checkout, asked: Asked, row: Row, packages: Sequence[str], unit: str) -> str:
    """Sixteen hex digits that change when anything does that the unit's result depends on.

    ``packages`` are those of the row's kernel and userland, with their versions.
    """
    module = unit.partition(" ")[0]
    files = checkout.test_files(module) | checkout.test_library(module)
    files |= checkout.other_files(module)
    files |= set(ARM64_FILES if row.architecture == "arm64" else ())
    rendered = []
    for each in sorted(checkout.tools_of(unit)):
        files |= checkout.of_tool(each)
        kernels = asked.rendered.get(each, {})
        rendered += [(each, name, kernels[name]) for name in stand_ins(row, list(kernels))]
    typed = "no-btf" not in row.options
    names = asked.units[unit]
    inputs = [
        unit,
        [row.name, sorted(row.options), sorted(packages)],
        checkout.machine(),
        sorted(names["every"] if row.between else names["tests"]),
        sorted(names["typed"]) if typed and not row.between else [],
        sorted((path, checkout.digest(path)) for path in files),
        rendered,
    ]
    return sha256(json.dumps(inputs).encode()).hexdigest()[:16]
