"""Broken programs of bt: one clear line, never a traceback, never a hang."""
from __future__ import annotations

import ast
import functools
import re
import signal
from pathlib import Path
from typing import Any, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_made import examples
from conftest import EXAMPLES
from pytools.base.errors import Failure
from pytools.bt.compiled import compile_program
from pytools.bt.expand import expand
from pytools.bt.functions import LOADED
from pytools.bt.parse import parse
from pytools.bt.typed import CHECKS
from pytools.bt.wrong import Wrong
from pytools.facts import kernel
from test_bt import bt

pytestmark = pytest.mark.host_only

HERE = Path(__file__).resolve().parent
SECONDS = 20  # of this process's own time, for one program
LONGEST = 500  # characters of a message and its place
MOST_C = 4 << 20  # characters of C
PARAMETERS = ["1", "a b"]

# Messages about a program as a whole, which stand at no place.
NO_PLACE = re.compile(
    "No probes to attach|one action needs|macros that call each other|Failed to resolve|"
    "the program is larger"
)
PIECES = re.compile(r'\s+|[$@]?\w+|"(?:[^"\\]|\\.)*"|[-+=<>&|.:]{2}|.', re.S)
# What may stand in another's place without an error of the syntax.
CLASSES = [
    re.compile(each, re.S)
    for each in (r"[$@]\w*", r"\d\w*", r'".*"', r"[A-Za-z_]\w*", r"[-+*/%&|^<>=!]+", r"[?:.,]")
]
OTHERS = (
    "{ } ( ) [ ] ; , . .. : ? ! ~ * & / % + - ++ -- << >> && || == = += -> @ @m $x $1 $# 0 1 -1 "
    '18446744073709551615 9223372036854775808 1e18 0x 5ms "" "s" \' " \\ // /* */ # if else for '
    "while unroll let return break continue macro fn config import struct union enum typedef "
    "typeof sizeof offsetof int8 uint64 string buffer void * comm pid args arg0 retval func probe "
    "curtask ctx nsecs kstack ustack count() sum(1) hist(1) lhist(1,2,3,4) print printf str buf "
    "delete clear zero exit() len has_key BEGIN END interval:s:1 kprobe:vfs_read "
    "tracepoint:syscalls:sys_enter_read usdt:: uprobe: t:*:* k:* x:y:z ä \x01 \x1b[31m \r \u202e"
).split(" ") + ["\n", "(struct task_struct *)", "(1, 2)", "@m[1]", "(int32)", "{ 1 }"]


@functools.lru_cache(maxsize=None)
def corpus() -> list[str]:
    """Programs that are right: those in the tests, and those that bpftrace ships."""
    texts = [path.read_text() for path in sorted(Path("/usr/sbin").glob("*.bt"))]
    for path in sorted(HERE.glob("test_bt*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if len(node.value) < 10_000 and "{" in node.value:
                    texts.append(node.value)
                if re.search(r"[$@(].*;", node.value):
                    texts.append(f"BEGIN {{ {node.value} }}")
    found = []
    for text in dict.fromkeys(texts):
        try:
            expand(parse(text), PARAMETERS)
            found.append(text)
        except Wrong:
            pass
    return found


@functools.lru_cache(maxsize=None)
def classes() -> list[list[str]]:
    """The pieces of all programs, by their class."""
    found = {piece for text in corpus() for piece in PIECES.findall(text)} | set(OTHERS)
    return [sorted(filter(each.fullmatch, found)) for each in CLASSES]


@st.composite
def broken(draw: Any) -> str:
    """A program, and what some accidents make of it."""
    pieces = PIECES.findall(draw(st.sampled_from(corpus())))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(pieces) - 1, 0)))
        while place < len(pieces) - 1 and pieces[place].isspace():
            place += 1
        what = draw(st.integers(0, 19))
        if what > 7 and pieces:
            for each, others in zip(CLASSES, classes()):
                if each.fullmatch(pieces[place]):
                    pieces[place] = draw(st.sampled_from(others))
                    break
        elif what == 0:
            del pieces[place : place + draw(st.integers(1, 3))]
        elif what == 1:
            pieces[place:place] = pieces[place : place + draw(st.integers(1, 8))]
        elif what == 2:
            other = draw(st.integers(0, max(len(pieces) - 1, 0)))
            if pieces:
                pieces[place], pieces[other] = pieces[other], pieces[place]
        elif what == 3:
            pieces[place : place + 1] = [draw(st.sampled_from(OTHERS))]
        elif what == 4:
            pieces[place:place] = [draw(st.sampled_from(OTHERS)), " "]
        elif what == 5:
            if draw(st.booleans()):
                del pieces[place:]
        elif what == 6 and pieces:
            word = pieces[place]
            at = draw(st.integers(0, len(word)))
            pieces[place] = word[:at] + draw(st.characters()) + word[at + 1 :]
        elif what == 7:
            other_pieces = PIECES.findall(draw(st.sampled_from(corpus())))
            first = draw(st.integers(0, len(other_pieces) - 1))
            pieces[place:place] = other_pieces[first : first + draw(st.integers(1, 5))]
    return "".join(pieces)


PROBES = (
    "BEGIN END interval:s:1 profile:hz:99 self:signal:SIGUSR1 software:faults:100 "
    "tracepoint:syscalls:sys_enter_openat tracepoint:sched:sched_switch rawtracepoint:sched_switch "
    "tracepoint:sched:sched_*"
).split()
ATOMS = (
    '0 1 -1 5 1000000000000 "a" "" "%d" "text" true $x $s $t $p @m @m[1] @k[1,"a"] @c @h @n @ comm '
    'args retval arg0 kstack ustack kstack(3) nsecs curtask $1 $# func probe (1,2) (a=1,b="x") '
    "{$y=1;$y} int8 AF_INET count() hist(1) sum($x) (int8)$x (uint8[8])$x (struct*task_struct*)0 "
    "(int32*)$x &$x &@m[1] *$p $t.0 $t.1 $s[0] $x++ --@m[1] !$x -$x ~$x @m[$x] print(1) "
    "sizeof(int8) offsetof(struct*task_struct,pid) typeof(@m) curtask.pid args.filename $p[1] "
    '(string[16])$s (bool)$x $x.y strftime("%H",nsecs) 1?2:3 $x?$s:"b" cgroup pid uid ctx'
).split()


@functools.lru_cache(maxsize=None)
def functions() -> list[str]:
    assert LOADED
    return sorted(name for name in CHECKS if re.fullmatch(r"[a-z_0-9]+", name))


@st.composite
def misused(draw: Any) -> str:
    """A program whose words stand in the right order, and are of any type."""

    def value(depth: int) -> str:
        what = draw(st.integers(0, 9)) if depth else 0
        if what < 4:
            found: str = draw(st.sampled_from(ATOMS))
            return found.replace("*task", " task")
        if what < 7:
            name = draw(st.sampled_from(functions()))
            given = [value(depth - 1) for _ in range(draw(st.integers(0, 3)))]
            return f"{name}({', '.join(given)})"
        if what == 7:
            operator = draw(st.sampled_from("+ - * / % & | ^ << >> && || == != < >=".split()))
            return f"({value(depth - 1)} {operator} {value(depth - 1)})"
        if what == 8:
            kind = draw(st.sampled_from("(int8) (uint64) (bool) (string[8]) - ~ ! * &".split()))
            return f"{kind}{value(depth - 1)}"
        return f"({value(depth - 1)}, {value(depth - 1)})"

    def statement() -> str:
        what = draw(st.integers(0, 9))
        if what < 3:
            target = draw(st.sampled_from(["@m[1]", "$x", "@n", "$z", "$s", "@k[1,2]", "@c", "_"]))
            return f"{target} {draw(st.sampled_from(['=', '=', '+=', '&=']))} {value(3)};"
        if what == 3:
            return f"if ({value(2)}) {{ {value(2)}; }} else {{ {value(1)}; }}"
        if what == 4:
            table = draw(st.sampled_from(["@m", "@k", "@c", "@h", "1..5", "$x..9"]))
            return f"for ($i : {table}) {{ print($i); {value(2)}; }}"
        if what == 5:
            return f"while ({value(2)}) {{ {value(1)}; break; }}"
        if what == 6:
            return f"let $q: {draw(st.sampled_from(['int8', 'string', 'bool']))} = {value(2)};"
        return f"{value(3)};"

    some = (
        '$x = 1; $s = "abc"; $t = (1, "b"); $p = (int32 *)$x;', "@m[1] = 1;", '@k[1, "a"] = 2;',
        "@c = count();", "@h = hist(5);", "@n = 3;",
    )  # fmt: skip
    probe = draw(st.sampled_from(PROBES))
    condition = f"/{value(1)}/ " if draw(st.integers(0, 5)) == 0 else ""
    known = " ".join(each for each in some if draw(st.integers(0, 5)))
    body = " ".join(statement() for _ in range(draw(st.integers(1, 3))))
    return f"{probe} {condition}{{ {known} {body} }}"


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """A program that takes too long raises, and so it is shown which one it was."""

    def too_long(number: int, frame: object) -> None:
        raise AssertionError(f"{SECONDS} s of processor time")

    before = signal.signal(signal.SIGVTALRM, too_long)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


def said(text: str) -> str:
    """What is said of a program, "" if it is right."""
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        program = expand(parse(text), PARAMETERS)
        compiled = compile_program(program, kernel.running())
    except Wrong as wrong:
        report = wrong.report(text, "stdin")
        assert wrong.at is not None or NO_PLACE.search(wrong.message), report
        if wrong.at is not None:
            first, behind = wrong.at
            assert 0 <= first <= behind, report
        return report
    except Failure as failure:
        assert "\n" not in str(failure)
        return f"ERROR: {failure}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    assert len(compiled.rendered.text) < MOST_C
    assert compiled.plan.parse(compiled.plan.dump()) == compiled.plan
    return ""


def is_clear(report: str) -> None:
    """One line that says what is wrong, perhaps behind it the line of the program, and a hint."""
    if not report:
        return
    lines = report.split("\n")
    assert len(lines) <= 7, report
    assert re.match(r"(\S+:\d+(:\d+)?-\d+: )?ERROR: \S", lines[0]), report
    assert len(lines[0]) < LONGEST, report
    assert all(c.isprintable() for line in lines for c in line), ascii(report)


@settings(max_examples=EXAMPLES or 120)
@given(broken())
def test_fuzz_a_broken_program_is_told_in_one_line(text: str) -> None:
    is_clear(said(text))


@settings(max_examples=EXAMPLES or 80)
@given(misused())
def test_fuzz_words_of_the_wrong_type_are_told_in_one_line(text: str) -> None:
    is_clear(said(text))


def test_the_command_says_the_same_and_ends_with_status_1() -> None:
    """Of programs that are wrong in different ways."""
    wrong: dict[str, tuple[str, str]] = {}
    for text in examples(broken(), 60, not EXAMPLES):
        report = said(text)
        if report and "\0" not in text and not text.startswith("-"):  # as an argument
            wrong.setdefault(report.split("ERROR: ")[1][:12], (text, report))
    for text, report in list(wrong.values())[: 4 + EXAMPLES // 300]:
        result = bt("-e", text, *PARAMETERS)
        assert (result.returncode, result.stderr) == (1, f"{report}\n"), text
        assert result.stdout == ""
