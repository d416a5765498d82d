"""bt, from a program's text to its output: against workloads of known size, and other tools."""
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from programs import program_ids, wait_until_detached
from support import PATIENCE, TOOLS, python_child

# In the machines, test_bt_emit.py and test_bt_tools.py run programs on each kernel.
pytestmark = pytest.mark.host_only
BT = str(TOOLS / "bt")
NOTIFY = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"


def bt(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run bt to its end."""
    options.setdefault("timeout", PATIENCE)
    return subprocess.run(
        [BT, *arguments], capture_output=True, text=True, check=False, errors="surrogateescape",
        **options,
    )  # fmt: skip


def output(program: str, *arguments: str) -> str:
    """What a program prints that ends by itself; it must say nothing else."""
    result = bt("-q", *arguments, "-e", program)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return result.stdout.strip("\n")


class Started:
    """bt that runs beside the test, and has attached."""

    def __init__(self, *arguments: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            [BT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, NOTIFY: "1"}, **options,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line.strip() != NOTIFY:
            _, messages = self.process.communicate(timeout=PATIENCE)
            raise AssertionError(f"{line}{messages}")

    def stop(self, number: int = signal.SIGINT) -> str:
        self.process.send_signal(number)
        return self.wait()

    def wait(self, status: int = 0) -> str:
        printed: str
        printed, self.messages = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == status, self.messages
        return printed.strip("\n")

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


# A child that makes so many getppid() calls when it is told, by as many threads as it is given.
CALLS = """
import ctypes, sys, threading
libc = ctypes.CDLL(None)
calls, threads = map(int, sys.argv[1:3])
LOOP = b'''%s'''
def work():
    function = libc.syscall
    for _ in range(calls // threads):
        function(110)
print("ready", flush=True)
input()
workers = [threading.Thread(target=work) for _ in range(threads)]
[w.start() for w in workers]
[w.join() for w in workers]
print("done", flush=True)
input()
"""


def calling(calls: int, threads: int = 1) -> Any:
    return python_child(CALLS, str(calls), str(threads))


def go(child: subprocess.Popen[bytes]) -> None:
    """Let a child begin, and wait until it is done."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(b"\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"done\n"


GETPPID = "tracepoint:syscalls:sys_enter_getppid"


# What is printed is what happened.


def test_hello_world() -> None:
    assert output('BEGIN { printf("hello world\\n"); exit(); }') == "hello world"


def test_each_call_is_counted() -> None:
    with calling(10_000) as child, Started("-e", f"{GETPPID} {{ @[pid] = count(); @n++; }}") as run:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        go(child)
        lines = run.stop().splitlines()
    assert f"@[{child.pid}]: 10000" in lines
    assert any(re.fullmatch(r"@n: 1\d{4}", line) for line in lines)


def test_each_call_is_printed() -> None:
    program = f'{GETPPID} /pid == $1/ {{ printf("%d %s\\n", pid, comm); }}'
    with calling(20_000) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        with Started("-e", program, str(child.pid)) as run:
            # The reader and the workload keep in step by the pipe.
            import threading

            lines: list[str] = []
            assert run.process.stdout is not None
            reading = threading.Thread(target=lambda: lines.extend(run.process.stdout or ()))
            reading.start()
            go(child)
            run.process.send_signal(signal.SIGINT)
            reading.join(PATIENCE)
            assert run.process.wait(PATIENCE) == 0
    printed = [line.split() for line in lines if line.strip()]
    assert len(printed) == 20_000 and {words[0] for words in printed} == {str(child.pid)}


@pytest.mark.parametrize("clearing", ["print(@); clear(@);", "print(@); @other++; clear(@);"])
def test_print_and_clear_lose_nothing_and_count_nothing_twice(clearing: str) -> None:
    """While three million calls are being counted on all CPUs."""
    program = f"{GETPPID} /pid == $1/ {{ @ = count(); }} interval:ms:20 {{ {clearing} }}"
    calls = 3_000_000
    with calling(calls, 4) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        with Started("-e", program, str(child.pid)) as run:
            go(child)
            lines = run.stop().splitlines()
    counts = [int(line[3:]) for line in lines if line.startswith("@: ")]
    assert sum(counts) == calls and len(counts) > 5


def test_zero_keeps_the_keys_and_starts_again() -> None:
    program = (
        f"{GETPPID} /pid == $1/ {{ @[tid % 2] = sum(2); }} interval:ms:20 {{ print(@); zero(@); }}"
    )
    calls = 400_000
    with calling(calls, 2) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        with Started("-e", program, str(child.pid)) as run:
            go(child)
            lines = run.stop().splitlines()
    counts = [int(line.split()[1]) for line in lines if line.startswith("@[")]
    assert sum(counts) == 2 * calls


def test_a_histogram_is_that_of_the_collections_own_tool() -> None:
    """Sizes of reads, which a child makes, by ours and by their number."""
    sizes = [1, 2, 3, 4, 100, 100, 1000, 1024, 4095, 4096]
    code = (
        "import os; print('ready', flush=True); input(); f = os.open('/dev/zero', 0);"
        f"[os.read(f, n) for n in {sizes}]; print('done', flush=True); input()"
    )
    program = (
        "tracepoint:syscalls:sys_exit_read /pid == $1 && args.ret > 0/ { @ = hist(args.ret); }"
    )
    with python_child(code) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        with Started("-f", "json", "-q", "-e", program, str(child.pid)) as run:
            go(child)
            (line,) = run.stop().splitlines()
    found = {(b["min"], b["max"]): b["count"] for b in json.loads(line)["data"]["@"]}
    # The newline that lets it go, too.
    for low, high in found:
        expected = sum(low <= size <= high for size in [*sizes, 1])
        assert found[low, high] == expected, (low, high)


# The order of blocks, their steps, the end.


def test_begin_interval_and_end_in_their_order() -> None:
    program = (
        'BEGIN { printf("a\\n"); } BEGIN { printf("b\\n"); } '
        'interval:ms:1 { printf("c\\n"); exit(); } END { printf("d\\n"); } END { printf("e\\n"); }'
    )
    assert output(program).split() == ["a", "b", "c", "d", "e"]


def test_print_shows_a_map_as_it_is_then() -> None:
    assert output("BEGIN { @x = 1; print(@x); @x = 2; print(@x); exit(); }").split("\n")[:2] == [
        "@x: 1", "@x: 2",
    ]  # fmt: skip


def test_variables_of_one_name_in_several_blocks() -> None:
    """Each is a variable of its own, unless one is read behind its block."""
    apart = 'BEGIN { if ($1) { $a = 1; print($a); } else { $a = "one"; print($a); } }'
    assert output(apart) == "one"
    behind = "BEGIN { if ($1) { $a = 1; } else { $a = 300; } $b = (uint8)7; print(($a, $b)); }"
    assert output(behind) == "(300, 7)"


def test_exit_ends_a_block_at_once_with_its_status() -> None:
    result = bt("-e", 'BEGIN { printf("a\\n"); exit(7); printf("b\\n"); } END { printf("c\\n"); }')
    assert result.returncode == 7 and result.stdout.split() == ["a", "c"]


def test_an_average_of_large_numbers_is_not_negative() -> None:
    counted = "@a = avg((uint64)9223372036854775808); @a = avg((uint64)4);"
    program = f"BEGIN {{ {counted} print((uint64)@a); clear(@a); exit(); }}"
    assert output(program) == "4611686018427387906"


def test_a_block_whose_condition_is_false_has_no_steps() -> None:
    program = 'BEGIN /@n/ { @x = 1; print(@x); print("a"); clear(@x); print("b"); }'
    assert output(f"{program} BEGIN {{ @n = 0; clear(@n); exit(); }}") == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: int) -> None:
    with Started("-e", 'interval:s:100 { } END { printf("end\\n"); @ = 1; }') as run:
        assert run.stop(number).split("\n") == ["end", "", "", "@: 1"]


def test_a_signal_of_its_own_runs_a_block() -> None:
    with Started("-e", 'self:signal:SIGUSR1 { printf("told\\n"); exit(); }') as run:
        assert run.stop(signal.SIGUSR1) == "told"


def test_a_duration_ends_it() -> None:
    assert bt("--duration", "0.01", "-e", "interval:s:100 { }").returncode == 0


def test_a_program_without_events_ends_by_itself() -> None:
    assert output("BEGIN { @ = 3; }") == "@: 3"


# Commands and processes.


def test_a_command_waits_until_all_is_attached() -> None:
    """Its first call is seen."""
    program = "tracepoint:syscalls:sys_enter_execve /pid == cpid/ { @ = str(args.filename); }"
    assert output(program, "-c", "/bin/true 'a b'") == "@: /bin/true"


def test_the_end_of_a_command_is_that_of_the_program() -> None:
    assert bt("-c", "false", "-e", "interval:s:100 { }").returncode == 0
    missing = bt("-c", "/no/such/program", "-e", "interval:s:100 { }")
    assert missing.returncode == 1 and len(missing.stderr.splitlines()) == 1


def test_a_command_ends_with_the_program() -> None:
    with Started("-c", "sleep 1000", "-e", 'BEGIN { printf("%d\\n", cpid); }') as run:
        assert run.process.stdout is not None
        child = int(run.process.stdout.readline())
        run.stop()
    deadline = time.monotonic() + PATIENCE
    while os.path.exists(f"/proc/{child}"):
        assert time.monotonic() < deadline
        os.sched_yield()


def test_each_start_is_about_its_own_process() -> None:
    """The program is in the cache, and the process is another one."""
    for _ in range(2):
        code = "print(flush=True)\nimport os\nwhile input(): os.getppid()\nprint(flush=True)"
        with python_child(code) as child:
            assert child.stdout is not None and child.stdout.readline()
            program = "uprobe:libc:getppid { @[pid] = count(); }"
            with Started("-p", str(child.pid), "-e", program) as run:
                assert child.stdin is not None and child.stdout is not None
                child.stdin.write(b"1\n\n")
                child.stdin.flush()
                child.stdout.readline()
                assert run.stop() == f"@[{child.pid}]: 1"


def test_the_end_of_a_process_is_that_of_the_program() -> None:
    with python_child("input()") as child:
        with Started("-p", str(child.pid), "-e", "interval:s:100 { }") as run:
            assert child.stdin is not None
            child.stdin.close()
            child.stdin = None
            run.wait()
    assert bt("-p", str(child.pid), "-e", "BEGIN { }").returncode != 0


def test_nothing_is_left_when_it_is_killed() -> None:
    before = program_ids()
    with Started("-e", f"{GETPPID} {{ @ = count(); }} profile:hz:99 {{ @b = count(); }}") as run:
        assert program_ids() - before
        run.process.kill()
        run.process.communicate()
    wait_until_detached(before)


# Probes.


def test_a_thousand_functions_by_one_pattern(tmp_path: Path) -> None:
    source = tmp_path / "many.c"
    text = "".join(f'void traced_{n}(void) {{ __asm__(""); }}\n' for n in range(1000))
    calls = "".join(f"traced_{n}();" for n in range(1000))
    source.write_text(f"{text}int main(void) {{ {calls} return 0; }}\n")
    program = str(tmp_path / "many")
    subprocess.run(["gcc", "-O0", str(source), "-o", program], check=True)
    script = f"uprobe:{program}:traced_* {{ @[probe] = count(); }}"
    result = bt("-c", program, "-e", script)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line]
    assert sorted(lines) == sorted(f"@[uprobe:{program}:traced_{n}]: 1" for n in range(1000))
    assert "Attached 1000 probes" in result.stderr


def test_functions_and_their_returns_by_library_name() -> None:
    program = (
        "uprobe:libc:getppid /pid == cpid/ { @in = count(); } "
        "uretprobe:libc:getppid /pid == cpid/ { @out[retval == 1 || retval > 1] = count(); }"
    )
    command = "/usr/bin/python3 -c 'import os; [os.getppid() for _ in range(100)]'"
    lines = output(program, "-c", command).split("\n")
    assert lines == ["@in: 100", "@out[true]: 100"]


@pytest.mark.parametrize("event", ["profile:hz:997", "software:cpu-clock:1000000", "profile:ms:1"])
def test_samples(event: str) -> None:
    result = bt("--duration", "0.3", "-e", f"{event} {{ @ = count(); }}")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split("@: ")[1]) > 10


PIE = """
int first = 0x1234, second = 0x5678;
void traced(void) { __asm__(""); }
int main(void) { traced(); return 0; }
"""


@pytest.mark.parametrize("flag", ["-pie", "-no-pie"])
def test_variables_of_a_program_wherever_it_is_mapped(flag: str, tmp_path: Path) -> None:
    source, program = tmp_path / "program.c", str(tmp_path / "program")
    source.write_text(PIE)
    subprocess.run(["gcc", "-fPIE", flag, str(source), "-o", program], check=True)
    body = '{ printf("%x %x\\n", *uaddr("first"), *uaddr("second")); exit(); }'
    assert output(f"uprobe:{program}:traced {body}", "-c", program) == "1234 5678"
    at_the_end = bt("-q", "-c", program, "-e", f"uretprobe:{program}:traced {body}")
    if flag == "-pie":  # nothing tells there where it is mapped
        assert at_the_end.returncode == 1 and "position independent" in at_the_end.stderr
    else:
        assert at_the_end.stdout.strip() == "1234 5678"


def test_what_is_missing_is_said_with_its_place() -> None:
    result = bt("-e", "tracepoint:sched:nonesuch { }")
    assert result.returncode == 1
    assert result.stderr.splitlines()[0].startswith("stdin:1:1-")
    assert "nonesuch" in result.stderr and "~" in result.stderr
    some = "tracepoint:sched:nonesuch, interval:ms:1 { exit(); }"
    warned = bt("-e", 'config = { missing_probes = "warn" } ' + some)
    assert warned.returncode == 0 and "WARNING" in warned.stderr
    ignored = bt("-e", 'config = { missing_probes = "ignore" } ' + some)
    assert ignored.returncode == 0 and "nonesuch" not in ignored.stderr


def test_a_file_may_name_a_probe_as_each_of_several_kernels_calls_it(tmp_path: Path) -> None:
    path = tmp_path / "program.bt"
    some = "tracepoint:sched:nonesuch, interval:ms:1 { exit(); }"
    path.write_text(some)
    skipped = bt("-q", str(path))
    assert skipped.returncode == 0
    assert skipped.stderr == "WARNING: Skipping what is not here: tracepoint:sched:nonesuch\n"
    assert bt("-e", some).returncode == 1
    for text in ("tracepoint:sched:nonesuch { } interval:ms:1 { exit(); }",
                 'config = { missing_probes = "error" } ' + some):  # fmt: skip
        path.write_text(text)
        refused = bt(str(path))
        assert refused.returncode == 1 and "No matches for tracepoint" in refused.stderr


# Text of others.


def test_hostile_text_is_escaped(tmp_path: Path) -> None:
    name = "a\x1b[31mb\nc"
    path = tmp_path / name
    program = (
        "tracepoint:syscalls:sys_enter_openat /pid == $1/ "
        '{ printf("\\x1b[1m%s\\n", str(args.filename)); @[str(args.filename)] = 1; }'
    )
    code = (
        "import os, sys; print('ready', flush=True); input();"
        "os.close(os.open(sys.argv[1], os.O_CREAT)); print('done', flush=True); input()"
    )
    with python_child(code, str(path)) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        with Started("-e", program, str(child.pid)) as run:
            go(child)
            printed = run.stop()
    shown = f"{tmp_path}/a\\x1b[31mb\\x0ac"
    assert f"\x1b[1m{shown}\n" in printed and f"@[{shown}]: 1" in printed


def test_no_text_of_others_runs_a_command(tmp_path: Path) -> None:
    """A file's name, which somebody chose, as a part of a command."""
    (tmp_path / "x").mkdir()
    name = "$(touch made); touch made; '`touch made`"
    program = (
        "tracepoint:syscalls:sys_enter_openat /pid == $1/ "
        "{ system(\"echo %s '%s'\", str(args.filename), str(args.filename)); exit(); }"
    )
    code = (
        "import os, sys; print('ready', flush=True); input();"
        "os.close(os.open(sys.argv[1], os.O_CREAT)); print('done', flush=True); input()"
    )
    with python_child(code, str(tmp_path / name)) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        with Started("--unsafe", "-e", program, str(child.pid), cwd=tmp_path / "x") as run:
            go(child)
            printed = run.wait()
    assert f"{tmp_path}/{name} {tmp_path}/{name}" in printed
    assert list((tmp_path / "x").iterdir()) == []


def test_commands_need_unsafe() -> None:
    refused = bt("-e", 'BEGIN { system("echo a"); }')
    assert refused.returncode == 1 and "unsafe" in refused.stderr and refused.stdout.strip() == ""
    assert output('BEGIN { system("echo %d", 3); }', "--unsafe").strip() == "3"


# Losses.


def test_a_full_map_is_said_with_the_number() -> None:
    program = (
        "config = { max_map_keys = 10 } BEGIN { $i = 0; while ($i < 25) { @[$i] = 1; $i++; } }"
    )
    result = bt("-q", "-f", "json", "-e", program)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert {"type": "lost_insertions", "data": {"@": 15}} in records
    assert "WARNING: Map full; can't update element: @ lacks 15." in result.stderr
    assert len(next(r for r in records if r["type"] == "map")["data"]["@"]) == 10


def test_lost_records_and_printed_ones_are_all_there_are() -> None:
    """Of more than the ring has room for, while nobody reads."""
    program = (
        f'config = {{ perf_rb_pages = 64 }} {GETPPID} /pid == $1/ {{ printf("x%s\\n", comm); }}'
    )
    calls = 200_000
    with calling(calls) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        with Started("-e", program, str(child.pid)) as run:
            run.process.send_signal(signal.SIGSTOP)
            go(child)
            run.process.send_signal(signal.SIGCONT)
            printed = run.stop().count("xpython3")
    lost = sum(int(n) for n in re.findall(r"Lost (\d+) events", run.messages))
    assert printed + lost == calls and lost > 0


# Output.


def test_output_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    result = bt("-o", str(path), "-e", 'BEGIN { printf("text\\n"); @ = 1; exit(); }')
    assert (result.returncode, result.stdout) == (0, "")
    assert path.read_text().split() == ["text", "@:", "1"]
    assert bt("-o", "/no/such/folder/x", "-e", "BEGIN { }").returncode == 1


def test_json_lines() -> None:
    program = (
        'BEGIN { printf("a\\n"); print((1, "b")); @x = 5; @y["k", 2] = 3; @h = hist(5); '
        'time("%H\\n"); }'
    )
    lines = [json.loads(line) for line in bt("-f", "json", "-e", program).stdout.splitlines()]
    assert lines[0] == {"type": "attached_probes", "count": 1, "data": {"probes": 1}}
    assert lines[1] == {"type": "printf", "data": "a\n"}
    assert lines[2] == {"type": "value", "data": [1, "b"]}
    assert lines[3]["type"] == "time"
    assert lines[4:] == [
        {"type": "hist", "data": {"@h": [{"min": 4, "max": 7, "count": 1}]}},
        {"type": "map", "data": {"@x": 5}},
        {"type": "map", "data": {"@y": {"k,2": 3}}},
    ]
    assert [json.loads(line) for line in bt("--json", "-e", program).stdout.splitlines()][
        4:
    ] == lines[4:]


def test_intervals_of_a_time_series_are_those_of_the_clock() -> None:
    """By a clock of the test's own."""
    program = (
        "BEGIN { @now = (uint64)0; $i = (uint64)0; "
        'while ($i < 25) { @ = tseries($i, 100ms, 3, "max"); @now += 10000000; $i++; } '
        "clear(@now); }"
    )
    result = bt("-q", "--json", "-e", program, env={**os.environ, "BPFTRACE_DUMMY_TS_MAP": "@now"})
    (series,) = (r for r in map(json.loads, result.stdout.splitlines()) if r["type"] == "tseries")
    found = {slot["interval_start"][-10:]: slot["value"] for slot in series["data"]["@"]}
    assert found == {".000000000": 9, ".100000000": 19, ".200000000": 24}


def test_a_file_that_is_not_there_is_said() -> None:
    result = bt("-q", "-e", 'BEGIN { cat("/no/such/%s", "file"); }')
    assert result.stderr == (
        "ERROR: failed to open file '/no/such/file' (No such file or directory)\n"
    )


def test_the_reader_may_go_away() -> None:
    command = f"{BT} -e 'interval:ms:1 {{ printf(\"line\\n\"); }}' | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == "line\n" and "Traceback" not in done.stderr


# Where programs come from.


def test_programs_in_files_on_standard_input_and_as_scripts(tmp_path: Path) -> None:
    text = 'BEGIN { printf("%d %s\\n", $1, str($2)); exit(); }'
    script = tmp_path / "a.bt"
    script.write_text(f"#!{BT}\n{text}")
    script.chmod(0o755)
    for command in ([BT, str(script)], [str(script)], [BT, "-"]):
        done = subprocess.run(
            [*command, "5", "word"], input=text, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.stdout.strip() == "5 word", done.stderr
    missing = bt("/no/such/file.bt")
    assert missing.returncode == 1 and len(missing.stderr.splitlines()) == 1
    assert bt().returncode == 2


def test_options_may_stand_between_parameters() -> None:
    result = bt("-e", 'BEGIN { printf("%d %d\\n", $1, $2); }', "3", "-q", "4")
    assert (result.stdout.strip(), result.stderr) == ("3 4", "")


def test_options_that_are_not_needed_may_stand_in_any_order() -> None:
    unneeded = ["--usdt-file-activation", "--include=a.h", "-I", "b.h", "--usdt-file-activation"]
    assert output('BEGIN { printf("one\\n"); exit(); }', *unneeded) == "one"


def test_parameters_with_names() -> None:
    program = 'BEGIN { print((getopt("a", 1), getopt("b"), $1)); }'
    assert output(program) == "(1, false, 0)"
    result = bt("-q", "-e", program, "7", "--", "--a=2", "--b")
    assert result.stdout.strip() == "(2, true, 7)", result.stderr


# Starts.

HEAVY = (
    "parse", "expand", "check", "emit", "types", "compiled", "make", "syntax", "functions", "wrong",
)  # fmt: skip


def modules_of(*arguments: str) -> set[str]:
    """The modules that a start imports."""
    command = ["/usr/bin/python3", "-X", "importtime", BT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if "import time" in line
    }


def test_a_warm_start_imports_no_parser_and_no_types() -> None:
    arguments = ["-q", "-e", 'BEGIN { printf("%d\\n", $1); exit(); }']
    bt(*arguments, "1")
    found = modules_of(*arguments, "2")
    assert "pytools.bt.run" in found
    bad = {
        name
        for name in found
        if name.startswith("pytools.bt.") and name.split(".")[2] in HEAVY
        or name in ("typing", "pytools.facts.btf", "pytools.compile.template",
                    "pytools.compile.compiler", "pytools.facts.differences", "pytools.facts.elf")
    }  # fmt: skip
    assert not bad


def test_a_number_needs_no_new_compilation_and_a_text_does() -> None:
    program = 'BEGIN { printf("%d %s\\n", $1, str($2)); exit(); }'
    said = [
        bt("-v", "-e", program, number, text).stderr for number, text in
        (("1", "once"), ("2", "once"), ("3", "twice"))
    ]  # fmt: skip
    assert "compiled: " not in said[1] and "compiled: " in said[2]
    assert (
        output(
            program.replace("BEGIN", "BEGIN "),
        )
        == "0 "
    )


def test_nothing_is_kept_without_the_cache() -> None:
    arguments = ["-v", "--no-cache", "-e", 'BEGIN { printf("not kept\\n"); exit(); }']
    for _ in range(2):
        result = bt(*arguments)
        assert "compiled: " in result.stderr and "not kept" in result.stdout


# What is wrong.


@pytest.mark.parametrize(
    "program",
    ["BEGIN { ) }", "BEGIN { $x = nonesuch; }", "BEGIN { @ = 1; @[1] = 2; }", "nonesuch:a { }", "",
     'BEGIN { printf("%d"); }', "BEGIN { exit( }"],
)  # fmt: skip
def test_a_wrong_program_is_one_report_and_status_1(program: str) -> None:
    result = bt("-e", program)
    assert result.returncode == 1 and "ERROR" in result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""


def test_dry_run_attaches_and_ends() -> None:
    result = bt("--dry-run", "-e", 'BEGIN { printf("a"); @ = 1; } END { printf("b"); }')
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [["-B", "wrong"], ["-p", "none"], ["-p", "1x"], ["-p", "4194305"], ["--nonesuch"], ["--csv"]],
)
def test_bad_usage(arguments: list[str]) -> None:
    result = bt(*arguments, "-e", "BEGIN { }")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
