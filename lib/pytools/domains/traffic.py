"""Programs at network interfaces: at ingress and egress of a clsact qdisc, by pyroute2.

clsact queues nothing and stands beside the root qdisc, which is left alone. Its
filters outlive the process that made them. So each has a name that says whose it is
(``Owner``): the next tool to start removes what an ended one has left, by that name.
"""
from __future__ import annotations

import errno
import os

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.domains.network_namespaces import namespaces
from pytools.base.errors import Failure, Usage

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator


__all__ = ["Owner", "Traffic"]

# Parents of filters (linux/pkt_sched.h: TC_H_CLSACT with TC_H_MIN_INGRESS, _EGRESS).
INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
IFF_UP = 1
MARK = "pytools"


class Owner(NamedTuple):
    """Whose a filter is, and whether a tool of ours made the clsact that it is in. A
    process is known by its pid, the time of its start and its PID namespace."""

    pid: int
    start: int
    namespace: int
    made: bool

    @classmethod
    def this(cls, made: bool) -> Owner:
        """This process."""
        pid = os.getpid()
        return cls(pid, _start(pid), _namespace(), made)

    @classmethod
    def parse(cls, name: str | None) -> Owner | None:
        """The owner that a filter's name tells; None where it is somebody else's."""
        words = (name or "").split()
        if len(words) != 5 or words[0] != MARK or not all(word.isdigit() for word in words[1:]):
            return None
        pid, start, namespace, made = map(int, words[1:])
        return cls(pid, start, namespace, bool(made))

    def name(self) -> str:
        return f"{MARK} {self.pid} {self.start} {self.namespace} {int(self.made)}"

    def ended(self) -> bool:
        """Whether that process is no more. It may run where it can't be seen from here."""
        return self.namespace == _namespace() and _start(self.pid) != self.start


def _namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _start(pid: int) -> int:
    """When a process started, in ticks (proc(5), /proc/PID/stat); 0 if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return 0


class Traffic:
    """Two classifiers at interfaces: file descriptors of the programs for packets that
    come in and that go out. ``say`` is told what was attached, ``complain`` what could
    not be. ``links`` are the names of the interfaces, by index, that were there at the last two
    calls of ``attach``. With ``namespace`` (an inode), this process goes to that network
    namespace."""

    def __init__(
        self,
        ingress: int,
        egress: int,
        say: Callable[[str], None],
        complain: Callable[[str], None],
        namespace: int | None = None,
    ) -> None:
        from pyroute2 import IPRoute, NetlinkError, netns

        if namespace is not None:
            descriptor = os.open(namespaces()[namespace], os.O_RDONLY | os.O_CLOEXEC)
            netns.setns(descriptor)
            os.close(descriptor)
        self.links: dict[int, str] = {}
        self._error = NetlinkError
        self._ip = IPRoute()
        self._programs = ((INGRESS, ingress), (EGRESS, egress))
        self._say, self._complain = say, complain
        self._last: dict[int, str] = {}
        self._attached: set[int] = set()
        self._refused: set[int] = set()
        self._clean()

    def attach(self, names: list[str] | None) -> None:
        """Attach to these interfaces; to all that are up, if None: those that are new
        since the last call. Raises Usage for an interface that is not there."""
        found = {link["index"]: link for link in self._ip.get_links()}
        names_now = {i: link.get_attr("IFLA_IFNAME") for i, link in found.items()}
        # What was counted just before an interface went is shown after. Where containers come and
        # go, there is no end of interfaces.
        self.links, self._last = {**self._last, **names_now}, names_now
        self._attached &= found.keys()
        self._refused &= found.keys()
        known = {self.links[index]: index for index in found}
        for name in names or ():
            if name not in known and not self._attached:
                raise Usage(f"there is no network interface {name!r}")
        chosen = [
            index
            for index, link in found.items()
            if (self.links[index] in names if names is not None else link["flags"] & IFF_UP)
        ]
        for index in set(chosen) - self._attached - self._refused:
            self._attach(index, names is not None)

    def _attach(self, index: int, must: bool) -> None:
        kinds = {
            message.get_attr("TCA_KIND")
            for message in self._ip.get_qdiscs(index=index)
            if message["index"] == index
        }
        made = any(owner.made for owner, _ in self._ours(index))
        try:
            if "clsact" not in kinds:
                self._ip.tc("add", "clsact", index)
                made = True
            self._attached.add(index)
            name = Owner.this(made).name()
            for parent, program in self._programs:
                # Without a priority, the kernel puts it in front of all others, and it
                # lets every packet go on to them.
                self._ip.tc(
                    "add-filter", "bpf", index,
                    parent=parent, fd=program, name=name, direct_action=True,
                )  # fmt: skip
        except self._error as error:
            self._detach(index)
            if error.code == errno.ENODEV:
                return  # gone meanwhile
            why = os.strerror(error.code)
            if error.code == errno.EEXIST and "ingress" in kinds:
                why = "it has an ingress qdisc, beside which there can be no clsact"
            text = f"cannot attach to interface {self.links[index]}: {why}"
            if error.code in (errno.EPERM, errno.EACCES):
                text += ": it takes CAP_NET_ADMIN"
            if must or error.code in (errno.EPERM, errno.EACCES):
                raise Failure(text) from None
            self._refused.add(index)
            self._complain(text)
            return
        self._say(f"attached to interface {self.links[index]} (clsact, ingress and egress)")

    def detach(self) -> None:
        """Remove what was attached, and each clsact that was made for it and is empty."""
        for index in list(self._attached):
            self._detach(index)

    def _detach(self, index: int) -> None:
        self._attached.discard(index)
        own = Owner.this(False)
        self._remove(index, lambda owner: owner[:3] == own[:3])

    def _clean(self) -> None:
        """Remove what tools have left that were killed."""
        for link in self._ip.get_links():
            self._remove(link["index"], lambda owner: owner.ended())

    def _filters(self, index: int) -> Iterator[Any]:
        """The filters at both hooks of an interface's clsact."""
        for parent, _ in self._programs:
            try:
                found = list(self._ip.get_filters(index=index, parent=parent))
            except self._error:
                continue  # there is no clsact, or no interface any more
            for message in found:
                if message["index"] == index and message["parent"] == parent:
                    yield message

    def _ours(self, index: int) -> Iterator[tuple[Owner, Any]]:
        for message in self._filters(index):
            options = message.get_attr("TCA_OPTIONS")
            if message.get_attr("TCA_KIND") == "bpf" and options and message["handle"]:
                owner = Owner.parse(options.get_attr("TCA_BPF_NAME"))
                if owner is not None:
                    yield owner, message

    def _remove(self, index: int, chosen: Callable[[Owner], bool]) -> None:
        made = False
        for owner, message in list(self._ours(index)):
            if not chosen(owner):
                continue
            made |= owner.made
            try:
                self._ip.tc(
                    "del-filter", "bpf", index,
                    handle=message["handle"], parent=message["parent"], prio=message["info"] >> 16,
                )  # fmt: skip
            except self._error as error:
                # Removed by somebody else, with its interface for example.
                if error.code not in (errno.ENOENT, errno.ENODEV):
                    link = self.links.get(index, f"number {index}")
                    why = os.strerror(error.code)
                    self._complain(f"cannot remove the filter from interface {link}: {why}")
        # Not while another filter is in it, ours or not: the last of ours removes it.
        if made and not any(True for _ in self._filters(index)):
            try:
                self._ip.tc("del", "clsact", index)
            except self._error:
                pass
