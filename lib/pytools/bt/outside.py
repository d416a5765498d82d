"""What a program does outside of itself: commands of system(), files of cat()."""
from __future__ import annotations

import os
import subprocess

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.text import escape, text_of
from pytools.bt.show.lines import complain
from pytools.domains.commands import SHELL_TAKES_AS_THEY_ARE, quoted

if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    from pytools.bt.show.lines import Lines

__all__ = ["cat", "quoting", "system"]


def cat(lines: Lines, path: str, most: int) -> None:
    """Print the beginning of a file."""
    try:
        with open(path, "rb") as file:
            data = file.read(most)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error  # a name with a NUL
        complain(f"ERROR: failed to open file '{escape(path)}' ({why})")
        return
    lines.printed("cat", text_of(data))


def system(lines: Lines, command: str) -> None:
    """Print what a command of the shell prints."""
    lines.batch_ends()  # what was printed before it stands before it
    done = subprocess.run(
        ["/bin/sh", "-c", os.fsencode(command)], stdout=subprocess.PIPE, check=False
    )
    lines.printed("syscall", text_of(done.stdout))


def quoting(pieces: Sequence[Any]) -> Callable[[int, str], str]:
    """A function that quotes the text of a conversion as the place in the command needs it where
    that stands: whatever it is, it is one word, or a part of one, and nothing in it is run."""
    states, state = [], ""
    nested = False
    for piece in pieces:
        if not isinstance(piece, str):
            states.append("nested" if nested else state)
            continue
        nested = nested or any(sign in piece for sign in ("`", "$(", "<<", "\\"))
        for character in piece:
            if character in "'\"" and state in ("", character):
                state = "" if state else character

    def quote(number: int, text: str) -> str:
        if not text or "\0" in text:
            text = text.replace("\0", "")
        if SHELL_TAKES_AS_THEY_ARE.issuperset(text) and text:
            return text
        where = states[number]
        if where == "'":
            return text.replace("'", "'\"'\"'")
        if where == '"':
            return "".join("\\" + c if c in '"$`\\' else c for c in text)
        if where == "nested":
            # What a shell takes apart twice is quoted for neither.
            return "".join(c if c in SHELL_TAKES_AS_THEY_ARE else "_" for c in text)
        return quoted(text)

    return quote
