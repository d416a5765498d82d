"""What the library and the compiler's child must agree on. The child imports no more of the library
than this, images and system calls: it starts when nothing else of a cold start has begun."""
from __future__ import annotations

__all__ = ["LAYOUT", "NO_BCC", "SETTING", "setting_number"]

# A setting in the instructions: this, and its place in the list of all. No
# number that a program has of its own looks like it.
SETTING = 0x7E57AB1E5E770000
# What is behind the name of a ring buffer in that of the array that describes its records.
LAYOUT = "_layout"
NO_BCC = 3  # the child's exit status when it cannot load bcc


def setting_number(constant: int) -> int | None:
    """The place of a setting in the list of all, by the constant that stands for it."""
    return constant - SETTING if SETTING <= constant < SETTING + 0x10000 else None
