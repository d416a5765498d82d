"""C of the clocks."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.types import Int

if TYPE_CHECKING:
    from pytools.bt.emit.values import Emitter

__all__ = ["CLOCKS", "clock"]

U64 = Int(8, False)
# By what scripts call them: the helpers that read them.
CLOCKS = {
    "monotonic": "helper_clock_monotonic",
    "boot": "helper_clock_boot",
    "tai": "helper_clock_tai",
    "sw_tai": "helper_clock_boot",
}


def clock(e: Emitter, name: str) -> str:
    """Nanoseconds of a clock."""
    if name == "sw_tai" or name == "tai" and not e.whole.has_helper("ktime_get_tai_ns"):
        # The clocks differ by a number that is found when the programs are loaded.
        return e.number(U64, f"helper_clock_boot() + {e.whole.setting('TAI', ['tai'])}")
    return e.number(U64, f"{CLOCKS[name]}()")
