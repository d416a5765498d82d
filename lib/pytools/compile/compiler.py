"""Rendered C to an image: bcc compiles it in a child process.

LLVM takes 130 MiB and bcc cannot give it back, so the process that uses it ends
when the image is made; a tool whose image is cached never starts one.

The child is forked before the template is rendered: bcc is being loaded while
the kernel's types are being read.
"""
from __future__ import annotations

import json
import os
import sys

from pytools.base.annotations import TYPE_CHECKING
from pytools.base import child
from pytools.base.errors import Failure
from pytools.compile.agreed import NO_BCC
from pytools.compile.image import Image

if TYPE_CHECKING:
    from typing import Callable

    from pytools.compile.template import Rendered

__all__ = ["Compiler", "require_headers"]

HERE = os.path.dirname(os.path.realpath(__file__))
# Stands in for the kernel's headers.
INCLUDE = os.path.join(HERE, "include")


class Compiler:
    """A child process that compiles one program.

    >>> with Compiler() as compiler:
    ...     image = compiler.compile(rendered)
    """

    def __init__(self) -> None:
        self._child = child.Forked("the compiler", _compile)

    def __enter__(self) -> Compiler:
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.end()

    def compile(self, rendered: Rendered, meanwhile: Callable[[], object] = lambda: None) -> Image:
        """Compile, and call ``meanwhile`` while the child does; raises Failure with the compiler's
        own messages as detail."""
        require_headers(rendered)
        request = {
            "text": rendered.text,
            # Empty: bcc looks for the kernel's headers itself, as it always does.
            "source": "" if rendered.headers else INCLUDE,
            "hooks": rendered.hooks,
            "settings": rendered.settings,
        }
        self._child.give(json.dumps(request).encode())
        meanwhile()
        output, messages = self._child.wait()
        status = self._child.returncode or 0
        detail = messages.decode("utf-8", "replace").strip()
        if status == NO_BCC:
            raise Failure(NO_BCC_TEXT, detail)
        if status != 0:
            why = _first_error(detail) or child.reason(status, detail)
            raise Failure(f"cannot compile the BPF program: {why}", detail)
        try:
            return Image.parse(output)
        except ValueError:
            raise Failure("the compiler gave no image", detail) from None


def _compile() -> None:
    """What the child does."""
    from pytools.compile import compiler_child  # which is the child's only

    compiler_child.main()


NO_BCC_TEXT = (
    f"bcc is not installed for {sys.executable}: install python3-bpfcc (Debian, Ubuntu) or "
    "python3-bcc (Fedora, openSUSE)"
)


def require_headers(rendered: Rendered) -> None:
    """Raise Failure where the kernel's headers are needed and are not installed."""
    if rendered.headers and not os.path.isdir(rendered.headers):
        raise Failure(
            "this kernel has neither type information (BTF, CONFIG_DEBUG_INFO_BTF) nor "
            f"headers in {rendered.headers}: install the headers of {os.uname().release}"
        )


def _first_error(messages: str) -> str:
    for line in messages.splitlines():
        if "error:" in line:
            return line.replace("/virtual/main.c:", "line ").strip()
    return ""
