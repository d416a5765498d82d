"""Programs that hypothesis makes do what a model of the language says."""
from __future__ import annotations

import collections
import itertools
import os
import re
from typing import Any, List, Tuple

import pytest

from bt_made import examples, expressions, programs, text_of, text_of_all, word_of
from bt_model import Kind, Model, Node, Program, shown
from conftest import EXAMPLES
from pytools.facts.kernel import running
from test_bt import bt

AT_ONCE = 30  # expressions of one probe
IN_A_START = 300
PROGRAMS_IN_A_START = 30
BACK = "\\"


def literal(value: int) -> str:
    return str(value) if value > -(1 << 63) else "(-9223372036854775807 - 1)"


def expected_of(leaves: List[Tuple[str, Kind, int]], node: Node) -> str:
    """What is printed of an expression and its variables."""
    model = Model()
    model.typing = changed = True
    while changed:
        model.changed = False
        for name, kind, _ in leaves:
            model.see(name, kind)
        kind = model.of(node).kind
        changed = model.changed
    model.typing = False
    for name, _, value in leaves:
        model.set(("variable", name), value)
    found = model.of(node)
    assert kind == found.kind, (kind, found, text_of(node))
    after = [shown(model.values[name], model.known[name]) for name, _, _ in leaves]
    return f"({', '.join([shown(found.value, kind), *after])})"


def statement_of(leaves: List[Tuple[str, Kind, int]], node: Node) -> str:
    own = [f"{name} = ({word_of(kind)}){literal(value)};" for name, kind, value in leaves]
    names = ", ".join(name for name, _, _ in leaves)
    return f"{' '.join(own)} $r = {text_of(node)}; print(($r, {names}));"


def run(bodies: List[str]) -> List[str]:
    """What each of the bodies of BEGIN prints, and the maps that it leaves, which no other one has;
    if it cannot be run, why."""
    probes = "".join(
        f'BEGIN {{ printf("== {n}\\n"); {re.sub("@([a-z])", f"@{BACK}1_{n}_", body)} }}\n'
        for n, body in enumerate(bodies)
    )
    result = bt("-q", "-e", f'{probes}BEGIN {{ printf("== maps\\n"); exit(); }}')
    said = [line for line in result.stderr.splitlines() if " ERROR: " in line]
    if result.returncode == 0 and not said:
        *parts, maps = re.split(r"== \w+\n", result.stdout)[1:]
        left = collections.defaultdict(list)
        for line in maps.splitlines():
            if line:
                left[int(line.split("_")[1])].append(line)
        whole = ["\n".join([part.strip("\n"), *left[n]]) for n, part in enumerate(parts)]
        return [re.sub(r"_\d+_", "", part).strip("\n") for part in whole]
    if len(bodies) == 1:
        return [result.stderr[-2000:]]
    half = len(bodies) // 2
    return run(bodies[:half]) + run(bodies[half:])


def in_scopes(cases: List[Any]) -> str:
    """Many expressions in one probe, each with variables of its own."""
    return " ".join(
        re.sub(r"\$(\w)", rf"$\g<1>{n}", statement_of(*case)) for n, case in enumerate(cases)
    )


def test_fuzz_expressions_are_those_of_the_model() -> None:
    cases = examples(expressions(), EXAMPLES or 200, not EXAMPLES)
    wrong = []
    for first in range(0, len(cases), IN_A_START):
        some = cases[first : first + IN_A_START]
        groups = [some[n : n + AT_ONCE] for n in range(0, len(some), AT_ONCE)]
        found = [line for part in run(list(map(in_scopes, groups))) for line in part.split("\n")]
        expected = [expected_of(*case) for case in some]
        assert len(found) == len(expected)
        wrong += [
            (statement_of(*case), line, wanted)
            for case, line, wanted in zip(some, found, expected)
            if line != wanted
        ]
    none_of(wrong, len(cases))


def none_of(wrong: List[Tuple[str, str, str]], number: int) -> None:
    """Fail with the shortest texts that print something else than they should."""
    shortest = sorted(wrong, key=lambda each: len(each[0]))[:4]
    assert not wrong, f"{len(wrong)} of {number}:\n" + "\n".join(
        f"{text}\nprints\n{line}\nand not\n{wanted}" for text, line, wanted in shortest
    )


def in_order(text: str) -> str:
    """What was printed, with the elements of each map by name."""
    lines = [line for line in text.split("\n") if line]
    groups = itertools.groupby(lines, lambda line: line.partition("[")[0] if "[" in line else "")
    return "\n".join(line for name, group in groups for line in (sorted(group) if name else group))


def test_fuzz_programs_do_what_the_model_does() -> None:
    if running().version < (5, 19):
        release = os.uname().release
        pytest.skip(f"{release} has no bpf_map_lookup_percpu_elem(), by which programs add up CPUs")
    cases = examples(programs(), EXAMPLES // 10 or 30, not EXAMPLES)
    wrong = []
    for first in range(0, len(cases), PROGRAMS_IN_A_START):
        some = cases[first : first + PROGRAMS_IN_A_START]
        texts = list(map(text_of_all, some))
        for case, text, printed in zip(some, texts, run(texts)):
            wanted = in_order("\n".join(Program(case).printed))
            if in_order(printed) != wanted:
                wrong.append((text, printed, wanted))
    none_of(wrong, len(cases))
