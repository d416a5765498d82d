"""What BPF programs are attached to, in words: through links, perf events, cgroups and network
devices."""
from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys

from pytools.base import system
from pytools.base.annotations import TYPE_CHECKING
from pytools.base.text import c_text, text_of
from pytools.domains.bpf_objects import ATTACH_TYPES, BpfProgram, Link, Objects
from pytools.domains.containers import Containers
from pytools.domains.network_namespaces import Namespaces, namespaces
from pytools.facts.kernel import running

if TYPE_CHECKING:
    from typing import Iterator, Mapping


__all__ = ["Places", "in_cgroups", "of_perf_event", "on_devices"]

TASK_FD_QUERY, PROG_QUERY = 20, 16
TEXT_BYTES = 4096  # a path, of a uprobe
MOST_OF_A_CGROUP = 64  # programs of one type (BPF_CGROUP_MAX_PROGS)
# enum bpf_task_fd_type; enum bpf_perf_event_type has the same in another order, from 1 on.
QUERIED = ("rawtracepoint", "tracepoint", "kprobe", "kretprobe", "uprobe", "uretprobe")
PERF_LINKS = ("", "uprobe", "uretprobe", "kprobe", "kretprobe", "tracepoint", "perf_event")
# What a link's type of attaching is called in tplist and in bt, where the kernel's name differs.
TRACED = {
    "trace_raw_tp": "rawtracepoint", "trace_fentry": "fentry", "trace_fexit": "fexit",
    "modify_return": "fmodret", "lsm_mac": "lsm", "trace_iter": "iter",
    "trace_fsession": "fsession",
}  # fmt: skip
FAMILIES = {2: "ipv4", 7: "bridge", 10: "ipv6"}
NETFILTER_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
RETURN_OF_MULTI = 1  # BPF_F_KPROBE_MULTI_RETURN, BPF_F_UPROBE_MULTI_RETURN


def _device(number: int) -> str:
    """A network device of this network namespace by its number."""
    try:
        return socket.if_indextoname(number)
    except OSError:
        return f"device {number}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)


def _at(kind: str, name: str, offset: int) -> str:
    """A place in the kernel, or in a file.

    >>> _at("kprobe", "vfs_read", 4), _at("uprobe", "/bin/sh", 16)
    ('kprobe:vfs_read+0x4', 'uprobe:/bin/sh:0x10')
    """
    if kind in ("uprobe", "uretprobe"):
        return f"{kind}:{name}:{offset:#x}"
    return f"{kind}:{name}" + (f"+{offset:#x}" if offset else "")


class Places:
    """What links attach programs to."""

    def __init__(self, programs: Mapping[int, BpfProgram], maps: Mapping[int, str]) -> None:
        self._programs = programs
        self._maps = maps  # names by id
        self._containers = Containers()
        self._namespaces = Namespaces()

    def of_link(self, link: Link) -> str:
        """What a link attaches its program to; its type, if the kernel tells no more."""
        first, second = struct.unpack_from("=II", link.info, 16)
        kind = link.kind
        if kind == "raw_tracepoint":
            return f"rawtracepoint:{link.texts.get(16, '')}"
        if kind == "perf_event":
            return self._of_perf_event(link, first)
        if kind == "tracing":
            return self._of_tracing(link, first)
        if kind == "cgroup":
            (cgroup,) = struct.unpack_from("=Q", link.info, 16)
            (attached,) = struct.unpack_from("=I", link.info, 24)
            path = self._containers.path(cgroup) or f"cgroup {cgroup}"
            return f"{ATTACH_TYPES.get(attached, attached)}:{path}"
        if kind == "iter":
            name, (of_map,) = link.texts.get(16, ""), struct.unpack_from("=I", link.info, 28)
            return f"iter:{name}" + (f":{self._map(of_map)}" if of_map else "")
        if kind == "netns":
            return f"{ATTACH_TYPES.get(second, second)}:{self._namespaces.name(first)}"
        if kind == "xdp":
            return f"xdp:{_device(first)}"
        if kind in ("tcx", "netkit"):
            return f"{ATTACH_TYPES.get(second, second)}:{_device(first)}"
        if kind == "sockmap":
            return f"{ATTACH_TYPES.get(second, second)}:{self._map(first)}"
        if kind == "struct_ops":
            return f"struct_ops:{self._map(first)}"
        if kind == "netfilter":
            hook = dict(enumerate(NETFILTER_HOOKS)).get(second, str(second))
            return f"netfilter:{FAMILIES.get(first, first)}:{hook}"
        if kind in ("kprobe_multi", "uprobe_multi"):
            return self._of_many(link, second)
        return kind

    def _of_perf_event(self, link: Link, number: int) -> str:
        kind = PERF_LINKS[number] if number < len(PERF_LINKS) else ""
        if not kind:  # before Linux v6.6 the kernel does not tell
            return ""
        if kind == "perf_event":
            config, event = struct.unpack_from("=QI", link.info, 24)
            return f"perf_event:{_event(event, config)}"
        offset, address = struct.unpack_from("=IQ", link.info, 36)
        name = link.texts.get(24) or f"{address:#x}"
        return _at(kind, name, 0 if kind == "tracepoint" else offset)

    def _of_tracing(self, link: Link, attached: int) -> str:
        name = ATTACH_TYPES.get(attached, str(attached))
        kind = TRACED.get(name, name)
        program = self._programs.get(link.program)
        if program is not None and program.kind == "ext":
            kind = "freplace"
        of, type_id = struct.unpack_from("=II", link.info, 20)
        types = program.target[0] if program is not None else 0
        if not types:  # before Linux v6.0 the kernel does not tell
            return kind
        owner = Objects.kernel_types(types)
        if owner == "vmlinux":
            return f"{kind}:{running().btf.name(type_id)}" if running().has_btf else kind
        if owner:
            return f"{kind}:a function of the module {owner}"
        return f"{kind}:{Objects.type_name(types, type_id)} of program {of}"

    def _of_many(self, link: Link, count: int) -> str:
        kind = link.kind.partition("_")[0]
        if kind == "kprobe":
            (flags,) = struct.unpack_from("=I", link.info, 24)
            name = "kretprobe" if flags & RETURN_OF_MULTI else "kprobe"
            return f"{name}:{_counted(count, 'function')}"
        count, flags = struct.unpack_from("=II", link.info, 52)
        name = "uretprobe" if flags & RETURN_OF_MULTI else "uprobe"
        return f"{name}:{link.texts.get(16, '')}:{_counted(count, 'place')}"

    def _map(self, number: int) -> str:
        return self._maps.get(number) or f"map {number}"


def _event(kind: int, config: int) -> str:
    """A perf event by its type and config."""
    from pytools.load import perf_events  # few links need it

    known = {0: perf_events.HARDWARE, 1: perf_events.SOFTWARE}.get(kind, {})
    names = [name for name, event in known.items() if event.number == config]
    return names[0] if names else f"type {kind} config {config:#x}"


def of_perf_event(pid: int, descriptor: int) -> tuple[int, str] | None:
    """Which program runs at a perf event that is a process's descriptor, and where that is; None
    where none runs. The program is 0 if the kernel does not tell: of events that count or sample.
    """
    text = ctypes.create_string_buffer(TEXT_BYTES)
    attributes = bytearray(
        struct.pack(
            "=IIIIQIIQQ", pid, descriptor, 0, TEXT_BYTES, ctypes.addressof(text), 0, 0, 0, 0
        )
    )
    try:
        system.bpf(TASK_FD_QUERY, attributes)
    except OSError as error:
        return (0, "perf_event") if error.errno == errno.EOPNOTSUPP else None
    program, kind, offset, address = struct.unpack_from("=IIQQ", attributes, 24)
    name = text_of(text.value) or f"{address:#x}"
    return program, _at(QUERIED[kind] if kind < len(QUERIED) else str(kind), name, offset)


def in_cgroups() -> Iterator[tuple[int, str]]:
    """The programs that are attached to cgroups of version 2, with or without a link, and where."""
    root = Containers().root
    kinds = {n: name for n, name in ATTACH_TYPES.items() if name.startswith("cgroup")}
    ids = ctypes.create_string_buffer(4 * MOST_OF_A_CGROUP)
    for folder, _, _ in os.walk(root):
        try:
            cgroup = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            for number in list(kinds):
                attributes = bytearray(
                    struct.pack(
                        "=IIIIQII24x", cgroup, number, 0, 0, ctypes.addressof(ids),
                        MOST_OF_A_CGROUP, 0,
                    )
                )  # fmt: skip
                try:
                    system.bpf(PROG_QUERY, attributes)
                except OSError as error:
                    if error.errno == errno.EBADF:
                        break  # no cgroup of version 2
                    if error.errno == errno.EINVAL:
                        del kinds[number]  # this kernel has no such type
                    continue
                (count,) = struct.unpack_from("=I", attributes, 24)
                for program in struct.unpack_from(f"={min(count, MOST_OF_A_CGROUP)}I", ids):
                    yield program, f"{kinds[number]}:{folder[len(root):] or '/'}"
        finally:
            os.close(cgroup)


# rtnetlink(7): the numbers of include/uapi/linux/rtnetlink.h, if_link.h and pkt_cls.h.
GETLINK, GETTFILTER = 18, 46
REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
DONE, ERROR = 3, 2
IFLA_IFNAME, IFLA_XDP, XDP_PROGRAM = (
    3,
    43,
    (4, 5, 6, 7),
)  # IFLA_XDP_PROG_ID, _DRV_, _SKB_, _HW_PROG_ID
TCA_OPTIONS, TCA_BPF_ID = 2, 11
PARENTS = {0xFFFFFFF2: "tc_ingress", 0xFFFFFFF3: "tc_egress"}  # of clsact
DUMP_BYTES = 1 << 20
WAIT_SECONDS = 5


def on_devices(filters: bool) -> Iterator[tuple[int, str]]:
    """The programs that network devices run, and where: XDP, and with ``filters`` those of clsact;
    in this network namespace, and in each other one that has a name or a process. Raises
    OSError."""
    names = Namespaces()
    own = os.stat("/proc/self/ns/net").st_ino
    for inode, path in namespaces().items():
        beside = "" if inode == own else f" in {names.name(inode)}"
        try:
            asked = _socket_in(path)
        except OSError:  # it is gone meanwhile
            continue
        with asked:
            for program, place in _of_namespace(asked, filters):
                yield program, place + beside


def _of_namespace(asked: socket.socket, filters: bool) -> Iterator[tuple[int, str]]:
    for message in _dump(asked, GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0)):
        (index,) = struct.unpack_from("=i", message, 4)
        known = dict(_attributes(message[16:]))
        name = c_text(known.get(IFLA_IFNAME, b""))
        for kind, value in _attributes(known.get(IFLA_XDP, b"")):
            if kind in XDP_PROGRAM:
                yield int.from_bytes(value, sys.byteorder), f"xdp:{name}"
        for parent, where in PARENTS.items() if filters else ():
            request = struct.pack("=BxxxiIII", 0, index, 0, parent, 0)
            for filter_ in _dump(asked, GETTFILTER, request):
                options = dict(_attributes(filter_[20:])).get(TCA_OPTIONS, b"")
                found = dict(_attributes(options)).get(TCA_BPF_ID)
                if found:
                    yield int.from_bytes(found, sys.byteorder), f"{where}:{name}"


def _socket_in(path: str) -> socket.socket:
    """A socket of rtnetlink in a network namespace. Raises OSError."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not os.path.sameopenfile(here, there):
                system.enter_network_namespace(there)
        finally:
            os.close(there)
        asked = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        asked.settimeout(WAIT_SECONDS)
        return asked
    finally:
        system.enter_network_namespace(here)
        os.close(here)


def _dump(asked: socket.socket, kind: int, request: bytes) -> list[bytes]:
    """The messages of an answer, without their heads; none where the kernel refuses the question.
    Raises OSError."""
    found: list[bytes] = []
    head = struct.pack("=IHHII", 16 + len(request), kind, REQUEST_DUMP, 1, 0)
    asked.sendto(head + request, (0, 0))
    while True:
        data, place = asked.recv(DUMP_BYTES), 0
        while place + 16 <= len(data):
            size, answer = struct.unpack_from("=IH", data, place)
            if answer in (DONE, ERROR) or size < 16:
                return found
            found.append(data[place + 16 : place + size])
            place += size + 3 & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Attributes of netlink: their type without its flags, and their value."""
    place = 0
    while place + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, place)
        if size < 4:
            return
        yield kind & 0x3FFF, data[place + 4 : place + size]
        place += size + 3 & ~3
