"""Commands: their arguments as one line, which of them match, and in words how they ended."""
from __future__ import annotations

import re

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.errors import Usage
from pytools.base.text import c_text, text_of
from pytools.domains.signals import signal_name

if TYPE_CHECKING:
    from typing import Any, Callable


__all__ = [
    "Arguments", "arguments", "command_line", "exact_line", "exit_code", "exit_signal",
    "how_it_ended", "matching", "quoted", "words",
]  # fmt: skip

AT_FDCWD = -100  # include/uapi/linux/fcntl.h: no descriptor, but the working directory
SHELL_TAKES_AS_THEY_ARE = set(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-"
)


class Arguments(NamedTuple):
    """What a program is run with: the name of its file, the arguments with a NUL behind each, and
    whether some of these are missing."""

    file: bytes
    data: bytes
    cut: bool


def arguments(text: bytes, dirfd: int, cut: bool) -> Arguments:
    """The name of a file, and after a NUL the arguments. The name is made as the kernel makes it
    for execveat(2) (alloc_bprm() in fs/exec.c).

    >>> arguments(b"true\\0sh\\0-c\\0", 5, False)
    Arguments(file=b'/dev/fd/5/true', data=b'sh\\x00-c\\x00', cut=False)
    """
    name, _, data = text.partition(b"\0")
    if dirfd != AT_FDCWD and not name.startswith(b"/"):
        name = b"/dev/fd/%d" % dirfd + (b"/" + name if name else b"")
    return Arguments(name, data, cut)


def words(data: bytes) -> list[str]:
    """The arguments one by one, as text.

    >>> words(b"ls\\0\\0-l\\0")
    ['ls', '', '-l']
    """
    texts = [text_of(word) for word in data.split(b"\0")]
    if not texts[-1]:
        texts.pop()  # nothing is behind the last NUL
    return texts


def quoted(word: str) -> str:
    """A word as a shell takes it for one.

    >>> print(quoted("a-b"), quoted("a b"), quoted("it's"))
    a-b 'a b' 'it'"'"'s'
    """
    if word and SHELL_TAKES_AS_THEY_ARE.issuperset(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def command_line(quote: bool = False, most: int | None = None) -> Callable[[Arguments], str]:
    """A function that makes one line of arguments, of at most so many, for people: where the first
    is the bare name of the file, the file's whole name stands for it.

    >>> command_line(True, 2)(Arguments(b"/bin/ls", b"ls\\0a b\\0c\\0", False))
    "/bin/ls 'a b' ..."
    """

    def form(arguments: Arguments) -> str:
        line, file, cut = words(arguments.data), text_of(arguments.file), bool(arguments.cut)
        if not line or file.endswith("/" + line[0]):
            line[:1] = [file]
        if most and len(line) > most:
            line[most:], cut = [], True
        return " ".join(([quoted(word) for word in line] if quote else line) + ["..."] * cut)

    return form


def exact_line(arguments: Arguments) -> str:
    """The arguments as they are, for programs: shlex.split() takes them apart.

    >>> exact_line(Arguments(b"/bin/ls", b"ls\\0a b\\0", False))
    "ls 'a b'"
    """
    return " ".join(map(quoted, words(arguments.data)))


def matching(name: str | None, line: str | None) -> Callable[[Any], Any]:
    """A function that says whether a command's name and its arguments (a record's ``comm``, a C
    string, and ``args``) match these regular expressions; None matches all. Raises Usage."""
    in_name, in_line = _search("--name", name), _search("--line", line)
    plain = command_line()

    def matches(record: Any) -> Any:
        if in_name and not in_name(c_text(record.comm)):
            return False
        return not in_line or in_line(plain(record.args))

    return matches


def _search(option: str, text: str | None) -> Callable[[str], Any] | None:
    if text is None:
        return None
    try:
        return re.compile(text).search
    except re.error as error:
        raise Usage(f"{option} {text!r} is no regular expression: {error}") from None


def exit_code(status: int | None) -> int | None:
    """The exit status that a process gave, by what wait4(2) has; None if it gave none."""
    return None if status is None or status & 0x7F else status >> 8


def exit_signal(status: int | None) -> str | None:
    """The name of the signal that ended a process; None if none did.

    >>> exit_signal(9), exit_signal(36), exit_signal(3 << 8)
    ('SIGKILL', 'SIGRTMIN+2', None)
    """
    number = 0 if status is None else status & 0x7F
    return signal_name(number) if number else None


def how_it_ended(status: int | None) -> str | int | None:
    """The name of the signal, or else the exit status."""
    return exit_signal(status) or exit_code(status)
