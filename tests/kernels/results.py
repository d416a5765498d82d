"""What came back from the machines: JUnit XML read, skips judged, one table of tests by kernels."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from matrix import Row

__all__ = ["Result", "RowResult", "kernel_reason", "read_junit", "second_time", "summary"]

PASS, FAIL, SKIP = "pass", "FAIL", "skip"
AGAIN = "again"  # failed, and passed when it ran once more


@dataclass(frozen=True)
class Result:
    """How one test ended in one machine, and why."""

    test: str
    outcome: str
    reason: str = ""
    unit: str = ""  # what it is a part of, in the record (units.py)
    started: tuple[str, ...] = ()  # the tools that it has started
    partial: bool = False  # not all tests of its unit were selected


@dataclass
class RowResult:
    """All that is known of one row: its tests, or what kept them from proving anything."""

    row: Row
    seconds: float
    results: list[Result] = field(default_factory=list)
    trouble: str | None = None
    proved: int = 0  # units that have passed in an earlier run, and nothing has changed since
    proofs: str = ""  # when they have

    @property
    def passed(self) -> bool:
        return (
            self.trouble is None
            and bool(self.results or self.proved)
            and all(result.outcome != FAIL for result in self.results)
        )


def kernel_reason(reason: str, row: Row) -> bool:
    """Whether a test was skipped for the kernel's sake: ``5.10 has no …``, said of the right one.

    The name is the row's (5.10-headers), its release (5.10) or the whole (5.10.0-32-cloud-amd64).
    """
    match = re.match(r"(?:skip(?:ped)?: )?(\S+) has no \S", reason, re.I)
    return match is not None and (
        match[1] in (row.name, row.release) or match[1].startswith(row.release + ".")
    )


def read_junit(text: bytes, row: Row) -> list[Result]:
    """The results in pytest's JUnit XML; a skip without a kernel's reason is a failure.

    :raises ValueError: if it isn't JUnit XML.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"junit.xml can't be read: {error}") from None
    found: dict[str, Result] = {}
    for case in root.iter("testcase"):
        if not case.get("name"):
            # The test that an interrupt ended.
            continue
        module = case.get("classname", "").replace("tests.", "", 1)
        test = cut("::".join(part for part in (module, case.get("name", "")) if part))
        result = judge(test, case, row)
        # A test that passes and then fails in its teardown has two entries.
        if test not in found or found[test].outcome == PASS:
            found[test] = result
    return list(found.values())


def second_time(first: Sequence[Result], again: Sequence[Result]) -> list[Result]:
    """The results of a run, where some of what had failed has passed ``again``, and the rest has
    the reason why it failed then."""
    by_test = {result.test: result for result in again}
    results = []
    for result in first:
        second = by_test.get(result.test)
        if result.outcome == FAIL and second is not None:
            result = replace(result, outcome=AGAIN) if second.outcome == PASS else second
        results.append(result)
    return results


def judge(test: str, case: ElementTree.Element, row: Row) -> Result:
    said = [(each.get("name"), each.get("value", "")) for each in case.iter("property")]
    units = [value for name, value in said if name == "unit"]
    return replace(
        outcome(test, case, row),
        unit=units[0] if units else "",
        started=tuple(value for name, value in said if name == "started"),
        partial=any(name == "partial" for name, _ in said),
    )


def outcome(test: str, case: ElementTree.Element, row: Row) -> Result:
    for tag in ("failure", "error"):
        child = case.find(tag)
        if child is not None:
            return Result(test, FAIL, first_line(child.get("message") or child.text or tag))
    skipped = case.find("skipped")
    if skipped is None:
        return Result(test, PASS)
    reason = first_line(skipped.get("message") or "no reason")
    if kernel_reason(reason, row):
        return Result(test, SKIP, reason)
    return Result(test, FAIL, f"skipped without a kernel's reason: {reason}")


def first_line(text: str) -> str:
    """The first line of ``text``, cut: older pytests join all lines of a message to one."""
    return cut(text.strip().partition("\n")[0])


def cut(text: str) -> str:
    """``text`` as the table has it: a test's name may have all bytes of a parameter in it."""
    return text if len(text) <= 160 else text[:159] + "…"


def summary(rows: Sequence[RowResult]) -> str:
    """The table of tests by kernels, the reasons of what didn't pass, and the counts."""
    tests: dict[str, dict[str, Result]] = {}
    for row in rows:
        for result in row.results:
            tests.setdefault(result.test, {})[row.row.name] = result
    names = [row.row.name for row in rows]
    lines: list[list[str]] = [["test", *names]]
    for test, by_row in tests.items():
        lines.append([test, *(by_row[name].outcome if name in by_row else "-" for name in names)])
    again = any(result.outcome == AGAIN for row in rows for result in row.results)
    for outcome in (PASS, FAIL, *[AGAIN] * again, SKIP):
        lines.append(
            [
                f"({outcome})",
                *(str(sum(result.outcome == outcome for result in row.results)) for row in rows),
            ]
        )
    lines.append(["(seconds)", *(f"{row.seconds:.0f}" for row in rows)])
    lines.append(["(kernel)", *(PASS if row.passed else FAIL for row in rows)])
    if any(row.proved for row in rows):
        lines.append(["(units proved before)", *(str(row.proved) for row in rows)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(names) + 1)]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    ]

    titles = {SKIP: "skipped", AGAIN: "passed the second time only", FAIL: "failed"}
    for outcome, title in titles.items():
        reasons: dict[tuple[str, str], list[str]] = {}
        for row in rows:
            for result in row.results:
                if result.outcome == outcome:
                    reasons.setdefault((result.test, result.reason), []).append(row.row.name)
        if reasons:
            text += ["", f"{title}:"]
            text += [
                f"  {test} [{', '.join(where)}]: {reason}"
                for (test, reason), where in reasons.items()
            ]
    if any(row.proofs for row in rows):
        text += ["", "proved before, with the same inputs:"]
        text += [f"  {row.row.name}: {row.proofs}" for row in rows if row.proofs]
    troubled = [row for row in rows if row.trouble is not None]
    if troubled:
        text += ["", "proved nothing:"]
        text += [f"  {row.row.name}: {row.trouble}" for row in troubled]
    return "\n".join(text)
