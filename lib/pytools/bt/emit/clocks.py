"""C of the clocks."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.types import Int

if TYPE_CHECKING:
    from pytools.bt.emit.values import Emitter

__all__ = ["CLOCKS", "clock"]

U64 = Int(8, False)
# By what scripts call them: the helpers that read them.
CLOCKS = {"monotonic": 5, "boot": 125, "tai": 208, "sw_tai": 0}


def clock(e: Emitter, name: str) -> str:
    """Nanoseconds of a clock."""
    if name == "sw_tai" or name == "tai" and not e.whole.has_helper("ktime_get_tai_ns"):
        # The clocks differ by a number that is found when the programs are loaded.
        return e.number(U64, f"HELPER(125, u64, void)() + {e.whole.setting('TAI', ['tai'])}")
    return e.number(U64, f"HELPER({CLOCKS[name]}, u64, void)()")
