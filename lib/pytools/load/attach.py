"""Programs to hooks. Every attachment is a file descriptor and nothing else:
closing it, or the end of the process in whatever way, detaches."""
from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import resource
import struct

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.facts import kernel
from pytools.base import system
from pytools.base.errors import Failure
from pytools.compile.image import ProgramSpec
from pytools.facts.kernel import Kernel

from pytools.load.loader import (
    BPF_TRACE_KPROBE_MULTI, BPF_TRACE_KPROBE_SESSION, BPF_TRACE_UPROBE_MULTI, Loaded, refusal,
)  # fmt: skip

if TYPE_CHECKING:
    from typing import Callable, Sequence

    from pytools.facts.elf import File

__all__ = ["Attachment", "Sampling", "attach", "attach_user", "counts_cycles"]

RAW_TRACEPOINT_OPEN = 17
PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT = 0, 1, 2
PERF_COUNT_HW_CPU_CYCLES = PERF_COUNT_SW_CPU_CLOCK = 0
PERF_ATTR_BYTES = 72  # PERF_ATTR_SIZE_VER1: all that is needed here
PERF_ATTR_FREQ = 1 << 10  # the bit-field "freq": the period is a frequency
PERF_EVENT_IOC_ENABLE = 0x2400
UPROBE_PMU = "/sys/bus/event_source/devices/uprobe"
USER_KINDS = ("uprobe", "uretprobe", "usdt")  # without .multi
# Programs that a link attaches to functions: whether each runs when they return.
FUNCTION_RETURNS = {"kprobe.multi": False, "kretprobe.multi": True}
MOST_CLOSING = 32
LINK_CREATE = 28
BPF_F_KPROBE_MULTI_RETURN = BPF_F_UPROBE_MULTI_RETURN = 1
PERF_EVENT_IOC_SET_BPF = 0x40042408


class Sampling(NamedTuple):
    """When programs on perf events run: ``frequency`` times a second, or each time that an event
    has happened ``period`` times, on every online CPU or those given. The event is a nanosecond of
    the CPU's clock, or with ``cycles`` a cycle of it, which hardware counts, also where interrupts
    are off."""

    frequency: int = 0
    period: int = 0
    cpus: Sequence[int] | None = None
    cycles: bool = False

    @property
    def rate(self) -> str:
        if not self.period:
            return f"{self.frequency} Hz"
        return f"every {self.period} {'cycles' if self.cycles else 'ns'}"

    @property
    def event(self) -> str:
        return "cpu-cycles" if self.cycles else "cpu-clock"


class Attachment:
    """All that a tool has attached."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self.said: list[str] = []  # for -v
        self.places: set[tuple[object, ...]] = set()  # of user functions

    def detach(self, progress: Callable[[int, int], None] | None = None) -> None:
        """``progress`` is told how many of how many are done, now and then."""
        # Each of a user function's waits for a grace period of the kernel's, some 50 ms.
        # Those of links (.multi) can wait together.
        closing = []
        if self.places and len(self.descriptors) > 1:
            from threading import Thread

            closing = [Thread(target=self._close) for _ in range(MOST_CLOSING)]
        started = []
        for thread in closing:
            try:
                thread.start()
            except RuntimeError:  # no more of them are allowed
                break
            started.append(thread)
        self._close(progress)
        for thread in started:
            thread.join()

    def _close(self, progress: Callable[[int, int], None] | None = None) -> None:
        total = len(self.descriptors)
        while True:
            try:
                descriptor = self.descriptors.pop()
            except IndexError:
                return
            os.close(descriptor)
            if progress is not None:
                progress(total - len(self.descriptors), total)


def attach(loaded: Loaded, running: Kernel, sampling: Sampling = Sampling()) -> Attachment:
    """Attach every program to the hook that its template names."""
    # All that must be looked up is, before the first program watches.
    cpus = kernel.online_cpus()
    offline = set(sampling.cpus or []) - set(cpus)
    if offline:
        raise Failure(f"CPU {min(offline)} is not online")
    numbers = {
        program.target: running.tracepoint_id(*program.target.split(":"))
        for program, _ in loaded.programs
        if program.kind == "tracepoint"
    }
    attachment = Attachment()
    # A kretprobe puts an address of its own where the function returns to, and before v5.15 a stack
    # begins with that. Of the probes of a function, the one attached last runs first.
    programs = sorted(loaded.programs, key=lambda each: each[0].kind != "kretprobe")
    try:
        for program, fd in programs:
            if program.kind == "perf_event":
                _sample(attachment, fd, sampling, cpus if sampling.cpus is None else sampling.cpus)
            elif program.kind == "tracepoint":
                # It runs on every CPU, whichever the event is opened for.
                tracepoint(attachment, program.target, fd, numbers[program.target], cpus[0])
            elif program.kind in FUNCTION_RETURNS:
                _linked_function(attachment, program, fd)
            elif program.kind.partition(".")[0] in USER_KINDS:
                _uprobe_pmu()  # attached when it is said where (attach_user)
            elif program.kind == "raw_tracepoint":
                raw_tracepoint(attachment, program.target, fd)
            elif program.kind == "classifier":
                pass  # the interfaces are the tool's choice: traffic.Traffic
            elif program.type_id:
                with_types(attachment, program, fd)
            else:
                _probed_function(attachment, program, fd, cpus[0])
    except BaseException:
        attachment.detach()
        raise
    return attachment


def perf_attributes(
    kind: int, config: int, period: int, flags: int, config1: int = 0, config2: int = 0
) -> bytes:
    """struct perf_event_attr; ``period`` is a frequency with PERF_ATTR_FREQ among the flags."""
    return struct.pack(
        "=IIQQQQQQQQ", kind, PERF_ATTR_BYTES, config, period, 0, 0, flags, 0, config1, config2
    )


def _sampled(sampling: Sampling) -> bytes:
    kind, config = (
        (PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES)
        if sampling.cycles
        else (PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK)
    )
    flags = 0 if sampling.period else PERF_ATTR_FREQ
    return perf_attributes(kind, config, sampling.period or sampling.frequency, flags)


def counts_cycles() -> bool:
    """Whether the CPUs have a counter of cycles that can interrupt (a PMU), as far as this process
    may know: most virtual machines have none."""
    try:
        attributes = _sampled(Sampling(frequency=1, cycles=True))
        os.close(system.perf_event_open(attributes, kernel.online_cpus()[0]))
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EPERM)  # attaching says what is missing
    return True


def _sample(attachment: Attachment, program: int, sampling: Sampling, cpus: Sequence[int]) -> None:
    attributes = _sampled(sampling)
    sampled = []
    for cpu in cpus:
        try:
            event = system.perf_event_open(attributes, cpu)
        except OSError as error:
            if error.errno == errno.ENODEV:
                continue  # went offline meanwhile
            if error.errno == errno.EINVAL:
                raise too_often(sampling.frequency) from None
            raise refusal(f"open a perf event on CPU {cpu}", error) from None
        attachment.descriptors.append(event)
        set_program(event, program, "a perf event")
        sampled.append(str(cpu))
    on = ",".join(sampled)
    attachment.said.append(f"perf event {sampling.event}, {sampling.rate}, CPUs {on}")


def too_often(frequency: int) -> Failure:
    """The failure of a perf event that should come so many times a second."""
    return Failure(
        f"cannot sample at {frequency} Hz: more than "
        "/proc/sys/kernel/perf_event_max_sample_rate allows"
    )


def tracepoint(attachment: Attachment, target: str, program: int, number: int, cpu: int) -> None:
    """Attach a program to the tracepoint of that number; raises Failure."""
    try:
        event = system.perf_event_open(
            perf_attributes(PERF_TYPE_TRACEPOINT, number, 1, 0),
            cpu,
        )
    except OSError as error:
        raise refusal(f"open tracepoint {target}", error) from None
    attachment.descriptors.append(event)
    set_program(event, program, f"tracepoint {target}")
    attachment.said.append(f"tracepoint {target}")


def raw_tracepoint(attachment: Attachment, target: str, program: int) -> None:
    """Attach a program to a raw tracepoint; raises Failure."""
    name = ctypes.create_string_buffer(target.encode())
    attributes = bytearray(struct.pack("=QI4x", ctypes.addressof(name), program))
    try:
        attachment.descriptors.append(system.bpf(RAW_TRACEPOINT_OPEN, attributes))
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise Failure(f"this kernel has no raw tracepoint {target}") from None
        raise refusal(f"attach to raw tracepoint {target}", error) from None
    attachment.said.append(f"raw tracepoint {target}")


def with_types(attachment: Attachment, program: ProgramSpec, fd: int) -> None:
    """Attach a program that was loaded for a function or raw tracepoint; raises Failure."""
    kind = "raw tracepoint" if program.kind == "tp_btf" else "function"
    what = f"{kind} {program.target}"
    try:
        link = system.bpf(RAW_TRACEPOINT_OPEN, bytearray(struct.pack("=QI4x", 0, fd)))
    except OSError as error:
        raise refusal(f"attach to {what}", error) from None
    attachment.descriptors.append(link)
    attachment.said.append(f"{what} ({program.kind})")


def _linked_function(attachment: Attachment, program: ProgramSpec, fd: int) -> None:
    try:
        link = kprobe_multi(fd, [program.target], returns=FUNCTION_RETURNS[program.kind])
    except OSError as error:
        raise refusal(f"attach to function {program.target}", error) from None
    attachment.descriptors.append(link)
    attachment.said.append(f"function {program.target} ({program.kind})")


def kprobe_multi(
    program: int,
    functions: Sequence[str],
    numbers: Sequence[int] = (),
    returns: bool = False,
    session: bool = False,
) -> int:
    """A link of a program to functions, or to their returns (kprobe_multi of union bpf_attr), or
    (``session``) to both; ``numbers`` are what a cookie tells the program, by function. Raises
    OSError."""
    attach_type = BPF_TRACE_KPROBE_SESSION if session else BPF_TRACE_KPROBE_MULTI
    names = [ctypes.create_string_buffer(function.encode()) for function in functions]
    symbols = _numbers([ctypes.addressof(name) for name in names])
    cookies = _numbers(numbers)
    attributes = struct.pack(
        "=IIIIIIQQQ", program, 0, attach_type, 0,
        BPF_F_KPROBE_MULTI_RETURN if returns else 0, len(names),
        ctypes.addressof(symbols), 0, ctypes.addressof(cookies) if numbers else 0,
    )  # fmt: skip
    return system.bpf(LINK_CREATE, bytearray(attributes))


def _probed_function(attachment: Attachment, program: ProgramSpec, fd: int, cpu: int) -> None:
    if not os.path.exists(kernel.KPROBE_TYPE):
        raise Failure(
            f"cannot attach to function {program.target}: this kernel has no kprobes "
            "(CONFIG_KPROBE_EVENTS)"
        )
    try:
        event = kprobe_event(program.target, fd, cpu, program.kind == "kretprobe")
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise Failure(f"this kernel has no function {program.target}") from None
        raise refusal(f"attach to function {program.target}", error) from None
    attachment.descriptors.append(event)
    attachment.said.append(f"function {program.target} ({program.kind})")


def kprobe_event(
    function: str, program: int, cpu: int, returns: bool = False, offset: int = 0
) -> int:
    """A perf event of a function, of an offset in it, or of its return, that runs a program; of an
    address, if no function is named. Raises OSError where it can't be had, Failure where the
    program can't be attached to it."""
    with open(kernel.KPROBE_TYPE) as file:
        kind = int(file.read())
    name = ctypes.create_string_buffer(function.encode())
    named = ctypes.addressof(name) if function else 0
    # The bit is the one that format/retprobe names.
    attributes = perf_attributes(kind, int(returns), 1, 0, named, offset)
    event = system.perf_event_open(attributes, cpu)
    try:
        set_program(event, program, f"function {function or hex(offset)}")
    except Failure:
        os.close(event)
        raise
    return event


def attach_user(
    attachment: Attachment,
    programs: Sequence[tuple[ProgramSpec, int]],
    file: File,
    places: Sequence[tuple[int, int]],
    pid: int = -1,
) -> list[int]:
    """Attach programs to instructions at places in a file, for all processes or for
    one: (offset, offset of the semaphore, a counter that is raised meanwhile, or 0). A
    program that is there already is left alone; the offsets where any was not."""
    new: list[int] = []
    # The return first: an entry without its return is kept in vain.
    for program, fd in sorted(programs, key=lambda pair: pair[0].name.startswith("uprobe")):
        wanted = [
            place
            for place in dict(places).items()
            if (program.name, file.identity, place[0], pid) not in attachment.places
        ]
        if not wanted:
            continue
        if program.kind.endswith(".multi"):
            _many_places(attachment, program, fd, file, wanted, pid)
        else:
            for offset, semaphore in wanted:
                _one_place(attachment, program, fd, file, offset, semaphore, pid)
        for offset, _ in wanted:
            attachment.places.add((program.name, file.identity, offset, pid))
            attachment.said.append(f"{_at(program, file, offset)} ({program.kind})")
            if offset not in new:
                new.append(offset)
    return new


def _at(program: ProgramSpec, file: File, offset: int) -> str:
    return f"{program.target} at {file.path}+{offset:#x}"


def _path_of(file: File) -> ctypes.Array[ctypes.c_char]:
    # The descriptor's own name: what was read is what is attached to.
    return ctypes.create_string_buffer(f"/proc/self/fd/{file.fd}".encode())


def uprobe_multi(
    program: int,
    file: File,
    places: Sequence[tuple[int, int]],
    numbers: Sequence[int] = (),
    returns: bool = False,
    pid: int = -1,
) -> int:
    """A link of a program to places in a file, or to where the functions there return, for all
    processes or for one (uprobe_multi of union bpf_attr); ``numbers`` are what a cookie tells the
    program, by place. Raises OSError."""
    path = _path_of(file)
    offsets = _numbers([offset for offset, _ in places])
    semaphores = _numbers([semaphore for _, semaphore in places])
    cookies = _numbers(numbers)
    attributes = struct.pack(
        "=IIIIQQQQIIII", program, 0, BPF_TRACE_UPROBE_MULTI, 0, ctypes.addressof(path),
        ctypes.addressof(offsets), ctypes.addressof(semaphores),
        ctypes.addressof(cookies) if numbers else 0, len(places),
        BPF_F_UPROBE_MULTI_RETURN if returns else 0, max(pid, 0), 0,
    )  # fmt: skip
    return system.bpf(LINK_CREATE, bytearray(attributes))


def _numbers(values: Sequence[int]) -> ctypes.Array[ctypes.c_uint64]:
    return (ctypes.c_uint64 * len(values))(*values)


def _many_places(
    attachment: Attachment,
    program: ProgramSpec,
    fd: int,
    file: File,
    places: Sequence[tuple[int, int]],
    pid: int,
) -> None:
    returns = program.kind == "uretprobe.multi"
    try:
        link = _descriptor(lambda: uprobe_multi(fd, file, places, returns=returns, pid=pid))
    except OSError as error:
        raise refusal(f"attach to {_at(program, file, places[0][0])}", error) from None
    attachment.descriptors.append(link)


def _one_place(
    attachment: Attachment,
    program: ProgramSpec,
    fd: int,
    file: File,
    offset: int,
    semaphore: int,
    pid: int,
) -> None:
    kind, return_flag, semaphore_shift = _uprobe_pmu()
    config = return_flag if program.kind == "uretprobe" else 0
    if semaphore:
        if semaphore_shift is None or semaphore >> 32:
            raise Failure(
                f"cannot watch probe {program.target} of {file.path}: this kernel does not "
                "raise its semaphore (Linux 4.20 does)"
            )
        config |= semaphore << semaphore_shift
    path = _path_of(file)
    attributes = perf_attributes(kind, config, 1, 0, ctypes.addressof(path), offset)
    what = _at(program, file, offset)
    # For all processes, it runs on every CPU, whichever the event is opened for.
    cpu = kernel.online_cpus()[0] if pid < 0 else -1
    try:
        event = _descriptor(lambda: system.perf_event_open(attributes, cpu, pid))
    except OSError as error:
        raise refusal(f"attach to {what}", error) from None
    attachment.descriptors.append(event)
    set_program(event, fd, what)


def more_descriptors() -> bool:
    """Let this process have as many descriptors as it may; whether that is more than before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft != hard


def _descriptor(opened: Callable[[], int]) -> int:
    """A descriptor, with more of them allowed if that is needed."""
    try:
        return opened()
    except OSError as error:
        if error.errno != errno.EMFILE or not more_descriptors():
            raise
    return opened()


@functools.lru_cache(maxsize=None)
def _uprobe_pmu() -> tuple[int, int, int | None]:
    """(the type of perf events, the bit that makes it a return, where a semaphore's
    offset begins; None before Linux commit a6ca88b241d5, v4.20)."""
    try:
        with open(f"{UPROBE_PMU}/type") as file:
            kind = int(file.read())
        with open(f"{UPROBE_PMU}/format/retprobe") as file:
            return_bit = int(file.read().strip().rpartition(":")[2])
    except (OSError, ValueError):
        raise Failure(
            "cannot attach to programs' functions: this kernel has no uprobes "
            "(CONFIG_UPROBE_EVENTS)"
        ) from None
    try:
        with open(f"{UPROBE_PMU}/format/ref_ctr_offset") as file:
            return kind, 1 << return_bit, int(file.read().partition(":")[2].partition("-")[0])
    except (OSError, ValueError):
        return kind, 1 << return_bit, None


def set_program(event: int, program: int, what: str) -> None:
    """Let a program run at a perf event, from now on; raises Failure."""
    try:
        fcntl.ioctl(event, PERF_EVENT_IOC_SET_BPF, program)
        fcntl.ioctl(event, PERF_EVENT_IOC_ENABLE, 0)
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise Failure(f"cannot attach to {what}: too many programs are on it") from None
        raise refusal(f"attach to {what}", error) from None
