"""trace prints a line for each event that a specifier names, with what it asks for, and no more."""
from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytools.base.errors import Usage
from pytools.bt.specifiers import specifier
from pytools.facts.kernel import running
from support import HAS_KPROBES, PATIENCE, TOOLS, Tool, python_child

# Opens files, reads of them, and starts threads, when it is told how many.
WORKLOAD = """
import os, sys, threading
folder = sys.argv[1]
zero = os.open("/dev/zero", os.O_RDONLY)
print("ready", flush=True)
for line in sys.stdin:
    for number in range(int(line)):
        os.close(os.open(f"{folder}/{number}", os.O_RDWR | os.O_CREAT))
        os.read(zero, 4093 + number)
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
    print("done", flush=True)
"""


class Workload:
    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child
        self.pid = str(child.pid)
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"

    def do(self, times: int) -> None:
        child = self.child
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(b"%d\n" % times)
        child.stdin.flush()
        assert child.stdout.readline() == b"done\n"


def traced(times: int, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """The events of so many rounds of the workload; none may be lost."""
    with python_child(WORKLOAD, str(folder)) as child:
        work = Workload(child)
        name = Path(f"/proc/{work.pid}/comm").read_text().strip()
        with Tool("trace", "--json", "-p", work.pid, *arguments) as tool:
            work.do(times)
            found = [json.loads(line) for line in tool.stop().splitlines()]
    assert not [one for one in found if "lost" in one], found[-1]
    assert {(str(one["pid"]), one["comm"]) for one in found} == {(work.pid, name)}
    return found


@pytest.mark.every_kernel
def test_each_open_and_read_with_its_arguments(tmp_path: Path) -> None:
    """System calls by the names of functions that a kernel may not have, and their results."""
    found = traced(
        1000, tmp_path,
        'sys_openat(int dirfd, const char *path, int flags) (flags & 64) "%s %d", path, dirfd',
        'sys_read(unsigned int fd, char *to, size_t bytes) (bytes >= 4093 && fd > 2) "%d", bytes',
        'r::__x64_sys_read (retval > 4092) "%d", retval',
        f'sys_openat (STRCMP("{tmp_path}/7", arg2)) "the seventh"',
    )  # fmt: skip
    by_name: dict[tuple[str, str], list[str]] = {}
    for one in found:
        kind = "path" if one["message"].startswith("/") else "number"
        by_name.setdefault((one["func"], kind), []).append(one["message"])
    assert by_name == {
        ("sys_openat", "path"): [f"{tmp_path}/{number} -100" for number in range(1000)],
        ("sys_openat", "number"): ["the seventh"],
        ("sys_read", "number"): [str(4093 + number) for number in range(1000)],
        ("__x64_sys_read", "number"): [str(4093 + number) for number in range(1000)],
    }


@pytest.mark.every_kernel
@pytest.mark.skipif(not HAS_KPROBES, reason=f"{os.uname().release} has no kprobes")
def test_functions_of_the_kernel_with_members_and_results(tmp_path: Path) -> None:
    found = traced(
        100, tmp_path,
        'vfs_read(struct file *file, char *to, size_t bytes) (bytes > 4092 && bytes < 5000) '
        '"%s %d %K", file->f_path.dentry->d_name.name, bytes, file->f_op->llseek',
        'r::vfs_read (retval >= 4093) "%d", retval',
    )  # fmt: skip
    messages = [re.sub(r"\+0x0|\+0$", "", one["message"]) for one in found]
    null = [f"zero {4093 + number} null_lseek" for number in range(100)]
    assert [one for one in messages if one.startswith("zero")] == null
    returned = [one for one in messages if not one.startswith("zero")]
    wanted = [str(4093 + number) for number in range(100)]
    # Before Linux v5.18, a return probe watches as many calls at once as there are processors.
    assert returned == [one for one in wanted if one in returned] and returned


@pytest.mark.host_only  # before glibc 2.34, read(2) of a program with threads was another library's
def test_functions_of_a_library(tmp_path: Path) -> None:
    found = traced(
        50, tmp_path,
        f'c:open64 (STRCMP("{tmp_path}/7", arg1)) "64"',
        f'c:open (STRCMP("{tmp_path}/7", arg1)) "32"',
        'r:c:open64 (retval == -1) "failed"',
        'r:c:read (retval > 4092 && retval < 5000) "%d", retval',
        'pthread:pthread_create "thread"',
    )  # fmt: skip
    messages = [one["message"] for one in found]
    # Python calls one of them, and a symbol may be another name of the same function.
    assert set(messages[:100]) >= {"thread", "4093", "4100"} and "failed" not in messages
    assert messages.count("thread") == 50 and messages.count("64") + messages.count("32") in (1, 2)
    assert [int(one) for one in messages if one[0] == "4"] == list(range(4093, 4143))


SOURCE = r"""
#include <unistd.h>
__attribute__((noinline)) long twice(long number, const char *text)
{
	__asm__ volatile("" : : "r"(text));
	return number * 2;
}
int main(void)
{
	char go, odd[] = "odd", even[] = "even"; /* on a page that is there */

	if (read(0, &go, 1) != 1)
		return 1;
	for (int number = 0; number < 1000; number++)
		twice(number, number % 2 ? odd : even);
	return 0;
}
"""


@pytest.mark.host_only
def test_functions_of_a_program(tmp_path: Path) -> None:
    (tmp_path / "twice.c").write_text(SOURCE)
    program = str(tmp_path / "twice")
    command = ["gcc", "-O1", "-fno-ipa-icf", "-o", program, f"{program}.c"]
    subprocess.run(command, check=True, timeout=PATIENCE)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as child, Tool(
        "trace", "--csv", "-M", "501",
        f'p:{program}:twice(int number, char *text) (STRCMP("odd", text)) "%d %s", number, text',
        f'r:{program}:twice (retval == 500) "= %lld", retval',
    ) as tool:  # fmt: skip
        child.communicate(b"\n", timeout=PATIENCE)
        rows = list(csv.DictReader(io.StringIO(tool.wait())))
    wanted = [f"{number} odd" for number in range(1, 1000, 2)]
    wanted.insert(125, "\\x3d 500")  # a spreadsheet would take = for a formula
    assert [row["message"] for row in rows] == wanted


@pytest.mark.host_only
def test_text_has_the_columns_of_bcc(tmp_path: Path) -> None:
    with python_child(WORKLOAD, str(tmp_path)) as child:
        work = Workload(child)
        probe = 'sys_openat (arg3 & 64) "%s", arg2'
        with Tool("trace", "-p", work.pid, "-M", "2", "-C", "-U", probe) as tool:
            work.do(3)
            lines = tool.wait().splitlines()
        with Tool("trace", "-p", work.pid, "-f", "/2", probe) as tool:
            work.do(3)
            one = tool.stop().splitlines()
        with Tool(
            "trace", "-p", work.pid, "-A", 'sys_read (arg3 > 4092 && arg3 < 5000) "%d", arg3'
        ) as tool:
            work.do(2)
            work.do(3)
            counted = tool.stop().splitlines()
    assert lines[0].split() == ["CPU", "PID", "TID", "COMM", "FUNC", "-"]
    first = lines[1].split()
    assert first[1:3] == [work.pid] * 2 and first[4:] == ["sys_openat", f"{tmp_path}/0"]
    assert any(line.startswith(" " * 8 + "open") for line in lines), lines
    assert [line.split()[-1] for line in one] == ["-", f"{tmp_path}/2"]
    assert [(line.split()[0], line.split()[-1]) for line in counted] == [
        ("COUNT", "-"), ("2", "4093"), ("2", "4094"), ("1", "4095"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "words, status, said",
    [
        (["x:c:malloc"], 2, "the kind of a probe is p, r, t or u"),
        (["sys_read (arg1"], 2, "a parenthesis is not closed"),
        (['sys_read "%d %d", arg1'], 2, "conversions in the format: 2; values: 1"),
        (['sys_read "%q", arg1'], 2, "%q in the format"),
        (["sys_read arg1"], 2, "a format must follow"),
        (['sys_read "%d", $pit'], 2, "did you mean $pid?"),
        (['sys_read "%d", retval'], 2, "retval is known at r: probes only"),
        (['r::sys_read "%d", arg1'], 2, "arguments are not known"),
        (['sys_read "%d", arg9'], 2, "sys_read has 3 arguments"),
        (["sys_read(int) (arg1 > 1)"], 2, "declares no parameter"),
        (["sys_read (STRCMP(arg1, arg2))"], 2, "STRCMP compares a literal"),
        (['sys_read "a\x1fb"'], 2, "control characters"),
        (["-u", "sys_read"], 2, "-u goes with -t"),
        ([""], 2, "is empty"),
        ([], 2, "the following arguments are required"),
        (['c:malloc "%d", agr1'], 1, "Unknown identifier: 'agr1'"),
        (["c:no_such_function"], 1, "No matches for uprobe"),
        (["no_such_library:f"], 1, "no program and no library no_such_library"),
        (["t:sched:no_such_event"], 1, "No matches for tracepoint"),
        (['sys_read (arg1 ==) "x"'], 1, "syntax"),
    ],
)
def test_mistakes_are_one_line(words: list[str], status: int, said: str) -> None:
    result = subprocess.run(
        [TOOLS / "trace", *words], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (status, "", 1)
    assert result.stderr.startswith("trace: ") and said in result.stderr, result.stderr


# What bcc's page shows: the specifier, the attach point, the predicate, format and values.
PUBLISHED = [
    ("do_sys_open", "kprobe:do_sys_open", "", "", []),
    ("kfree_skb+0x12", "kprobe:kfree_skb+0x12", "", "", []),
    ('do_sys_open "%s", arg2@user', "kprobe:do_sys_open", "", "%s", ["str(uptr(arg1))"]),
    (
        'sys_read (arg3 > 20000) "read %d bytes", arg3', "tracepoint:syscalls:sys_enter_read",
        "args.count>20000", "read %d bytes", ["args.count"],
    ),
    ('r::do_sys_open "%llx", retval', "kretprobe:do_sys_open", "", "%llx", ["retval"]),
    (
        'c:open (arg2 == 42) "%s %d", arg1, arg2', "uprobe:c:open", "arg1==42", "%s %d",
        ["str(arg0)", "arg1"],
    ),
    ('c:malloc "size = %d", arg1', "uprobe:c:malloc", "", "size = %d", ["arg0"]),
    ('p:c:write (arg1 == 1) "%d", arg3', "uprobe:c:write", "arg0==1", "%d", ["arg2"]),
    ('r::__kmalloc (retval == 0) "failed!"', "kretprobe:__kmalloc", "retval==0", "failed!", []),
    ('r:c:malloc (retval) "= %x", retval', "uretprobe:c:malloc", "retval", "= %x", ["retval"]),
    (
        't:block:block_rq_complete "sectors=%d", args->nr_sector',
        "tracepoint:block:block_rq_complete", "", "sectors=%d", ["args->nr_sector"],
    ),
    ("u:/lib/x.so:provider:name (arg4 != 0)", "usdt:/lib/x.so:provider:name", "arg3!=0", "", []),
    (
        'p::SyS_nanosleep(struct timespec *ts) "sleep for %lld ns", ts->tv_nsec',
        "tracepoint:syscalls:sys_enter_nanosleep", "", "sleep for %lld ns",
        ["((struct timespec *)args.rqtp)->tv_nsec"],
    ),
    (
        'p::uprobe_register(struct inode *inode) "a_ops = %llx", inode->i_mapping->a_ops',
        "kprobe:uprobe_register", "", "a_ops = %llx",
        ["((struct inode *)arg0)->i_mapping->a_ops"],
    ),
    (
        "udpv6_sendmsg(struct sock *sk) (sk->sk_dport == 13568)", "kprobe:udpv6_sendmsg",
        "((struct sock *)arg0)->sk_dport==13568", "", [],
    ),
    (
        'mntns_install "users = %d", $task->fs->users', "kprobe:mntns_install", "", "users = %d",
        ["curtask->fs->users"],
    ),
    ("p:c:inet_pton", "uprobe:c:inet_pton", "", "", []),
    (
        'p::f (STRCMP("a b", arg1) && arg2 == \'x\') "%K %U", arg1, arg2', "kprobe:f",
        '(str(arg0) == "a b")&&arg1==120', "%s %s", ["ksym(arg0)", "usym(arg1)"],
    ),
]  # fmt: skip


@pytest.mark.host_only
@pytest.mark.parametrize(
    "text, point, predicate, form, values", PUBLISHED, ids=[one[0] for one in PUBLISHED]
)
def test_published_specifiers(
    text: str, point: str, predicate: str, form: str, values: list[str]
) -> None:
    made = specifier(text, running())
    assert made.probe.point == point
    assert (made.predicate, made.form, made.values) == (predicate, form, values)


@pytest.mark.host_only
def test_no_text_is_more_than_one_specifier() -> None:
    for text in ('p:a"b:c', "c:f\ng", 'f "%d", 1); system("ls"', "u:/a b:c", "p::f{}"):
        try:
            made = specifier(text, running())
        except Usage:
            continue
        assert "\n" not in made.probe.point and '"' not in made.probe.point
