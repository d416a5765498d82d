"""Images on disk: whose are believed, what becomes of damaged ones, how many there are."""
from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Callable, Iterator

import hypothesis
import pytest
from hypothesis import strategies as st

from pytools.base import cache
from pytools.base.cache import Cache
from pytools.compile.image import Image, MapSpec, ProgramSpec
from support import HAS_BTF, TOOLS, in_shell, kinds, parameter, tool_names

# Files and their owners, which no kernel changes; that an image is found again is
# among the tests of the shared options.
pytestmark = pytest.mark.host_only

IMAGE = b'[["an image"], []]'
NAME = cache.key("a", "name")
NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pytools"


def store(folder: Path, name: str = NAME, image: bytes = IMAGE) -> Path:
    with Cache(str(folder)) as images:
        images.store(name, image)
        assert not images.why_not
    return folder / name


def load(folder: Path, name: str = NAME) -> bytes | None:
    with Cache(str(folder)) as images:
        return images.load(name)


# Entries.


def test_what_was_stored_is_loaded(folder: Path) -> None:
    assert load(folder) is None
    path = store(folder)
    assert load(folder) == IMAGE
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(folder) == [NAME]  # no temporary file is left


@hypothesis.given(st.lists(st.text()), st.lists(st.text()))
def test_different_parts_have_different_names(first: list[str], second: list[str]) -> None:
    assert (cache.key(*first) == cache.key(*second)) == (first == second)


def damage(path: Path, how: str) -> None:
    """Put something else where an entry is."""
    data = path.read_bytes()
    if how == "flipped":
        path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    elif how == "truncated":
        path.write_bytes(data[:-1])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "digest only":
        path.write_bytes(data[:32])
    elif how == "lengthened":
        path.write_bytes(data + b" ")
    elif how == "of another user":
        os.chown(path, NOBODY, NOBODY)
    elif how == "readable by all":
        path.chmod(0o644)
    elif how == "writable by the group":
        path.chmod(0o620)
    elif how == "a symbolic link":
        path.rename(path.parent.parent / "elsewhere")
        path.symlink_to(path.parent.parent / "elsewhere")
    elif how == "a pipe":
        path.unlink()
        os.mkfifo(path, 0o600)
    elif how == "a folder":
        path.unlink()
        path.mkdir(0o700)
    elif how == "huge":
        with open(path, "r+b") as file:
            file.truncate(1 << 40)
    else:
        raise KeyError(how)


DAMAGES = [
    "flipped", "truncated", "empty", "digest only", "lengthened", "of another user",
    "readable by all", "writable by the group", "a symbolic link", "a pipe", "a folder", "huge",
]  # fmt: skip


@pytest.mark.parametrize("how", DAMAGES)
def test_an_entry_that_is_not_to_be_believed_is_ignored_and_rewritten(
    how: str, folder: Path
) -> None:
    damage(store(folder), how)
    assert load(folder) is None
    store(folder)
    assert load(folder) == IMAGE
    path = folder / NAME
    assert path.is_file() and not path.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@hypothesis.given(st.integers(0, 31 + len(IMAGE)), st.integers(1, 255))
def test_no_flipped_byte_is_believed(position: int, mask: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as base:
        path = store(Path(base) / "pytools")
        data = bytearray(path.read_bytes())
        data[position] ^= mask
        path.write_bytes(data)
        assert load(path.parent) is None


def test_an_entry_with_another_name_is_a_second_link_to_nothing_foreign(folder: Path) -> None:
    """A hard link to a file of the user's own: its digest still has to fit."""
    path = store(folder)
    secret = folder.parent / "secret"
    secret.write_bytes(b"x" * 100)
    secret.chmod(0o600)
    path.unlink()
    os.link(secret, path)
    assert load(folder) is None
    store(folder)
    assert load(folder) == IMAGE
    assert secret.read_bytes() == b"x" * 100


# Folders.


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o777])
def test_a_folder_open_to_others_is_not_used(mode: int, folder: Path) -> None:
    store(folder)
    folder.chmod(mode)
    with Cache(str(folder)) as images:
        assert f"{mode:04o}" in images.why_not
        assert images.load(NAME) is None
        images.store("other", IMAGE)
    assert os.listdir(folder) == [NAME]


def test_a_folder_of_another_user_is_not_used(folder: Path) -> None:
    store(folder)
    os.chown(folder, NOBODY, NOBODY)
    with Cache(str(folder)) as images:
        assert f"belongs to user {NOBODY}" in images.why_not
        assert images.load(NAME) is None


@pytest.mark.parametrize("what", ["link", "file"])
def test_something_else_in_the_folder_s_place_is_not_used(what: str, folder: Path) -> None:
    if what == "link":
        (folder.parent / "elsewhere").mkdir(0o700)
        folder.symlink_to(folder.parent / "elsewhere")
    else:
        folder.write_bytes(b"")
    with Cache(str(folder)) as images:
        assert images.why_not
        assert images.load(NAME) is None
        images.store(NAME, IMAGE)
    assert not list(folder.parent.glob("elsewhere/*"))


def test_root_s_images_are_where_the_environment_cannot_lead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/tmp/x")
    assert cache.folder() == "/var/cache/pytools"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cache.folder() == "/tmp/x/pytools"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/user")
    assert cache.folder() == "/home/user/.cache/pytools"


# Bounds.


def test_the_number_of_entries_is_bounded_and_the_longest_unused_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MOST_ENTRIES", 5)
    for number in range(9):
        path = store(folder, f"entry{number}")
        os.utime(path, (1_000_000 + number, 1_000_000 + number))
    store(folder, "last")
    assert sorted(os.listdir(folder)) == ["entry5", "entry6", "entry7", "entry8", "last"]


def test_use_keeps_an_entry_young(folder: Path) -> None:
    path = store(folder)
    os.utime(path, (1_000_000, 1_000_000))
    assert load(folder) == IMAGE
    assert path.stat().st_mtime > 1_000_000


def test_what_an_interrupted_writer_left_is_removed(folder: Path) -> None:
    store(folder)
    for name, age in ((".old.1", 1_000_000), (".new.2", None)):
        (folder / name).write_bytes(b"half")
        if age:
            os.utime(folder / name, (age, age))
    store(folder, "other")
    assert set(os.listdir(folder)) == {".new.2", NAME, "other"}


def test_an_image_that_is_too_large_is_not_kept(folder: Path) -> None:
    with Cache(str(folder)) as images:
        images.store(NAME, b"x" * cache.LARGEST)
        assert images.load(NAME) is None
    assert os.listdir(folder) == []


def test_a_failed_write_leaves_no_temporary_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(folder, "other")

    def rename(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "rename", rename)
    with Cache(str(folder)) as images:
        images.store(NAME, IMAGE)
        assert "No space left on device" in images.why_not
    assert os.listdir(folder) == ["other"]


def test_two_writers_of_one_entry_both_succeed(folder: Path) -> None:
    """The second stores what the first stores meanwhile."""
    with Cache(str(folder)) as first, Cache(str(folder)) as second:
        first.store(NAME, IMAGE)
        second.store(NAME, IMAGE)
        assert first.load(NAME) == second.load(NAME) == IMAGE


# Images with a digest that fits, and nonsense in them.

_LEAVES = st.none() | st.booleans() | st.integers(-5, 70000) | st.text(max_size=8)
_JSON = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=6), max_leaves=20)


@hypothesis.given(_JSON)
def test_nonsense_is_no_image(value: object) -> None:
    data = json.dumps(value).encode()
    try:
        image = Image.parse(data)
    except ValueError:
        return
    assert isinstance(image, Image)


@hypothesis.given(st.binary())
def test_noise_is_no_image(data: bytes) -> None:
    with pytest.raises(ValueError):
        Image.parse(data)


def test_an_image_survives_the_disk() -> None:
    image = Image(
        [MapSpec("m", 1, 4, 8, 10, 0, "unsigned int", "unsigned long long")],
        [ProgramSpec("p", "perf_event", "", bytes(range(16)), [(0, "m")])],
    )
    assert Image.parse(image.dump()) == image


# The tools, with a cache of their own over root's.


@contextlib.contextmanager
def in_namespace(setup: str) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run shell commands in a private mount namespace with the setup done."""

    def run(command: str) -> subprocess.CompletedProcess[str]:
        script = f"set -e; mkdir -p /var/cache; {setup}\nset +e; cd {TOOLS}; {command}"
        return subprocess.run(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", script],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip

    yield run


EMPTY_CACHE = "mount -t tmpfs -o mode=755 none /var/cache"
LIST = "find /var/cache/pytools -type f 2>/dev/null | wc -l"


@pytest.mark.parametrize("tool", [parameter(tool) for tool in tool_names()])
def test_starts_without_a_cache_with_an_empty_and_with_a_full_one(tool: str) -> None:
    """Each reads once and ends, says with -v what it did, and attaches the same."""
    starts = [["--no-cache"], ["--json"], ["--csv"]]
    script = "".join(
        f"{in_shell(tool, '-v', *options, '--duration', '0')} >/dev/null; echo $? $({LIST})\n"
        "echo then >&2\n"
        for options in starts
    )
    with in_namespace(EMPTY_CACHE) as run:
        result = run(script)
    bare, first, second, _ = result.stderr.split("then\n")
    # In the cache: nothing; the image, and the index of the kernel's types if it names any.
    kept = result.stdout.splitlines()
    assert kept[0] == "0 0" and kept[1] == kept[2]
    assert kept[1] in ("0 1", f"0 {1 + HAS_BTF}")
    for words in ("rewritten for ", "compiled: ", "attached to "):
        for cold in (bare, first):
            assert re.search(f"^{tool}: {words}", cold, re.M)
    assert "/var/cache" not in bare and "kept in /var/cache/pytools" in first
    assert "compiled:" not in second
    assert re.search(f"^{tool}: image [0-9a-f]+ from /var/cache/pytools", second, re.M)
    attached = [
        [line for line in messages.splitlines() if "attached to" in line]
        for messages in (bare, first, second)
    ]
    assert attached[0] == attached[1] == attached[2] != []


@pytest.mark.parametrize("tool", [parameter(tool) for tool in kinds(tool_names())])
def test_a_full_disk_under_the_cache_stops_no_tool(tool: str) -> None:
    """Whoever may fill it could stop root's tools; and then they are needed."""
    setup = (
        "mount -t tmpfs -o mode=755,size=16k none /var/cache; mkdir -m 700 /var/cache/pytools;"
        " cat /dev/zero >/var/cache/pytools/full 2>/dev/null || true"
    )
    with in_namespace(setup) as run:
        result = run(f"{in_shell(tool, '--duration', '0')} >&2; echo $?; ls -A /var/cache/pytools")
        said = run(f"{in_shell(tool, '-v', '--duration', '0')} >/dev/null")
    assert result.stdout.splitlines() == ["0", "full"]
    assert f"{tool}: not cached: /var/cache/pytools: No space left on device\n" in said.stderr


@pytest.mark.parametrize(
    "setup, reason",
    [
        ("mount -t tmpfs -o ro none /var/cache", "Read-only file system"),
        (f"{EMPTY_CACHE}; mkdir -m 755 /var/cache/pytools", "open to other users"),
        (f"{EMPTY_CACHE}; mkdir -m 700 /var/cache/pytools; chown 65534 /var/cache/pytools",
         "belongs to user 65534"),
        (f"{EMPTY_CACHE}; ln -s /tmp /var/cache/pytools", "Not a directory"),
        (f"{EMPTY_CACHE}; mkdir -m 700 /var/cache/pytools;"
         " mount -o remount,ro /var/cache", "Read-only file system"),
    ],
)  # fmt: skip
def test_a_cache_that_cannot_be_used_stops_no_tool(setup: str, reason: str) -> None:
    with in_namespace(setup) as run:
        result = run("./runqlat -v --duration 0 >/dev/null; echo $?")
    assert result.stdout == "0\n"
    assert "not cached: " in result.stderr and reason in result.stderr


def test_a_tool_gets_over_every_damaged_entry() -> None:
    """Entries that no digest betrays: an image of nonsense with the right one."""
    nonsense = {
        "no list": b"{}",
        "not json": b"\x00",
        "foreign": b'[[["a"]], [["b"]]]',
        "empty": b"[[], []]",
        "no code": b'[[], [["x", "perf_event", "", "!", []]]]',
        "a strange map": b'[[["samples", 999, 1, 1, 1, 0, null, null]], []]',
        "strange sizes": b'[[["samples", "a", [], -1, 2e99, {}, 5, 5]], []]',
    }
    tool = "runqlat"
    with in_namespace(EMPTY_CACHE) as run:
        script = f"./{tool} --duration 0 >/dev/null\n"
        for data in nonsense.values():
            # The octal numbers keep a % from meaning something to printf.
            octal = "".join(f"\\{byte:03o}" for byte in hashlib.sha256(data).digest() + data)
            script += f"for file in /var/cache/pytools/*; do printf '{octal}' >$file; done\n"
            script += f"./{tool} --duration 0 >/dev/null; echo $?\n"
        result = run(script)
    assert "Traceback" not in result.stderr
    assert result.stdout.split() == ["0"] * len(nonsense), result.stderr
