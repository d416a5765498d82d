"""System calls about BPF and perf events: their arguments in words, by the kernel's own names."""
from __future__ import annotations

import functools
import glob
import os
import struct
import sys

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.text import c_text
from pytools.facts.kernel import Kernel

if TYPE_CHECKING:
    from typing import Any, Dict, Mapping, Sequence, Tuple, Union

    Fields = Dict[str, Any]  # of a call, by name
    Places = Dict[str, Union[int, Tuple[int, int]]]  # of its fields


__all__ = ["DISABLE", "ENABLE", "FIELDS", "Names", "SET_BPF", "details", "short", "shown_name"]

# Requests of ioctl(2) (include/uapi/linux/perf_event.h). Where the direction of the data
# stands in them depends on the architecture.
SET_BPF = 0x80042408 if os.uname().machine == "ppc64le" else 0x40042408
ENABLE, DISABLE = (0x20002400, 0x20002401) if os.uname().machine == "ppc64le" else (0x2400, 0x2401)
IOCTLS = {
    SET_BPF: "PERF_EVENT_IOC_SET_BPF",
    ENABLE: "PERF_EVENT_IOC_ENABLE",
    DISABLE: "PERF_EVENT_IOC_DISABLE",
}
PERF_ATTR = "=IIQQQQQ"  # the beginning of struct perf_event_attr, up to its bit-fields
PERF_ATTR_FREQ = 1 << 10  # the bit-field "freq" of it
LONGEST_ATTRIBUTES = 72  # of those that are decoded
COMMAND = 0xFFFF  # what is the number of a command of bpf(2); the rest are flags (Linux v7.0)


class FieldOfCall(NamedTuple):
    """What is known of a field of a call: sentences about it, the type of its value in JSON, and
    its unit."""

    about: str
    type: str = "integer"
    unit: str = ""


# What is decoded of calls, in the order in which it is shown.
FIELDS = {
    "prog_type": FieldOfCall("The type of the program.", "string"),
    "prog_name": FieldOfCall("The name of the program.", "string"),
    "insns": FieldOfCall("The number of the program's instructions."),
    "attach_type": FieldOfCall("What kind of place the program is attached to.", "string"),
    "map_type": FieldOfCall("The type of the map.", "string"),
    "map_name": FieldOfCall("The name of the map.", "string"),
    "key_size": FieldOfCall("The size of a key of the map, in bytes.", unit="bytes"),
    "value_size": FieldOfCall("The size of a value of the map, in bytes.", unit="bytes"),
    "max_entries": FieldOfCall("The largest number of entries of the map."),
    "flags": FieldOfCall("The flags of the map, of the program or of the attachment, as a number."),
    "perf_type": FieldOfCall("The type of the perf event.", "string"),
    "config": FieldOfCall("What the perf event counts: a name, or else a number.", "string"),
    "sample_freq": FieldOfCall("How many samples the perf event takes a second."),
    "sample_period": FieldOfCall("After how many of what it counts the perf event takes a sample."),
    "target_pid": FieldOfCall("The process that the call is about; -1 stands for every process."),
    "cpu": FieldOfCall("The processor that the perf event is on; -1 stands for every processor."),
    "group_fd": FieldOfCall("The perf event that leads the group, a file descriptor; -1 is none."),
    "fd": FieldOfCall("The file descriptor that the call is about."),
    "prog_fd": FieldOfCall("The file descriptor of the program."),
    "map_fd": FieldOfCall("The file descriptor of the map."),
    "target_fd": FieldOfCall("The file descriptor of what the program is attached to."),
    "id": FieldOfCall(
        "The number of a program, a map, a link or type information. Where the call asks for the "
        "next one, it is the number before that."
    ),
    "next_id": FieldOfCall("The next number, which the kernel found."),
    "count": FieldOfCall("How many entries a batch was asked for, or had."),
    "size": FieldOfCall("The size of type information, in bytes.", unit="bytes"),
    "name": FieldOfCall(
        "The path of an object, the raw tracepoint, the function of a kprobe or the file of a "
        "uprobe.", "string",
    ),
}  # fmt: skip

# Where the attributes of bpf(2) have a field: its offset, as a u32; of names, with their
# length (union bpf_attr in include/uapi/linux/bpf.h).
_ELEMENT: Places = {"map_fd": 0}
_BATCH: Places = {"count": 32, "map_fd": 36}
_NEXT: Places = {"id": 0, "next_id": 4}
_BY_ID: Places = {"id": 0}
ATTRIBUTES: Dict[str, Places] = {
    "BPF_MAP_CREATE": {
        "map_type": 0, "key_size": 4, "value_size": 8, "max_entries": 12, "flags": 16,
        "map_name": (28, 16),
    },
    "BPF_MAP_LOOKUP_ELEM": _ELEMENT,
    "BPF_MAP_UPDATE_ELEM": _ELEMENT,
    "BPF_MAP_DELETE_ELEM": _ELEMENT,
    "BPF_MAP_GET_NEXT_KEY": _ELEMENT,
    "BPF_MAP_LOOKUP_AND_DELETE_ELEM": _ELEMENT,
    "BPF_MAP_FREEZE": _ELEMENT,
    "BPF_MAP_LOOKUP_BATCH": _BATCH,
    "BPF_MAP_LOOKUP_AND_DELETE_BATCH": _BATCH,
    "BPF_MAP_UPDATE_BATCH": _BATCH,
    "BPF_MAP_DELETE_BATCH": _BATCH,
    "BPF_PROG_LOAD": {
        "prog_type": 0, "insns": 4, "flags": 44, "prog_name": (48, 16), "attach_type": 68,
    },
    "BPF_OBJ_PIN": {"fd": 8},
    "BPF_OBJ_GET": {"flags": 12},
    "BPF_PROG_ATTACH": {"target_fd": 0, "prog_fd": 4, "attach_type": 8, "flags": 12},
    "BPF_PROG_DETACH": {"target_fd": 0, "prog_fd": 4, "attach_type": 8},
    "BPF_PROG_TEST_RUN": {"prog_fd": 0},
    "BPF_PROG_GET_NEXT_ID": _NEXT,
    "BPF_MAP_GET_NEXT_ID": _NEXT,
    "BPF_BTF_GET_NEXT_ID": _NEXT,
    "BPF_LINK_GET_NEXT_ID": _NEXT,
    "BPF_PROG_GET_FD_BY_ID": _BY_ID,
    "BPF_MAP_GET_FD_BY_ID": _BY_ID,
    "BPF_BTF_GET_FD_BY_ID": _BY_ID,
    "BPF_LINK_GET_FD_BY_ID": _BY_ID,
    "BPF_OBJ_GET_INFO_BY_FD": {"fd": 0},
    "BPF_PROG_QUERY": {"target_fd": 0, "attach_type": 4},
    "BPF_RAW_TRACEPOINT_OPEN": {"prog_fd": 8},
    "BPF_BTF_LOAD": {"size": 16},
    "BPF_TASK_FD_QUERY": {"target_pid": 0, "fd": 4},
    "BPF_LINK_CREATE": {"prog_fd": 0, "target_fd": 4, "attach_type": 8, "flags": 12},
    "BPF_LINK_UPDATE": {"fd": 0, "prog_fd": 4},
    "BPF_LINK_DETACH": {"fd": 0},
    "BPF_ITER_CREATE": {"fd": 0},
    "BPF_PROG_BIND_MAP": {"prog_fd": 0, "map_fd": 4},
}  # fmt: skip


# What the names of types begin with.
PREFIXES = (
    "BPF_PROG_TYPE_", "BPF_MAP_TYPE_", "BPF_", "PERF_TYPE_", "PERF_COUNT_SW_", "PERF_COUNT_HW_",
)  # fmt: skip
# Where people get another name of a field than programs.
LABELS = {
    "prog_type": "type", "map_type": "type", "perf_type": "type", "prog_name": "name",
    "map_name": "name", "key_size": "key", "value_size": "value", "max_entries": "entries",
    "sample_freq": "freq", "sample_period": "period", "target_pid": "pid",
}  # fmt: skip
UNSAID = {"flags": 0, "group_fd": -1, "target_pid": -1}  # what people are not told
SHORTENED = {"prog_type", "attach_type", "map_type", "perf_type", "config"}


class Names:
    """A kernel's names of the numbers in calls, from its types or from headers: ``commands`` of
    bpf(2), ``prog_types``, ``map_types``, ``attach_types`` and ``perf_types``, each by number."""

    def __init__(self, kernel: Kernel) -> None:
        found = kernel.enumeration
        self.commands = found("bpf_cmd")
        self.prog_types = found("bpf_prog_type")
        self.map_types = found("bpf_map_type")
        self.attach_types = found("bpf_attach_type")
        self._pmus = _pmus()
        self.perf_types = {**self._pmus, **found("perf_type_id")}
        self._of_fields = {
            "prog_type": self.prog_types,
            "map_type": self.map_types,
            "attach_type": self.attach_types,
        }
        self._of_configs = {
            "PERF_TYPE_SOFTWARE": found("perf_sw_ids"),
            "PERF_TYPE_HARDWARE": found("perf_hw_id"),
        }

    def pmu_type(self, name: str) -> int:
        """The type of perf events of a device such as "kprobe"; -1 where the machine has none."""
        return next((number for number, known in self._pmus.items() if known == name), -1)

    def decoded(
        self, call: str, arguments: Sequence[int], attributes: bytes, text: bytes
    ) -> tuple[str | None, Fields]:
        """What a call says: the name of its command (None of perf_event_open), and its fields
        (FIELDS). ``call`` is "bpf", "perf_event_open" or "ioctl"; ``arguments`` are its first four,
        32 bits of each; ``attributes`` what they point to, empty where that could not be read, and
        ``text`` the string that those point to."""
        known = attributes.ljust(LONGEST_ATTRIBUTES, b"\0")
        if call == "bpf":
            number = arguments[0] & COMMAND
            command = self.commands.get(number, str(number))
            return command, self._of_bpf(command, known, text) if attributes else {}
        if call == "ioctl":
            request = IOCTLS.get(arguments[1])
            fields: Fields = {"fd": _signed(arguments[0])}
            if arguments[1] == SET_BPF:
                fields["prog_fd"] = _signed(arguments[2])
            return request, fields
        return None, self._of_perf_event(known, text, arguments) if attributes else {}

    def _of_bpf(self, command: str, attributes: bytes, text: bytes) -> Fields:
        fields: Fields = {}
        for name, place in ATTRIBUTES.get(command, {}).items():
            if isinstance(place, tuple):
                start, length = place
                fields[name] = _c_string(attributes[start : start + length])
                continue
            value = int.from_bytes(attributes[place : place + 4], sys.byteorder)
            known = self._of_fields.get(name)
            fields[name] = value if known is None else known.get(value, str(value))
        if command == "BPF_PROG_LOAD" and not any(attributes[68:72]):
            fields["attach_type"] = None  # of most types of programs it says nothing
        if text:
            fields["name"] = _c_string(text)
        return fields

    def _of_perf_event(self, attributes: bytes, text: bytes, arguments: Sequence[int]) -> Fields:
        number, _, config, period, _, _, flags = struct.unpack_from(PERF_ATTR, attributes)
        kind = self.perf_types.get(number, str(number))
        return {
            "perf_type": kind,
            "config": self._of_configs.get(kind, {}).get(config, str(config)),
            "sample_freq" if flags & PERF_ATTR_FREQ else "sample_period": period,
            "target_pid": _signed(arguments[1]),
            "cpu": _signed(arguments[2]),
            "group_fd": _signed(arguments[3]),
            "name": _c_string(text),
        }


def _pmus() -> dict[int, str]:
    """The types of perf events that the machine has beside those of the kernel's enum."""
    found = {}
    for path in glob.glob("/sys/bus/event_source/devices/*/type"):
        with open(path) as file:
            found[int(file.read())] = path.split("/")[-2]
    return found


def _c_string(data: bytes) -> str | None:
    """A C string as text; None if it is empty."""
    return c_text(data) or None


def _signed(argument: int) -> int:
    """An unsigned number of 32 bits as an int of C."""
    return (argument ^ 0x80000000) - 0x80000000


def short(name: str) -> str:
    """A name of the kernel's without what all of its kind begin with.

    >>> short("BPF_PROG_TYPE_XDP"), short("PERF_COUNT_SW_CPU_CLOCK")
    ('XDP', 'CPU_CLOCK')
    """
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    return name[len(prefix) :]


@functools.lru_cache(maxsize=256)
def shown_name(call: str, command: str | None) -> str:
    """What people get as the name of a call.

    >>> shown_name("bpf", "BPF_PROG_LOAD"), shown_name("ioctl", "PERF_EVENT_IOC_ENABLE")
    ('PROG_LOAD', 'ioctl_ENABLE')
    """
    return short(command).replace("PERF_EVENT_IOC", "ioctl") if command else call


def details(fields: Mapping[str, Any]) -> str:
    """All fields of a call as text for people.

    >>> details({"map_type": "BPF_MAP_TYPE_HASH", "key_size": 4, "flags": 0})
    'type=HASH key=4'
    """
    words = []
    for name in FIELDS if len(fields) > 2 else fields:
        value = fields.get(name)
        if value is None or value == UNSAID.get(name):
            continue
        value = short(value) if name in SHORTENED else value
        words.append(f"{LABELS.get(name, name)}={value}")
    return " ".join(words)
