"""bt's C: programs whose output is known, and functions of the kernel."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Sequence

import pytest

from pytools.facts.differences import has_fentry
from pytools.facts.kernel import running
from support import python_child
from test_bt import Started, output

PROGRAMS = {
    # Numbers.
    "print(-7 / 2); print(-7 % 3); print(7 / -2);": "-3\n-1\n-3",
    "$a = (int64)-7; $b = 2; print($a / $b); print($a % 3);": "-3\n-1",
    "print((uint64)5 - 10); print((uint8)300); print((int8)200);": "-5\n44\n-56",
    "$a = (int8)127; $a++; print($a);": "128",
    "print(~0); print(1 << 40); print(0xff >> 4);": "18446744073709551615\n1099511627776\n15",
    # What is cast is no literal any more: it is computed with its own type.
    "print(-(uint64)17655313421771705026); print(-(int8)-128);": "791430651937846590\n128",
    "print(-(1 ? 18446744073709551615 : (uint64)7));": "1",
    "$x = 1; $y = $x++ + ++$x; print(($x, $y));": "(3, 4)",
    "print(5 > 3 && 2 < 1); print(!0); print(3 == 3.0 ? 1 : 0);".replace("3.0", "3"): (
        "false\ntrue\n1"
    ),
    "print((1, -2, (int16)-3, (uint32)4000000000));": "(1, -2, -3, 4000000000)",
    # What is not evaluated has no effect.
    "@n = 0; if (0 && @n++) { } if (1 || @n++) { } print(@n);": "@n: 0",
    '$x = 2; print($x > 1 ? "more" : "less");': "more",
    # Strings.
    'print("a" == "a"); print("a" == "ab"); $s = "ab"; print($s == "ab"); print($s != "a");': (
        "true\nfalse\ntrue\ntrue"
    ),
    'print(strncmp("abcd", "abxx", 2)); print(strcontains("hello", "ell"));': "0\ntrue",
    '$s = "hello"; print(strlen($s)); print(strstr($s, "lo")); print($s[1] == 101);': (
        "5\n3\ntrue"
    ),
    '@["hi"] = 1; @["hello"] = 2; $k = "hi"; @[$k] += 5; printf("%d %d\\n", @["hi"], @["hello"]); '
    "clear(@);": "6 2",
    'printf("%s|%5d|%-4x|%c\\n", "x", 3, 255, 65);': "x|    3|ff  |A",
    # Maps.
    '@a[1, "x"] = 5; print(@a[1, "x"]); print(@a[2, "y"]); delete(@a, (1, "x")); '
    'print(has_key(@a, (1, "x")));': "5\n0\nfalse",
    "@a++; @a++; @a += 10; @a -= 3; print(@a);": "@a: 9",
    "@m = min(5); @m = min(-5); @m = min(7); print(@m); @x = max(-5); print(@x); clear(@m); "
    "clear(@x);": "@m: -5\n@x: -5",
    "@s = stats(2); @s = stats(5); print(@s); clear(@s);": (
        "@s: { .count = 2, .average = 3, .total = 7 }"
    ),
    # Steps: what is printed is what was there.
    "@x = 1; print(@x); @x = 2; print(@x); clear(@x); @x = 3; print(@x); clear(@x);": (
        "@x: 1\n@x: 2\n@x: 3"
    ),
    "@c = count(); if (1) { print(@c); clear(@c); } @c = count(); @c = count(); print(@c); "
    "clear(@c);": "@c: 1\n@c: 2",
    # A map that the program itself asks for keeps what it has counted when it is printed.
    "@c[1] = count(); print(@c); print(has_key(@c, 1)); delete(@c, 1); print(@c); @c[2] = count(); "
    "clear(@c); print(has_key(@c, 2));": "@c[1]: 1\ntrue\nfalse",
    "@a[1] = 1; @b[2] = 1; $k = 1; $n = has_key(@a, $k) | has_key(@b, $k); print($n); "
    "print(!has_key(@a, $k) && !has_key(@b, $k)); clear(@a); clear(@b);": "1\nfalse",
    # What ends a step ends those behind it.
    '@a = 1; print(@a); if (@a) { return } @a = 2; print(@a); print("behind");': "@a: 1",
    # Loops.
    "$i = 0; while ($i < 5) { $i++; if ($i == 2) { continue } if ($i == 4) { break } print($i) }": (
        "1\n3"
    ),
    'for ($i : 2..5) { print($i) } unroll(2) { print("u") }': "2\n3\n4\nu\nu",
    # Structs of the script's own.
    "$p = (struct own *)0; print(offsetof(struct own, c)); print(sizeof(struct own));": "8\n16",
    # Tuples.
    '$t = (1, ("two", 3)); print($t.1.0); print($t.1); print($t[0]); print((a=1, b="x"));': (
        "two\n(two, 3)\n1\n{ .a = 1, .b = x }"
    ),
}


DEFINITION = "struct own { char a; int b : 3; int : 0; long c; } "
CONFIG = "config = { print_maps_on_exit = 0 } "


def own_maps(text: str, number: int) -> str:
    """A text with maps that no other part of the script has."""
    return re.sub(r"@(\w*)", rf"@\g<1>_{number}", text)


@pytest.mark.every_kernel
def test_prints() -> None:
    probes = "".join(
        f'BEGIN {{ printf("== %d\\n", {number}); {own_maps(body, number)} }} '
        for number, body in enumerate(PROGRAMS)
    )
    printed = output(f"{DEFINITION}{CONFIG}{probes} BEGIN {{ exit(); }}")
    parts = re.split(r"== \d+\n", printed)[1:]
    found = {body: part.rstrip("\n") for body, part in zip(PROGRAMS, parts)}
    expected = {body: own_maps(text, n) for n, (body, text) in enumerate(PROGRAMS.items())}
    assert found == expected


# Functions of the kernel.

READS = 100
READER = f"""
import os
zero = os.open("/dev/zero", os.O_RDONLY)
print("ready", flush=True)
input()
for _ in range({READS}):
    os.read(zero, 4093)
print("done", flush=True)
input()
"""
KPROBES = """
kprobe:vfs_read /pid == $1 && arg2 == 4093/ {
    @k = count(); @[probe] = count(); @func[func] = count(); @stack[kstack(2)] = count();
    @name = str(((struct file *)arg0).f_path.dentry.d_name.name); @reg = reg("ip") != 0;
}
kretprobe:vfs_read /pid == $1 && retval == 4093/ { @kr = sum(retval); }
kprobe:vfs_rea[d] /pid == $1 && arg2 == 4093/ { @pattern[probe] = count(); }
"""
FENTRIES = """
fentry:vfs_read /pid == $1 && args.count == 4093/ {
    @f = count(); @fname = str(args.file.f_path.dentry.d_name.name); @flags = args.file.f_flags;
}
fexit:vfs_read /pid == $1 && args.count == 4093/ { @fx = sum(retval); }
"""


def printed_of(program: str, code: str, *words: str, flags: Sequence[str] = ()) -> set[str]:
    """The lines that a program prints of a child, $1, which does its work once it is told.
    ``flags`` are further options of bt; $1 in them is the child, too."""
    with python_child(code, *words) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        given = [flag.replace("$1", str(child.pid)) for flag in flags]
        with Started("-q", *given, "-e", program, str(child.pid)) as started:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"done\n"
            return set(started.stop().splitlines())


@pytest.mark.every_kernel
@pytest.mark.parametrize("program", [KPROBES, FENTRIES], ids=["kprobes", "fentries"])
def test_arguments_and_results_of_a_kernel_function(program: str) -> None:
    kernel = running()
    if not kernel.has_kprobes or program == FENTRIES and not has_fentry(kernel):
        pytest.skip("no kernel functions")
    lines = printed_of(program, READER)
    if program == KPROBES:
        wanted = {
            f"@k: {READS}", f"@[kprobe:vfs_read]: {READS}", f"@func[vfs_read]: {READS}",
            f"@pattern[kprobe:vfs_read]: {READS}", f"@kr: {READS * 4093}", "@name: zero",
            "@reg: true",
        }  # fmt: skip
    else:
        wanted = {f"@f: {READS}", f"@fx: {READS * 4093}", "@fname: zero"}
    assert wanted <= lines, lines


# Asks for room in two files, of which the second has the shorter name.
ROOM = """
import os, sys
print("ready", flush=True)
input()
for name in sys.argv[1:]:
    os.posix_fallocate(os.open(name, os.O_RDWR | os.O_CREAT), 0, 10)
print("done", flush=True)
input()
"""
PATHS = """
fentry:vfs_fallocate /pid == $1/ { @[path(args.file.f_path, 256)] = count(); }
"""


@pytest.mark.every_kernel
def test_paths_have_nothing_behind_their_end(tmp_path: Path) -> None:
    kernel = running()
    if not kernel.has_kprobes or not has_fentry(kernel):
        pytest.skip("no kernel functions")
    names = [str(tmp_path / name) for name in ("the-longer-name", "b", "b")]
    assert printed_of(PATHS, ROOM, *names) == {f"@[{names[0]}]: 1", f"@[{names[1]}]: 2"}
