"""Capabilities: their names, and sets of them as a user names them."""
from __future__ import annotations

import argparse

__all__ = ["capability_mask", "capability_name"]

# In the order of their numbers: include/uapi/linux/capability.h of Linux v7.3.
_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
    " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO"
    " SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME"
    " SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG"
    " WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
MOST = 64  # what a kernel's set has room for (kernel_cap_t)


def capability_name(number: int) -> str:
    """A capability's name; its number where this library does not know one so new.

    >>> capability_name(21), capability_name(63)
    ('CAP_SYS_ADMIN', 'CAP_63')
    """
    return f"CAP_{_NAMES[number]}" if number < len(_NAMES) else f"CAP_{number}"


def capability_mask(text: str) -> int:
    """The capabilities that a user names, each a bit by its number: by names with or without CAP_,
    in either case, or by numbers, with commas between them. Raises ArgumentTypeError.

    >>> bin(capability_mask("cap_kill,CHOWN,1"))
    '0b100011'
    """
    mask = 0
    for word in text.split(","):
        name = word.strip().upper()
        name = name[4:] if name.startswith("CAP_") else name
        if name in _NAMES:
            mask |= 1 << _NAMES.index(name)
        elif name.isascii() and name.isdigit() and int(name) < MOST:
            mask |= 1 << int(name)
        else:
            raise argparse.ArgumentTypeError(
                f"no capability {word!r}: name one as capabilities(7) does, or by number"
            )
    return mask
