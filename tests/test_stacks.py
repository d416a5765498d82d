"""Symbols, folded lines, flame graphs and speedscope files, without a program in the kernel."""
from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from pytools.base.errors import Failure
from pytools.collection import catalogue
from pytools.read import symbols
from pytools.read.interrupts import HARD, SOFT, interruption
from pytools.read.named_stacks import KERNEL, LABEL, UNNAMED, USER, Frame, NamedStack
from pytools.show import flame
from pytools.show.files import OutputFile
from pytools.show.stacks import StackForms
from pytools.read.symbols import Symbol, Symbols, call_site, kernel_symbols
from support import TOOLS, end, python_child

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '</title><script>alert("1")</script>&amp;\x1b[2J\udcff]]>;--'


def lines() -> list[flame.Line]:
    shell, main = Frame("sh", LABEL), Frame("main", USER)
    return [
        ([shell, main, Frame("hot", USER)], 70),
        ([shell, main, Frame("cold", USER), Frame("vfs_read", KERNEL)], 29),
        ([shell, main], 1),
    ]


# The kernel's symbols.


@pytest.mark.rendering
def test_kernel_symbols_are_those_that_begin_at_or_before_an_address(tmp_path: Path) -> None:
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_text(
        "0000000000001000 A fixed_percpu_data\n"
        "ffffffff81000000 T first\n"
        "ffffffff81000040 d no_function\n"
        "ffffffff81000080 t second\n"
        "ffffffffc0002000 t late\t[module]\n"
        "ffffffffc0001000 t early\t[module]\n"
    )
    base = 0xFFFFFFFF81000000
    found = kernel_symbols(
        [0x2000, base, base + 0x41, base + 0x80, 0xFFFFFFFFC0001FFF, 0xFFFFFFFFC0002000],
        str(kallsyms),
    )
    assert found == {
        base: Symbol("first", "", 0),
        base + 0x41: Symbol("first", "", 0x41),
        base + 0x80: Symbol("second", "", 0),
        0xFFFFFFFFC0001FFF: Symbol("early", "[module]", 0xFFF),
        0xFFFFFFFFC0002000: Symbol("late", "[module]", 0),
    }


@pytest.mark.rendering
def test_what_lies_far_behind_a_module_is_no_part_of_it(tmp_path: Path) -> None:
    """Such as a program that has been detached, whose symbol has gone with it."""
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_text(
        "ffffffff81000000 T first\n"
        "ffffffffc0001000 t one\t[module]\n"
        "ffffffffc0008000 t two\t[module]\n"
        "ffffffffc0020000 t three\t[other]\n"
    )
    module = 0xFFFFFFFFC0000000
    found = kernel_symbols(
        [0xFFFFFFFF81000FFF, 0xFFFFFFFF81001000, module + 0x7FFF, module + 0x8FFF, module + 0x9000,
         module + 0x21000],
        str(kallsyms),
    )  # fmt: skip
    assert found == {
        0xFFFFFFFF81000FFF: Symbol("first", "", 0xFFF),
        module + 0x7FFF: Symbol("one", "[module]", 0x6FFF),
        module + 0x8FFF: Symbol("two", "[module]", 0xFFF),
    }


@pytest.mark.rendering
def test_a_kernel_that_hides_its_addresses_has_no_symbols(tmp_path: Path) -> None:
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_text("0000000000000000 T first\n0000000000000000 t second\t[module]\n")
    assert kernel_symbols([0xFFFFFFFF81000000], str(kallsyms)) is None
    assert kernel_symbols([0xFFFFFFFF81000000], str(tmp_path / "none")) is None


@pytest.mark.rendering
def test_callers_are_looked_up_where_they_call() -> None:
    assert call_site([0x10, 0x20, 0x30]) == [0x10, 0x1F, 0x2F]
    assert call_site([]) == []


@pytest.mark.rendering
@pytest.mark.parametrize(
    "functions, found",
    [
        (["try_to_wake_up", "vfs_write", "entry_SYSCALL_64_after_hwframe"], (None, 0)),
        (["try_to_wake_up", "hrtimer_interrupt", "asm_sysvec_apic_timer_interrupt"], (HARD, 3)),
        (["handle_softirqs", "__irq_exit_rcu", "asm_common_interrupt", "vfs_read"], (SOFT, 3)),
        # One that a task runs itself, and one that interrupts a page fault.
        (["__do_softirq", "do_softirq", "__local_bh_enable_ip", "udp_sendmsg"], (SOFT, 0)),
        (["handle_mm_fault", "exc_page_fault", "asm_exc_page_fault"], (None, 0)),
        (["f", "asm_sysvec_reschedule_ipi", "f", "asm_exc_page_fault"], (HARD, 2)),
        # arm64, in new kernels and in old ones.
        (["gic_handle_irq", "el1h_64_irq", "f"], (HARD, 2)),
        (["gic_handle_irq", "el0_irq_naked"], (None, 0)),
        (["handle_softirqs", "el1_irq", "f"], (SOFT, 2)),
        (["f", "", "el0t_64_sync"], (None, 0)),
        ([], (None, 0)),
    ],
)
def test_interrupts_are_told_from_tasks(functions: list[str], found: Any) -> None:
    assert interruption(functions) == found


# Those of processes.


LIBC = "import ctypes; f = ctypes.CDLL(None).getppid; cast = ctypes.cast(f, ctypes.c_void_p)\n"
SAY_AND_WAIT = LIBC + "import sys; print(cast.value, flush=True); sys.stdin.readline()"


def test_processes_that_live_and_that_have_ended_get_names() -> None:
    names = Symbols()
    try:
        with python_child(SAY_AND_WAIT) as living:
            with python_child(SAY_AND_WAIT) as ended:
                places = []
                for child in (living, ended):
                    assert child.stdout
                    places.append((child.pid, int(child.stdout.readline())))
                names.watch([ended.pid])
                # Answered when it has been told of the other.
                names.settle()
                end(ended)
                found = names.resolve({pid: [address, 16] for pid, address in places})
        assert names.why_not == ""
        for pid, address in places:
            assert "getppid" in found[pid][address].name
            assert "libc" in found[pid][address].module
            assert 16 not in found[pid]
    finally:
        names.close()


@pytest.mark.host_only
def test_a_child_that_dies_leaves_names_out_and_says_so() -> None:
    names = Symbols()
    names.watch([os.getpid()])
    assert names._child is not None
    names._child.kill()
    assert names.resolve({os.getpid(): [1]}) == {}
    assert names.why_not.endswith("the child that looks them up was killed by signal 9")
    names.watch([1])
    assert names.resolve({1: [1]}) == {}


@pytest.mark.host_only
def test_a_child_that_is_stuck_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stuck = tmp_path / "symbols_child.py"
    stuck.write_text("import time; time.sleep(1000)")
    monkeypatch.setattr(symbols, "HERE", str(tmp_path))
    monkeypatch.setattr(symbols, "PATIENCE_SECONDS", 0.05)
    names = Symbols()
    assert names.resolve({pid: range(4096) for pid in range(1, 60)}) == {}
    assert names.why_not.endswith("does not answer")


@pytest.mark.host_only
def test_names_that_are_kept_outlive_a_look_up_and_those_of_the_last_do_not() -> None:
    names = Symbols()
    try:
        with python_child(SAY_AND_WAIT) as child:
            assert child.stdout
            address = int(child.stdout.readline())
            names.watch([child.pid])
            first = names.resolve({child.pid: [address]}, last=False)
            end(child)
            second = names.resolve({child.pid: [address]}, last=False)
            third = names.resolve({child.pid: [address]})
        assert "getppid" in first[child.pid][address].name
        # It has ended since: nothing more will be asked of it.
        assert second == first and third == {child.pid: {}}
    finally:
        names.close()


# Folded lines.


@pytest.mark.rendering
def test_folded_lines_of_the_same_names_are_one() -> None:
    assert list(flame.folded([*lines(), *lines()])) == [
        "sh;main 2\n",
        "sh;main;cold;vfs_read 58\n",
        "sh;main;hot 140\n",
    ]


@pytest.mark.rendering
def test_names_in_folded_lines_neither_end_them_nor_part_them() -> None:
    (line,) = flame.folded([([Frame(HOSTILE, USER), Frame("a\nb", USER)], 1)])
    assert line.count(";") == 1 and line.count("\n") == 1 and "\x1b" not in line


def test_states_and_the_mark_between_stacks_are_where_they_are_asked_for() -> None:
    def stack(state: str) -> NamedStack:
        return NamedStack(7, 7, "sh", None, state, (Frame("main", USER),), (Frame("read", KERNEL),))

    found = {stack("idle"): 1, stack("preempted"): 2}
    assert StackForms("tool", "usecs").folded(found) == "sh;main;read 3\n"
    assert StackForms("tool", "usecs", delimited=True).folded(found) == "sh;main;-;read 3\n"
    assert StackForms("tool", "usecs", states=True).folded(found) == (
        "sh;idle;main;read 1\nsh;preempted;main;read 2\n"
    )
    text = StackForms("tool", "usecs", delimited=True).text(found)
    assert text.split() == (
        "read -- main - sh (7), idle 1 read -- main - sh (7), preempted 2".split()
    )


# Flame graphs.


def drawn(text: str) -> list[tuple[str, str, int, float, float]]:
    """(title, class, row from the bottom, left, width) of each box."""
    root = ElementTree.fromstring(text)
    found: list[tuple[str, str, int, float, float]] = []
    for group in root.iter(f"{SVG}g"):
        title, rect = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        if title is not None and rect is not None:
            found.append(
                (
                    title.text or "", group.get("class") or "", int(group.get("data-depth") or 0),
                    float(rect.get("x") or 0), float(rect.get("width") or 0),
                )
            )  # fmt: skip
    return found


@pytest.mark.rendering
def test_boxes_are_as_wide_as_their_share_and_stand_on_their_callers() -> None:
    boxes = {box[0]: box for box in drawn(flame.svg(lines(), "title", "samples"))}
    width = {title: box[4] for title, box in boxes.items()}
    assert width["main"] == pytest.approx(width["all"], abs=0.01)
    assert width["hot"] == pytest.approx(0.70 * width["all"], abs=0.01)
    assert width["cold"] == pytest.approx(0.29 * width["all"], abs=0.01)
    assert boxes["vfs_read"] == ("vfs_read", "kernel", 4, *boxes["cold"][3:])
    assert boxes["hot"][1:3] == ("user", 3) and boxes["sh"][1:3] == ("label", 1)


frames = st.builds(
    Frame, st.sampled_from(["a", "b", "c", HOSTILE]), st.sampled_from([USER, KERNEL, UNNAMED])
)


@hypothesis.given(
    st.lists(
        st.tuples(
            st.lists(frames, max_size=6), st.one_of(st.integers(0, 5), st.integers(0, 10**9))
        )
    )
)
@pytest.mark.rendering
def test_fuzz_boxes_nest_and_no_amount_is_lost(counted: list[flame.Line]) -> None:
    total = sum(amount for _, amount in counted)
    boxes = flame.boxes(counted)
    assert (boxes[0].start, boxes[0].amount, boxes[0].depth) == (0, total, 0)
    below: list[flame.Box] = []
    for box in boxes:
        del below[box.depth :]
        assert len(below) == box.depth
        if below:
            under = below[-1]
            assert under.start <= box.start
            assert box.start + box.amount <= under.start + under.amount
        below.append(box)
    # Side by side, never one over the other; what is left out is too narrow to be seen.
    for depth in {box.depth for box in boxes}:
        row = [box for box in boxes if box.depth == depth]
        for left, right in zip(row, row[1:]):
            assert left.start + left.amount <= right.start
    on_top = sum(box.amount for box in boxes if box.depth == 1)
    least = total * flame.NARROWEST / (flame.WIDTH - 2 * flame.MARGIN)
    direct = sum(amount for names, amount in counted if not names)
    assert total - direct - least <= on_top <= total - direct
    drawn(flame.svg(counted, "title", "usecs"))  # parses


@pytest.mark.rendering
def test_ten_thousand_narrow_frames_are_put_together() -> None:
    narrow: list[flame.Line] = [([Frame(f"f{i}", USER)], 1) for i in range(20_000)]
    boxes = flame.boxes([*narrow, ([Frame("wide", USER)], 20_000)])
    assert [(box.frame.name, box.amount) for box in boxes] == [
        ("all", 40_000), ("wide", 20_000), ("(20000 narrow ones)", 20_000),
    ]  # fmt: skip


@pytest.mark.rendering
def test_nothing_in_a_name_becomes_markup() -> None:
    text = flame.svg([([Frame(HOSTILE, USER)], 1)], HOSTILE, "samples")
    root = ElementTree.fromstring(text)
    assert len(list(root.iter(f"{SVG}script"))) == 1
    assert "alert" not in (next(root.iter(f"{SVG}script")).text or "")
    titles = [title.text for title in root.iter(f"{SVG}title")]
    escaped = HOSTILE.replace("\x1b", "\\x1b").replace("\udcff", "\\xff")
    assert titles == ["all", escaped]
    for element in root.iter():
        assert not any(name.startswith("on") or "href" in name for name in element.attrib)


@pytest.mark.rendering
def test_a_flame_graph_needs_no_other_resource() -> None:
    text = flame.svg(lines(), "title", "samples")
    for address in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"):
        text = text.replace(address, "")
    for word in ("http", "url(", "@import", "src=", "eval", "innerHTML"):
        assert word not in text


@pytest.mark.rendering
def test_a_flame_graph_of_nothing_is_one_box() -> None:
    assert [title for title, *_ in drawn(flame.svg([], "title", "samples"))] == ["all"]


# Speedscope.


@pytest.mark.parametrize("unit, written", [("samples", "none"), ("usecs", "microseconds")])
@pytest.mark.rendering
def test_speedscope_file(unit: str, written: str) -> None:
    document = json.loads(flame.speedscope([*lines(), ([Frame(HOSTILE, USER)], 5)], "title", unit))
    assert document["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    (profile,) = document["profiles"]
    assert (profile["type"], profile["unit"]) == ("sampled", written)
    assert (profile["startValue"], profile["endValue"]) == (0, 105)
    names = [frame["name"] for frame in document["shared"]["frames"]]
    stacks = [[names[place] for place in sample] for sample in profile["samples"]]
    assert stacks == [
        ["sh", "main", "hot"], ["sh", "main", "cold", "vfs_read"], ["sh", "main"], [HOSTILE],
    ]  # fmt: skip
    assert profile["weights"] == [70, 29, 1, 5]


# Files.


@pytest.mark.rendering
def test_a_file_keeps_what_is_in_it_until_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "graph.svg"
    path.write_text("before")
    file = OutputFile(str(path))
    assert path.read_text() == "before"
    file.write("new")
    assert path.read_text() == "new"
    unwritten = OutputFile(str(path))
    unwritten.close()
    assert path.read_text() == "new"
    with pytest.raises(Failure, match="cannot write to /nowhere/a: No such file or directory"):
        OutputFile("/nowhere/a")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Failure, match="fifo: nobody reads this FIFO"):
        OutputFile(str(tmp_path / "fifo"))
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    OutputFile(str(tmp_path / "fifo")).write("new")
    assert os.read(reader, 10) == b"new"
    os.close(reader)


# Collecting.


# Runs for 0.2 s and sleeps for 0.1 s for each line.
TURNS = """
import sys, time
print("ready", flush=True)
for line in sys.stdin:
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    time.sleep(0.1)
    print("done", flush=True)
"""


def started(name: str, *arguments: str) -> Any:
    """The trace of a tool that is at work in this process."""
    module: Any = catalogue.load(str(TOOLS / name))
    return module.start(module.tool.options(arguments))


@pytest.mark.host_only
def test_two_tools_in_one_process_collect_twice_with_names() -> None:
    """The second time of a process that has ended; profile what is new, offcputime all."""
    with python_child(TURNS) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        profile = started("profile", "-F", "499", "-p", str(child.pid))
        offcputime = started("offcputime", "-p", str(child.pid))
        try:
            found = []
            for last in (False, True):
                child.stdin.write(b"\n")
                child.stdin.flush()
                assert child.stdout.readline() == b"done\n"
                if last:
                    end(child)
                found.append((profile.collect(), offcputime.collect(cumulative=True)))
        finally:
            profile.close()
            offcputime.close()
    for ran, waited in found:
        assert ran.kind == "stacks" and not ran.lost and not waited.lost
        assert {row["pid"] for row in (*ran.rows, *waited.rows)} == {child.pid}
        # A processor that is withheld takes fewer samples.
        assert sum(row["samples"] for row in ran.rows) > 0.2 * 499 / 2
        assert any("Py" in (row["user_stack"] or "") for row in ran.rows)
        assert list(ran.rows[0]) == ["pid", "comm", "user_stack", "kernel_stack", "samples"]
    assert sum(row["samples"] for row in found[1][0].rows) < 0.4 * 499
    sleeps = [sum(map(usecs_of_sleep, waited.rows)) for _, waited in found]
    assert 100_000 <= sleeps[0] < 200_000 <= sleeps[1]


def usecs_of_sleep(row: dict[str, Any]) -> int:
    return int(row["usecs"]) if "nanosleep" in (row["kernel_stack"] or "") else 0
