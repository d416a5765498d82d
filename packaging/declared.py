#!/usr/bin/python3
"""Write what the tools declare of themselves into README.md and docs/privileges.md.

A table of these pages stands between <!-- NAME --> and <!-- /NAME -->. With ``--check``, the exit
status is 1 if a table is not what the tools say. Manual pages have a generator of their own."""
from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "lib"))

from pytools.collection import catalogue  # noqa: E402
from pytools.collection.catalogue import Declared  # noqa: E402

TRACEFS = "tracefs"


def overview(tools: list[Declared]) -> str:
    """README's table: each tool, and what it shows."""
    rows = []
    for area in catalogue.AREAS:
        rows.append(f"| **{area}** | |")
        rows += [
            f"| [{tool.name}](man/man8/{tool.name}.8) | {'; also '.join(_shows(tool))} |"
            for tool in tools
            if tool.area == area
        ]
    return "\n".join(["| tool | shows |", "|---|---|", *rows])


def _shows(tool: Declared) -> list[str]:
    """What a tool shows, and its other names, if it has any."""
    return [tool.description, *([", ".join(tool.names)] if tool.names else [])]


def privileges(tools: list[Declared]) -> str:
    """What tools need beside CAP_BPF and CAP_PERFMON."""
    kinds = {"": [], TRACEFS: []}  # type: dict[str, list[str]]
    more = []
    for tool in tools:
        if tool.needs in kinds:
            kinds[tool.needs].append(tool.name)
        else:
            more.append(tool)
    found = "the kernel finds raw tracepoints and perf events by name"
    looked_up = "the tool looks up tracepoints and functions there"
    reasons = "; ".join(f"{tool.name} needs {tool.needs}" for tool in more)
    return "\n".join([
        "| beside CAP_BPF and CAP_PERFMON | why | tools |",
        "|---|---|---|",
        f"| nothing else | {found} | {', '.join(kinds[''])} |",
        f"| tracefs | {looked_up} | {', '.join(kinds[TRACEFS])} |",
        f"| more | {reasons} | {', '.join(tool.name for tool in more)} |",
    ])  # fmt: skip


PAGES = {"README.md": {"tools": overview}, "docs/privileges.md": {"privileges": privileges}}


def main() -> int:
    tools = catalogue.tools(str(ROOT / "tools"))
    differ = []
    for name, tables in PAGES.items():
        path = ROOT / name
        before = text = path.read_text()
        for mark, table in tables.items():
            place = rf"(<!-- {mark} -->\n).*?(\n<!-- /{mark} -->)"
            made = table(tools)
            text, times = re.subn(place, lambda m: m[1] + made + m[2], text, flags=re.S)
            if times != 1:
                print(f"{name} has no place for the table {mark}", file=sys.stderr)
                return 1
        if text != before:
            differ.append(name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if differ and "--check" in sys.argv:
        print(f"not as declared: {', '.join(differ)}; run {sys.argv[0]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
