"""The BPF programs, maps and links in the kernel, by their ids (bpf(2)). Walking them takes
CAP_SYS_ADMIN. The layouts are those of include/uapi/linux/bpf.h."""
from __future__ import annotations

import ctypes
import errno
import os
import struct

from pytools.base import system
from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.base.text import c_text, text_of
from pytools.load.loader import OBJ_GET_INFO_BY_FD, refusal

if TYPE_CHECKING:
    from typing import Iterator


__all__ = [
    "ATTACH_TYPES", "BpfMap", "BpfProgram", "Link", "Objects", "count_run_time", "described",
    "identity",
]  # fmt: skip

ENABLE_STATS = 32
RUN_TIME = 0  # BPF_STATS_RUN_TIME
# For each kind of objects the commands that walk the ids and open one.
WALKED = {"program": (11, 13), "map": (12, 14), "link": (31, 30), "type": (23, 19)}
PROGRAM_INFO = 228  # up to attach_btf_id (Linux v5.18); what a kernel lacks stays zero
MISSES_END = 216
MAP_INFO, LINK_INFO, BTF_INFO = 80, 64, 32
MOST_MAPS = 64  # of one program (MAX_USED_MAPS)
FULL_NAME = 15  # so long a name may be cut
NAME_BYTES = 4096
FUNC_INFO = 8  # the size of struct bpf_func_info: an offset, and a type's number


class BpfProgram(NamedTuple):
    """A program. ``kind`` is its type in lower case, ``uid`` who loaded it, ``run_time`` is in
    nanoseconds, ``misses`` is None where the kernel does not count them (before Linux v5.12),
    ``maps`` are the ids of its maps, ``target`` the type information and the type that it was
    loaded for, zeros where none."""

    id: int
    kind: str
    name: str
    tag: str
    uid: int
    runs: int
    run_time: int
    misses: int | None
    maps: tuple[int, ...]
    target: tuple[int, int]


class BpfMap(NamedTuple):
    """A map."""

    id: int
    kind: str
    name: str


class Link(NamedTuple):
    """A link: of a program, and what the kernel tells of it (struct bpf_link_info), in which
    addresses are those of ``texts``."""

    id: int
    kind: str
    program: int
    info: bytes
    texts: dict[int, str]


def _names(text: str) -> dict[int, str]:
    return dict(enumerate(text.split()))


# The kernel's names of types, in lower case and without what all begin with, up to Linux v7.3:
# enum bpf_prog_type, bpf_map_type, bpf_link_type and bpf_attach_type. They keep their numbers, and
# a table takes a hundredth of the time that the kernel's type information does.
PROGRAM_TYPES = _names(
    "unspec socket_filter kprobe sched_cls sched_act tracepoint xdp perf_event cgroup_skb "
    "cgroup_sock lwt_in lwt_out lwt_xmit sock_ops sk_skb cgroup_device sk_msg raw_tracepoint "
    "cgroup_sock_addr lwt_seg6local lirc_mode2 sk_reuseport flow_dissector cgroup_sysctl "
    "raw_tracepoint_writable cgroup_sockopt tracing struct_ops ext lsm sk_lookup syscall netfilter"
)
MAP_TYPES = _names(
    "unspec hash array prog_array perf_event_array percpu_hash percpu_array stack_trace "
    "cgroup_array lru_hash lru_percpu_hash lpm_trie array_of_maps hash_of_maps devmap sockmap "
    "cpumap xskmap sockhash cgroup_storage reuseport_sockarray percpu_cgroup_storage queue stack "
    "sk_storage devmap_hash struct_ops ringbuf inode_storage task_storage bloom_filter "
    "user_ringbuf cgrp_storage arena insn_array rhash"
)
LINK_TYPES = _names(
    "unspec raw_tracepoint tracing cgroup iter netns xdp perf_event kprobe_multi struct_ops "
    "netfilter tcx uprobe_multi netkit sockmap tracing_multi"
)
ATTACH_TYPES = _names(
    "cgroup_inet_ingress cgroup_inet_egress cgroup_inet_sock_create cgroup_sock_ops "
    "sk_skb_stream_parser sk_skb_stream_verdict cgroup_device sk_msg_verdict cgroup_inet4_bind "
    "cgroup_inet6_bind cgroup_inet4_connect cgroup_inet6_connect cgroup_inet4_post_bind "
    "cgroup_inet6_post_bind cgroup_udp4_sendmsg cgroup_udp6_sendmsg lirc_mode2 flow_dissector "
    "cgroup_sysctl cgroup_udp4_recvmsg cgroup_udp6_recvmsg cgroup_getsockopt cgroup_setsockopt "
    "trace_raw_tp trace_fentry trace_fexit modify_return lsm_mac trace_iter "
    "cgroup_inet4_getpeername cgroup_inet6_getpeername cgroup_inet4_getsockname "
    "cgroup_inet6_getsockname xdp_devmap "
    "cgroup_inet_sock_release xdp_cpumap sk_lookup xdp sk_skb_verdict sk_reuseport_select "
    "sk_reuseport_select_or_migrate perf_event trace_kprobe_multi lsm_cgroup struct_ops netfilter "
    "tcx_ingress tcx_egress trace_uprobe_multi cgroup_unix_connect cgroup_unix_sendmsg "
    "cgroup_unix_recvmsg cgroup_unix_getpeername cgroup_unix_getsockname netkit_primary "
    "netkit_peer trace_kprobe_session trace_uprobe_session trace_fsession trace_fentry_multi "
    "trace_fexit_multi trace_fsession_multi"
)


def count_run_time() -> int:
    """Have the kernel count how often and how long each program runs, for as long as the descriptor
    that this returns is open: it is not left on whatever becomes of the process
    (BPF_ENABLE_STATS, Linux commit d46edd671a14, v5.8). Raises Failure."""
    try:
        return system.bpf(ENABLE_STATS, bytearray(struct.pack("=I", RUN_TIME)))
    except OSError as error:
        raise refusal("count the run time of BPF programs", error, "CAP_SYS_ADMIN") from None


def _walk(kind: str) -> Iterator[tuple[int, int]]:
    """The id of each object of a kind, and a descriptor that is open until the next is asked for.
    Those that go away meanwhile are left out. Raises Failure."""
    following, open_one = WALKED[kind]
    number = 0
    while True:
        attributes = bytearray(struct.pack("=III", number, 0, 0))
        try:
            system.bpf(following, attributes)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise refusal(f"list BPF {kind}s", error, "CAP_SYS_ADMIN") from None
        (number,) = struct.unpack_from("=I", attributes, 4)
        try:
            descriptor = system.bpf(open_one, bytearray(struct.pack("=III", number, 0, 0)))
        except OSError as error:
            # EAGAIN: a link that is not whole yet.
            if error.errno in (errno.ENOENT, errno.EAGAIN):
                continue
            raise refusal(f"open the BPF {kind} {number}", error, "CAP_SYS_ADMIN") from None
        try:
            yield number, descriptor
        finally:
            os.close(descriptor)


def _told(descriptor: int, size: int, given: bytes = b"") -> tuple[bytes, int]:
    """What the kernel tells of an object, and how many bytes of that it knows: the rest is zero.
    ``given`` is what it is told of it first: the addresses and sizes of buffers. Raises OSError."""
    info = ctypes.create_string_buffer(given, size)
    attributes = bytearray(struct.pack("=IIQ", descriptor, size, ctypes.addressof(info)))
    system.bpf(OBJ_GET_INFO_BY_FD, attributes)
    (known,) = struct.unpack_from("=I", attributes, 4)
    return info.raw, int(known)


def described(descriptor: int, size: int, given: bytes = b"") -> bytes:
    """The same without how much of it is known."""
    return _told(descriptor, size, given)[0]


def identity(text: str) -> tuple[str, int] | None:
    """The kind of an object and its id, as a file of /proc/PID/fdinfo tells them; None of no such
    object.

    >>> identity("pos:\\t0\\nprog_tag:\\ta0\\nprog_id:\\t7\\nlink_id:\\t3\\n")
    ('link', 3)
    """
    known = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    for kind, key in (("link", "link_id"), ("map", "map_id"), ("program", "prog_id")):
        if key in known:
            return kind, int(known[key])
    return None


def _memory(descriptor: int) -> int:
    """How many bytes of memory a program or a map takes, as the kernel has it."""
    with open(f"/proc/self/fdinfo/{descriptor}") as lines:
        return next((int(line.split()[1]) for line in lines if line.startswith("memlock:")), 0)


class Objects:
    """What there is now. Each call of a method walks the kernel's objects of a kind anew, and
    raises Failure where that is refused."""

    def __init__(self) -> None:
        self._whole: dict[int, str] = {}  # names of programs that the kernel cuts
        self.program_memory: dict[int, int] = {}
        self.map_memory: dict[int, int] = {}

    def programs(self, memory: bool = False) -> Iterator[BpfProgram]:
        """The programs; with ``memory``, what each takes is in ``program_memory`` then."""
        ids = ctypes.create_string_buffer(4 * MOST_MAPS)
        given = struct.pack("=52xIQ", MOST_MAPS if memory else 0, ctypes.addressof(ids))
        for number, descriptor in _walk("program"):
            info, known = _told(descriptor, PROGRAM_INFO, given if memory else b"")
            kind, _, tag = struct.unpack_from("=II8s", info)
            uid, maps = struct.unpack_from("=II", info, 48)
            run_time, runs, misses, _, *target = struct.unpack_from("=QQQIII", info, 192)
            name = c_text(info[64:80])
            if len(name) == FULL_NAME:
                name = self._whole_name(number, descriptor, info, name)
            if memory:
                self.program_memory[number] = _memory(descriptor)
            counted = misses if known >= MISSES_END else None
            used = struct.unpack_from(f"={min(maps, MOST_MAPS)}I", ids) if memory else ()
            yield BpfProgram(
                number, PROGRAM_TYPES.get(kind, str(kind)), name, tag.hex(), uid, runs, run_time,
                counted, used, (target[0], target[1]),
            )  # fmt: skip

    def maps(self) -> Iterator[BpfMap]:
        """The maps; what each takes is in ``map_memory`` then."""
        for number, descriptor in _walk("map"):
            info = described(descriptor, MAP_INFO)
            (kind,) = struct.unpack_from("=I", info)
            self.map_memory[number] = _memory(descriptor)
            yield BpfMap(number, MAP_TYPES.get(kind, str(kind)), c_text(info[24:40]))

    def links(self) -> Iterator[Link]:
        for number, descriptor in _walk("link"):
            info = described(descriptor, LINK_INFO)
            kind, _, program = struct.unpack_from("=III", info)
            name = LINK_TYPES.get(kind, str(kind))
            texts, given = {}, bytearray(LINK_INFO)
            (sub_kind,) = struct.unpack_from("=I", info, 16)
            places = LINK_TEXTS.get(name) or PERF_TEXTS.get(sub_kind if name == PERF_EVENT else 0)
            if places:
                buffer = ctypes.create_string_buffer(NAME_BYTES)
                struct.pack_into("=Q", given, places[0], ctypes.addressof(buffer))
                struct.pack_into("=I", given, places[1], NAME_BYTES)
                try:
                    info = described(descriptor, LINK_INFO, bytes(given))
                    texts[places[0]] = text_of(buffer.value)
                except OSError:
                    pass  # a name that is too long
            yield Link(number, name, program, info, texts)

    def _whole_name(self, number: int, descriptor: int, info: bytes, name: str) -> str:
        """The name of a program, of which the kernel keeps 15 bytes, as its own type information
        has it: that of its first function."""
        if number not in self._whole:
            (types,) = struct.unpack_from("=I", info, 128)
            (functions,) = struct.unpack_from("=I", info, 144)
            self._whole[number] = name
            if types and functions:
                first = ctypes.create_string_buffer(FUNC_INFO)
                given = struct.pack("=132xIQI", FUNC_INFO, ctypes.addressof(first), 1)
                described(descriptor, PROGRAM_INFO, given)
                whole = self.type_name(types, struct.unpack("=II", first.raw)[1])
                if whole and name in whole:
                    self._whole[number] = whole
        return self._whole[number]

    @staticmethod
    def type_name(types: int, type_id: int) -> str | None:
        """The name of a type of a program's own type information, which has that id."""
        from pytools.facts.btf import Btf  # few programs need it

        try:
            descriptor = system.bpf(WALKED["type"][1], bytearray(struct.pack("=III", types, 0, 0)))
        except OSError:
            return None
        try:
            (size,) = struct.unpack_from("=I", described(descriptor, BTF_INFO), 8)
            data = ctypes.create_string_buffer(size)
            described(descriptor, BTF_INFO, struct.pack("=QI", ctypes.addressof(data), size))
            return Btf(data.raw).name(type_id)
        except (OSError, Failure, IndexError, struct.error):
            return None
        finally:
            os.close(descriptor)

    @staticmethod
    def kernel_types(types: int) -> str | None:
        """Whose type information of the kernel has that id: "vmlinux", or the name of a module;
        None where it is a program's."""
        try:
            descriptor = system.bpf(WALKED["type"][1], bytearray(struct.pack("=III", types, 0, 0)))
        except OSError:
            return None
        try:
            name = ctypes.create_string_buffer(64)
            given = struct.pack("=16xQI", ctypes.addressof(name), len(name))
            (of_kernel,) = struct.unpack_from("=I", described(descriptor, BTF_INFO, given), 28)
            return text_of(name.value) if of_kernel else None
        except OSError:
            return None
        finally:
            os.close(descriptor)


PERF_EVENT = "perf_event"
# Of links that have a text: where the address and the size of its buffer are in the info.
LINK_TEXTS = {"raw_tracepoint": (16, 24), "iter": (16, 24), "uprobe_multi": (16, 48)}
# The same by enum bpf_perf_event_type: uprobe, uretprobe, kprobe, kretprobe, tracepoint.
PERF_TEXTS = {number: (24, 32) for number in range(1, 6)}
