"""Signals by number and by name, as the running architecture numbers them."""
from __future__ import annotations

import argparse
import re
import signal

__all__ = ["LAST_NUMBER", "cause", "description", "signal_name", "signal_number",
           "signal_numbers"]  # fmt: skip

LAST_NUMBER = 64  # _NSIG of every architecture but MIPS
# The kernel's real-time signals begin at 32. The C library keeps the first ones for itself, and
# Python and kill(1) count from the first that it leaves to programs.
_FIRST, _LAST = int(signal.SIGRTMIN), int(signal.SIGRTMAX)
_NAMES = {
    int(each): each.name for each in signal.Signals if not each.name.startswith("SIGRT")
}  # fmt: skip
_NUMBERS = {**{name: number for number, name in _NAMES.items()}, "SIGIOT": int(signal.SIGABRT)}


def signal_name(number: int) -> str:
    """The name of a signal, its number where it has none.

    >>> signal_name(9), signal_name(34), signal_name(36), signal_name(32)
    ('SIGKILL', 'SIGRTMIN', 'SIGRTMIN+2', '32')
    """
    if _FIRST < number <= _LAST:
        return f"SIGRTMIN+{number - _FIRST}"
    return "SIGRTMIN" if number == _FIRST else _NAMES.get(number, str(number))


def description(number: int) -> str:
    """What a signal says, as strsignal(3) has it.

    >>> description(2), description(34), description(0)
    ('Interrupt', 'Real-time signal 0', 'Unknown signal 0')
    """
    try:
        said = signal.strsignal(number)
    except ValueError:  # no number of a signal
        said = None
    return said or f"Unknown signal {number}"


def signal_number(text: str) -> int:
    """The number of a signal, given by number or name. Raises ValueError.

    >>> signal_number("9"), signal_number("kill"), signal_number("SIGRTMIN+2")
    (9, 9, 36)
    """
    if text.isascii() and text.isdigit():
        number = int(text)
        if number > LAST_NUMBER:
            raise ValueError(f"{text!r} is not the number of a signal")
        return number
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    if real_time := re.fullmatch(r"SIGRT(MIN|MAX)([-+]\d{1,2})?", name, re.ASCII):
        number = (_FIRST if real_time[1] == "MIN" else _LAST) + int(real_time[2] or 0)
        if _FIRST <= number <= _LAST:
            return number
    if name not in _NUMBERS:
        raise ValueError(f"{text!r} is not the name of a signal")
    return _NUMBERS[name]


def signal_numbers(text: str) -> list[int]:
    """An argument that is a list of signals, by number or name, with commas between them."""
    try:
        return [signal_number(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# si_code of siginfo_t, without SI_ and CLD_ (include/uapi/asm-generic/siginfo.h).
_CODES = {
    0: "user", 0x80: "kernel", -1: "queue", -2: "timer", -3: "mesgq", -4: "asyncio", -5: "sigio",
    -6: "tkill", -60: "asyncnl",
}  # fmt: skip
_CHILD_CODES = ("exited", "killed", "dumped", "trapped", "stopped", "continued")


def cause(sig: int, code: int) -> str:
    """Why a signal was sent, by its number and its ``si_code``.

    >>> cause(9, 0), cause(10, -6), cause(17, 1), cause(11, 2)
    ('user', 'tkill', 'exited', 'code 2')
    """
    if sig == signal.SIGCHLD and 0 < code <= len(_CHILD_CODES):
        return _CHILD_CODES[code - 1]
    return _CODES.get(code, f"code {code}")
