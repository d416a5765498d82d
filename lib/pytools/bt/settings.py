"""The numbers that are put in when a program is loaded: parameters, pids, addresses, times."""
from __future__ import annotations

import os
import re
import time

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.base.system import device_number

if TYPE_CHECKING:
    from typing import Any, Mapping, Sequence

    from pytools.bt.plan import Plan

__all__ = ["numbers", "parameter"]

_NUMBER = r"([+-]?)(0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)[uUlL]*"
_EXPONENT = r"([+-]?)(\d+)[eE](\d{1,2})"


def numbers(
    plan: Plan,
    parameters: Sequence[str],
    pid: int,
    child: int,
    filters: Mapping[str, int],
) -> dict[str, int]:
    """The settings of a plan, by their names. ``pid`` is the process that it is about and ``child``
    the one that it has started (0: none), ``filters`` are those of the shared options. Raises
    Failure."""
    given = {"pid": pid, "cpid": child}
    found = {}
    for name, (word, *rest) in plan.settings.items():
        if word == "parameter":
            (number,) = rest
            text = parameters[number - 1] if number <= len(parameters) else "0"
            found[name] = len(parameters) if number == 0 else parameter(text, number)
        elif word in given:
            found[name] = given[word]
        elif word == "index":
            continue  # which the program is told when it is attached
        elif word == "filter":
            found[name] = filters[rest[0]]
        else:
            found[name] = _FINDERS[word](*rest)
    return found


def parameter(text: str, number: int) -> int:
    """A parameter that is a number, as C writes them, or with an exponent. Raises Failure.

    >>> parameter("0x10", 1), parameter("-2", 1), parameter("1e3", 1), parameter("0775", 1)
    (16, -2, 1000, 509)
    """
    plain = text.strip().replace("_", "")
    match = re.fullmatch(_NUMBER, plain)
    if match:
        sign, digits = match.groups()
        octal = len(digits) > 1 and digits.isdigit() and digits[0] == "0"
        try:
            value = int(digits, 8 if octal else 0)
        except ValueError:
            value = int(digits)
        return -value if sign == "-" else value
    match = re.fullmatch(_EXPONENT, plain)
    if match:
        sign, digits, power = match.groups()
        value = int(digits) * 10 ** int(power)
        return -value if sign == "-" else value
    raise Failure(f"parameter ${number} is used as a number: {text!r} is none")


def _start() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _kernel_address(symbol: str) -> int:
    """The address of a function or a variable of the kernel."""
    from pytools.facts.kernel import symbol_address

    try:
        address = symbol_address(symbol)
    except OSError as error:
        raise Failure(f"cannot read /proc/kallsyms: {error.strerror}") from None
    if not address:
        raise Failure(f"Failed to resolve kernel symbol: {symbol}")
    return address


def _user_address(path: str, symbol: str) -> int:
    """The address that a symbol has in a program's file."""
    from pytools.bt.user_hooks import path_of
    from pytools.facts.elf import File

    with File(path_of(path)) as file:
        address = file.symbol_address(symbol)
    if address is None:
        raise Failure(f"Could not resolve symbol: {path}:{symbol}")
    return address


def _probed_address(path: str, function: str, offset: int) -> int:
    """The address that a uprobe has in a program's file, if the file may be put anywhere; else 0,
    as nothing needs to be asked of the probe."""
    from pytools.bt.user_hooks import path_of
    from pytools.facts.elf import File

    with File(path_of(path)) as file:
        if not file.movable:
            return 0
    return offset + (int(function, 0) if function[:1].isdigit() else _user_address(path, function))


def _unmoved(path: str) -> int:
    """Nothing. Raises Failure if a file may be put anywhere."""
    from pytools.bt.user_hooks import path_of
    from pytools.facts.elf import File

    with File(path_of(path)) as file:
        if file.movable:
            raise Failure(
                f"uaddr(): {path} is position independent: where its symbols are is known at a "
                "uprobe of one function only"
            )
    return 0


def _cgroup(path: str) -> int:
    """The id of a cgroup: the inode number of its folder."""
    try:
        return os.stat(path).st_ino
    except OSError as error:
        raise Failure(f"cannot find the cgroup {path}: {error.strerror}") from None


def _constant(number: int) -> int:
    return number


def _cpus() -> int:
    from pytools.facts.kernel import possible_cpus

    return len(possible_cpus())


def _tai() -> int:
    """How much later it is by the clock CLOCK_TAI than by CLOCK_BOOTTIME, in nanoseconds."""
    return time.clock_gettime_ns(11) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _pid_namespace(what: str) -> int:
    """The device or the number by which the kernel knows our pid namespace; 0 for the first one."""
    from pytools.facts.kernel import in_first_pid_namespace

    if in_first_pid_namespace():
        return 0
    status = os.stat("/proc/self/ns/pid")
    return device_number(status.st_dev) if what == "device" else status.st_ino


_FINDERS: dict[str, Any] = {
    "pid_namespace": _pid_namespace,
    "tai": _tai,
    "start": _start,
    "kaddr": _kernel_address,
    "uaddr": _user_address,
    "probed": _probed_address,
    "unmoved": _unmoved,
    "cgroupid": _cgroup,
    "constant": _constant,
    "cpus": _cpus,
}
