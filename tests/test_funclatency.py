"""funclatency against programs that time their own calls."""
from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from pytools.domains import probes
from pytools.facts.kernel import running
from support import Tool, needs_functions, python_child, run_tool

# lfind(3) and lsearch(3) call what they are given: it may sleep, or call them again. The program
# knows of each call how long it took at least, from within, and at most, from around it.
PROGRAM = r"""
import ctypes, json, os, sys, time
libc = ctypes.CDLL(None)
COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
key, one = ctypes.create_string_buffer(8), ctypes.c_size_t(1)
calls = {"lfind": [], "lsearch": []}

def call(name, inside):
    lengths = []
    def compare(a, b):
        begin = time.monotonic_ns()
        inside()
        lengths.append(time.monotonic_ns() - begin)
        return 0
    compare = COMPARE(compare)
    begin = time.monotonic_ns()
    getattr(libc, name)(key, key, ctypes.byref(one), 8, compare)
    lengths.append(time.monotonic_ns() - begin)
    calls[name].append(lengths)

def nest(names, inside):
    # Each within the one before it.
    if names:
        call(names[0], lambda: nest(names[1:], inside))
    else:
        inside()

print("ready", flush=True)
sys.stdin.readline()
exec(sys.argv[1])
print(json.dumps(calls), flush=True)
sys.stdin.readline()
"""
SLEEPS = """
for number in range(100):
    call("lfind", lambda: None)
for number in range(20):
    call("lsearch", lambda: time.sleep(0.002))
for number in range(5):
    nest(["lfind"] * 10 + ["lsearch"] * 10 + ["lfind"] * 10, lambda: time.sleep(0.01))
"""
DEEP = 'nest(["lfind"] * 100, lambda: None)\nnest(["lfind"] * 3, lambda: None)\n'


@contextlib.contextmanager
def waiting(code: str, program: str = PROGRAM) -> Iterator[tuple[int, Any]]:
    """A program that waits; its pid, and what lets it run: the calls that it made."""
    with python_child(program, code) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"

        def run() -> Any:
            assert child.stdin and child.stdout
            child.stdin.write(b"\n")
            child.stdin.flush()
            return json.loads(child.stdout.readline())

        yield child.pid, run


def traced(code: str, *arguments: str, program: str = PROGRAM) -> tuple[Any, list[Any], str]:
    """The calls that the program made, the histograms of the tool, and what it said."""
    with waiting(code, program) as (pid, run):
        with Tool("funclatency", "--json", "-p", str(pid), *arguments) as tool:
            calls = run()
            found = [json.loads(line) for line in tool.stop().splitlines()]
        return calls, found, tool.messages.decode()


def matches(histogram: dict[str, Any], calls: list[tuple[int, int]]) -> None:
    """Fails if a histogram can't be that of the calls."""
    least, most = zip(*calls)
    assert histogram["samples"] == len(calls)
    assert sum(least) <= histogram["total"] <= sum(most)
    assert max(least) <= histogram["max"] <= max(most)
    below = 0
    for bucket in histogram["buckets"]:
        below += bucket["count"]
        assert sum(length <= bucket["hi"] for length in most) <= below
        assert sum(length <= bucket["hi"] for length in least) >= below
    assert histogram["average"] == round(histogram["total"] / len(calls), 3)


FUNCTIONS = ("c:lfind", "c:lsearch")


@pytest.mark.every_kernel
def test_each_call_of_functions_that_call_themselves_is_as_long_as_the_program_measured() -> None:
    calls, found, _ = traced(SLEEPS, "-F", "--summary", *FUNCTIONS)
    assert [histogram["unit"] for histogram in found] == ["nsecs"] * 2
    by_name = {h["key"]["function"].rpartition(":")[2]: h for h in found}
    assert set(by_name) == {"lfind", "lsearch"}
    for name, histogram in by_name.items():
        matches(histogram, calls[name])
    assert (by_name["lfind"]["samples"], by_name["lsearch"]["samples"]) == (200, 70)
    assert all("lost" not in histogram and "too_deep" not in histogram for histogram in found)


def test_all_functions_together_and_a_unit() -> None:
    calls, (histogram,), _ = traced(SLEEPS, "-u", "--summary", *FUNCTIONS)
    assert histogram["unit"] == "usecs" and histogram["key"] == {}
    assert histogram["samples"] == 270
    least, most = zip(*calls["lfind"], *calls["lsearch"])
    assert sum(least) / 1000 - 1 <= histogram["total"] <= sum(most) / 1000 + 1


@pytest.mark.every_kernel
def test_calls_that_are_nested_too_deep_are_counted_and_said() -> None:
    calls, (histogram,), said = traced(DEEP, "--summary", "c:lfind")
    assert (histogram["samples"], histogram["too_deep"]) == (67, 36)
    assert "36 calls not timed: they were within 64 others of their thread" in said
    # The innermost ones are missing.
    by_length = sorted(calls["lfind"][:100], key=lambda call: -int(call[1]))[:64]
    matches(histogram, by_length + calls["lfind"][100:])


@pytest.mark.host_only
def test_a_level_leaves_out_what_is_within_so_many_calls() -> None:
    code = 'nest(["lfind", "lsearch", "lfind"], lambda: time.sleep(0.001))\n' * 5
    for level, expected in ((1, {"lfind": 5}), (2, {"lfind": 5, "lsearch": 5})):
        _, found, said = traced(code, "-F", "-l", str(level), *FUNCTIONS)
        by_name = {h["key"]["function"].rpartition(":")[2]: h["samples"] for h in found}
        assert by_name == expected and "not timed" not in said


@pytest.mark.host_only
def test_a_histogram_a_process() -> None:
    code = 'call("lfind", lambda: None)\n'
    with waiting(code * 3) as (first, run), waiting(code * 5) as (second, run_other):
        pids = f"{first},{second}"
        with Tool("funclatency", "--json", "-P", "-p", pids, "c:lfind") as tool:
            run(), run_other()
            found = [json.loads(line) for line in tool.stop().splitlines()]
    assert {h["key"]["pid"]: h["samples"] for h in found} == {first: 3, second: 5}


# Calls that never return.

EXEC = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None)
if sys.argv[1] == "again":
    for number in range(100):
        libc.lrand48()
    print(100, flush=True)
    sys.stdin.readline()
else:
    print("ready", flush=True)
    sys.stdin.readline()
    words = [sys.executable, "-c", os.environ["CODE"], "again"]
    libc.execv(words[0].encode(), (ctypes.c_char_p * 5)(*(word.encode() for word in words), None))
"""


def test_a_program_that_was_executed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE", EXEC)
    # The function that executes it has not returned: with -l 1, nothing within it counts.
    calls, found, _ = traced("", "-F", "-l", "1", "c:execv*", "c:lrand48", program=EXEC)
    assert [(h["key"]["function"].rpartition(":")[2], h["samples"]) for h in found] == [
        ("lrand48", calls)
    ]


NEVER_RETURNS = r"""
#include <setjmp.h>
#include <stdio.h>

#define FUNCTION __attribute__((noinline, noclone))
#define KEEP asm volatile("")

static jmp_buf place;

FUNCTION void leaves(int depth)
{
	KEEP;
	if (depth)
		leaves(depth - 1);
	longjmp(place, 1);
}

FUNCTION int stays(int number)
{
	KEEP;
	if (!setjmp(place))
		leaves(5);
	KEEP;
	return number;
}

FUNCTION int last(int number)
{
	KEEP;
	return number + 1;
}

FUNCTION int ends_with_last(int number)
{
	KEEP;
	return last(number + 1);
}

int main(void)
{
	int sum = 0;

	puts("ready");
	fflush(stdout);
	getchar();
	for (int i = 0; i < 200; i++)
		sum += stays(i) + ends_with_last(i);
	printf("%d\n", sum);
	fflush(stdout);
	getchar();
}
"""


@pytest.mark.host_only
@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_calls_that_never_return_and_calls_that_share_a_place_of_the_stack(tmp_path: Path) -> None:
    program = str(tmp_path / "program")
    (tmp_path / "program.c").write_text(NEVER_RETURNS)
    subprocess.run(["gcc", "-O2", "-o", program, f"{program}.c"], check=True)
    child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        names = ("leaves", "stays", "last", "ends_with_last")
        patterns = [f"{program}:{name}" for name in names]
        with Tool("funclatency", "--json", "-F", "-p", str(child.pid), *patterns) as tool:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline().strip().isdigit()
            found = [json.loads(line) for line in tool.stop().splitlines()]
    finally:
        child.kill()
        child.communicate()
    assert {h["key"]["function"]: h["samples"] for h in found} == {
        "program:stays": 200, "program:last": 200, "program:ends_with_last": 200,
    }  # fmt: skip
    # leaves() calls itself five times before it jumps.
    assert "1200 calls not timed: they were left by a jump" in tool.messages.decode()
    assert all(h["not_returned"] == 1200 for h in found)


@pytest.mark.host_only
def test_a_call_that_has_not_returned_is_named_if_nothing_was_seen() -> None:
    with waiting("call('lfind', lambda: (print(1, flush=True), sys.stdin.readline()))") as (
        pid,
        run,
    ):
        with Tool("funclatency", "-p", str(pid), "c:lfind") as tool:
            assert run() == 1
            tool.stop()
    assert "nothing was seen: 1 call has not returned" in tool.messages.decode()


# Functions of the kernel.


@needs_functions
def test_a_function_of_the_kernel_is_as_long_as_the_program_measured() -> None:
    code = """
calls = {"sleeps": []}
for number in range(50):
    length = 3_000_000 if number % 10 else 20_000_000
    begin = time.monotonic_ns()
    libc.usleep(length // 1000)
    calls["sleeps"].append((length, time.monotonic_ns() - begin))
"""
    calls, (histogram,), _ = traced(code, "--summary", "p:hrtimer_nanosleep")
    matches(histogram, calls["sleeps"])


CALLS_OF_KERNEL = """
calls = 20
for number in range(calls):
    os.mkdir(sys.argv[2])
    os.rmdir(sys.argv[2])
"""


@needs_functions
def test_functions_of_the_kernel_within_each_other(tmp_path: Path) -> None:
    program = PROGRAM.replace("exec(sys.argv[1])", f"sys.argv.append({str(tmp_path / 'd')!r})\n\\g")
    program = program.replace("\\g", "exec(sys.argv[1])")
    # The second is within the first.
    names = ("vfs_mkdir", "security_inode_mkdir", "security_inode_rmdir")
    calls, found, _ = traced(
        CALLS_OF_KERNEL, "-F", "--summary", *(f"p:{name}" for name in names), program=program
    )
    by_name = {h["key"]["function"]: h for h in found}
    assert {name: h["samples"] for name, h in by_name.items()} == dict.fromkeys(names, calls)
    assert by_name["vfs_mkdir"]["total"] > by_name["security_inode_mkdir"]["total"]


THOUSAND = "p:^(ext4|jbd2|security|vfs)_"


@needs_functions
def test_a_thousand_functions_of_the_kernel(tmp_path: Path) -> None:
    known = running()
    if not known.has_btf or known.btf.function("register_fprobe_ips") is None:
        pytest.skip(f"{known.release} has no kprobe.multi: two minutes of grace periods")
    assert len(probes.find(known, THOUSAND, regex=True)) > 1000
    program = PROGRAM.replace("exec(sys.argv[1])", f"sys.argv.append({str(tmp_path / 'd')!r})\n\\g")
    program = program.replace("\\g", "exec(sys.argv[1])")
    calls, found, _ = traced(CALLS_OF_KERNEL, "-F", "-r", THOUSAND, program=program)
    by_name = {h["key"]["function"]: h["samples"] for h in found}
    for name in ("vfs_mkdir", "security_inode_mkdir", "security_inode_rmdir"):
        assert by_name[name] == calls


@pytest.mark.host_only
def test_a_thousand_functions_of_a_program() -> None:
    command = ["--exec", "bash", "-c", "f() { :; }; for i in 1 2 3; do f; done"]
    with Tool("funclatency", "--json", "-F", "bash:*", *command) as tool:
        found = [json.loads(line) for line in tool.wait().splitlines()]
    number = int(tool.messages.rpartition(b"Timing ")[2].split()[0])
    assert number > 1000
    by_name = {h["key"]["function"]: h["samples"] for h in found}
    assert by_name["bash:parse_command"] == 1 and "bash:main" not in by_name  # it exits


# Bad use.


@pytest.mark.host_only
@pytest.mark.parametrize(
    "arguments, status, words",
    [
        (["t:sched:sched_switch"], 2, "t:sched:sched_switch: funclatency is about functions"),
        (["u:c:setjmp"], 2, "u:c:setjmp: funclatency is about functions"),
        (["c:no_such_function"], 1, "nothing that can be traced matches c:no_such_function"),
        (["c:_setjmp"], 1, "_setjmp: a process would be ended that jumps to where they return"),
        (
            ["-l", "65", "c:lfind"],
            2,
            "argument -l/--level: '65' is not a whole number from 1 to 64",
        ),
    ],
)
def test_what_is_not_there(arguments: list[str], status: int, words: str) -> None:
    result = run_tool("funclatency", *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.startswith(f"funclatency: {words}"), result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.host_only
@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_a_go_program_is_left_alone(tmp_path: Path) -> None:
    source = tmp_path / "program.c"
    source.write_text(
        '__attribute__((section(".gopclntab"))) const int table[4] = {1};\n'
        "int main(void) { return table[1]; }\n"
    )
    subprocess.run(["gcc", "-o", str(tmp_path / "program"), str(source)], check=True)
    result = run_tool("funclatency", f"{tmp_path}/program:main")
    assert result.returncode == 1 and "is a Go program" in result.stderr
