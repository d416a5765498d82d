"""System calls that mount and unmount: their arguments, and how a call reads."""
from __future__ import annotations

import struct

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.text import text_of

if TYPE_CHECKING:
    from typing import Mapping, Sequence


__all__ = ["CALLS", "Call", "call_text", "text_arguments"]


def _bits(names: str, first: int = 0) -> dict[int, str]:
    """Names of bits, the lowest first; "-" has none."""
    return {1 << n: name for n, name in enumerate(names.split(), first) if name != "-"}


def _prefixed(prefix: str, names: Mapping[int, str]) -> dict[int, str]:
    return {bit: prefix + name for bit, name in names.items()}


# include/uapi/linux/mount.h and fcntl.h, as of Linux v7.3.
_MOUNT = _prefixed("MS_", _bits(
    "RDONLY NOSUID NODEV NOEXEC SYNCHRONOUS REMOUNT MANDLOCK DIRSYNC NOSYMFOLLOW - NOATIME "
    "NODIRATIME BIND MOVE REC SILENT POSIXACL UNBINDABLE PRIVATE SLAVE SHARED RELATIME KERNMOUNT "
    "I_VERSION STRICTATIME LAZYTIME"
))  # fmt: skip
_AT = {
    0x100: "AT_SYMLINK_NOFOLLOW", 0x800: "AT_NO_AUTOMOUNT", 0x1000: "AT_EMPTY_PATH",
    0x8000: "AT_RECURSIVE",
}  # fmt: skip
_ATTRIBUTES = {
    **_prefixed("MOUNT_ATTR_", _bits(
        "RDONLY NOSUID NODEV NOEXEC NOATIME STRICTATIME - NODIRATIME"
    )),
    0x100000: "MOUNT_ATTR_IDMAP", 0x200000: "MOUNT_ATTR_NOSYMFOLLOW",
}  # fmt: skip
_FLAGS: Mapping[str, Mapping[int, str]] = {
    "mount": _MOUNT,
    "umount": {1: "MNT_FORCE", 2: "MNT_DETACH", 4: "MNT_EXPIRE", 8: "UMOUNT_NOFOLLOW"},
    "fsopen": {1: "FSOPEN_CLOEXEC"},
    "fsmount": {1: "FSMOUNT_CLOEXEC"},
    "attributes": _ATTRIBUTES,
    "move_mount": _prefixed("MOVE_MOUNT_", _bits(
        "F_SYMLINKS F_AUTOMOUNTS F_EMPTY_PATH - T_SYMLINKS T_AUTOMOUNTS T_EMPTY_PATH - SET_GROUP "
        "BENEATH"
    )),
    "open_tree": {1: "OPEN_TREE_CLONE", 0x80000: "OPEN_TREE_CLOEXEC", **_AT},
    "fspick": _prefixed("FSPICK_", _bits("CLOEXEC SYMLINK_NOFOLLOW NO_AUTOMOUNT EMPTY_PATH")),
    "at": _AT,
}  # fmt: skip
_COMMANDS = (
    "FSCONFIG_SET_FLAG", "FSCONFIG_SET_STRING", "FSCONFIG_SET_BINARY", "FSCONFIG_SET_PATH",
    "FSCONFIG_SET_PATH_EMPTY", "FSCONFIG_SET_FD", "FSCONFIG_CMD_CREATE",
    "FSCONFIG_CMD_RECONFIGURE", "FSCONFIG_CMD_CREATE_EXCL",
)  # fmt: skip
AT_FDCWD = -100
MS_MAGIC = 0xC0ED0000  # MS_MGC_VAL: what very old programs set in the upper half

# The kinds of arguments: text, a file descriptor, a number, a command of fsconfig(2) and its value,
# a struct mount_attr; or flags, by the name of their table above.
TEXT, FD, NUMBER, COMMAND, VALUE, ATTRIBUTES = "text", "fd", "number", "command", "value", "struct"


class Call(NamedTuple):
    """A system call as the kernel's tracepoints name it, and the kinds of its arguments."""

    name: str
    arguments: Sequence[str]


CALLS = [
    Call("mount", (TEXT, TEXT, TEXT, "mount", TEXT)),
    Call("umount", (TEXT, "umount")),
    Call("fsopen", (TEXT, "fsopen")),
    Call("fsconfig", (FD, COMMAND, TEXT, VALUE, NUMBER)),
    Call("fsmount", (FD, "fsmount", "attributes")),
    Call("move_mount", (FD, TEXT, FD, TEXT, "move_mount")),
    Call("open_tree", (FD, TEXT, "open_tree")),
    Call("fspick", (FD, TEXT, "fspick")),
    Call("mount_setattr", (FD, TEXT, "at", ATTRIBUTES, NUMBER)),
    Call("open_tree_attr", (FD, TEXT, "open_tree", ATTRIBUTES, NUMBER)),
]


def text_arguments(call: Call) -> list[int]:
    """The places of the arguments that are texts, or may be."""
    return [place for place, kind in enumerate(call.arguments) if kind in (TEXT, VALUE)]


def _flags(value: int, names: Mapping[int, str]) -> str:
    words = [name for bit, name in names.items() if value & bit]
    rest = value & ~sum(names)
    return "|".join([*words, *([hex(rest)] if rest or not words else [])])


def _attributes(data: bytes) -> str:
    """A struct mount_attr; those of no bits are left out."""
    settings, cleared, propagation, namespace = struct.unpack("=4Q", data)
    members = [
        f"{name}={_flags(value, names)}"
        for name, value, names in (
            ("attr_set", settings, _ATTRIBUTES),
            ("attr_clr", cleared, _ATTRIBUTES),
            ("propagation", propagation, _MOUNT),
        )
        if value
    ]
    members += [f"userns_fd={namespace}"] * bool(namespace)
    return "{" + ", ".join(members) + "}"


def call_text(
    number: int, arguments: Sequence[int], texts: bytes, attributes: bytes, result: str
) -> str:
    """A call as C would write it, and its result. ``arguments`` are its registers; ``texts`` are
    those of the text arguments in their order, each behind a byte that is 1 where it could be
    read, and with a NUL at its end.

    >>> call_text(1, [4096, 2, 0, 0, 0], b"\\1/mnt\\0", b"", "0")
    'umount("/mnt", MNT_DETACH) = 0'
    """
    call, shown = CALLS[number], []
    left = texts
    for kind, value in zip(call.arguments, arguments):
        if kind in (TEXT, VALUE):
            read, left = left[:1] == b"\1", left[1:]
            text, _, left = left.partition(b"\0")
            quoted = text_of(text).replace("\\", "\\\\").replace('"', '\\"')
            shown.append(f'"{quoted}"' if read else hex(value) if value else "NULL")
        elif kind == FD:
            signed = (value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
            shown.append("AT_FDCWD" if signed == AT_FDCWD else str(signed))
        elif kind == COMMAND:
            command = value & 0xFFFFFFFF
            shown.append(_COMMANDS[command] if command < len(_COMMANDS) else str(command))
        elif kind == NUMBER:
            shown.append(str(value))
        elif kind == ATTRIBUTES:
            shown.append(_attributes(attributes) if value else "NULL")
        else:
            if kind == "mount" and value & 0xFFFF0000 == MS_MAGIC:
                value &= 0xFFFF
            shown.append(_flags(value & 0xFFFFFFFF, _FLAGS[kind]))
    return f"{call.name}({', '.join(shown)}) = {result}"
