"""The names of drop reasons, those of modules included; who has a socket open."""
from __future__ import annotations

import os
import socket
import struct
import types
from typing import Any

import pytest

from pytools.domains import drops
from pytools.domains.socket_holders import Holders
from pytools.facts.btf import ENUM
from test_btf import Writer


def enum(writer: Writer, name: str, values: dict[str, int]) -> None:
    extra = b"".join(struct.pack("=II", writer.string(each), values[each]) for each in values)
    writer.add(ENUM, name, 4, extra, len(values))


def kernel() -> Any:
    """One with the types of reasons, as Linux v7.3 has them."""
    writer = Writer()
    core = {"NOT_DROPPED_YET": 0, "CONSUMED": 1, "DROP_REASON_NOT_SPECIFIED": 2}
    core.update({"DROP_REASON_NO_SOCKET": 3})
    enum(writer, "skb_drop_reason", {f"SKB_{name}": value for name, value in core.items()})
    subsystems = ("CORE", "MAC80211_UNUSABLE", "OPENVSWITCH", "QDISC", "NEW")
    names = {f"SKB_DROP_REASON_SUBSYS_{name}": n for n, name in enumerate(subsystems)}
    enum(writer, "skb_drop_reason_subsys", names)
    enum(writer, "qdisc_drop_reason", {"__QDISC_DROP": 3 << 16, "QDISC_DROP_GENERIC": 3 << 16 | 1})
    return types.SimpleNamespace(btf=writer.btf(), strings=len(writer.strings))


@pytest.mark.rendering
def test_a_reason_has_the_name_that_the_kernel_has_for_it() -> None:
    reasons = drops.Reasons(kernel())
    assert [reasons.name(number) for number in (0, 1, 2, 3)] == [
        None, "CONSUMED", "NOT_SPECIFIED", "NO_SOCKET",
    ]  # fmt: skip
    assert reasons.name(99) == "CORE:99"
    assert reasons.name(3 << 16 | 1) == "QDISC_DROP_GENERIC"
    assert reasons.name(4 << 16 | 7) == "NEW:7"
    assert reasons.name(200 << 16 | 7) == "200:7"


@pytest.mark.rendering
def test_the_types_of_a_module_go_on_behind_those_of_the_kernel(
    tmp_path: Any, monkeypatch: Any
) -> None:
    known = kernel()
    writer = Writer()
    writer.strings = b""  # its first string is behind the kernel's last one
    shifted = types.MethodType(
        lambda self, text: Writer.string(self, text) + known.strings if text else 0, writer
    )
    monkeypatch.setattr(writer, "string", shifted)
    enum(writer, "ovs_drop_reason", {"OVS_DROP_LAST_ACTION": 2 << 16 | 1})
    monkeypatch.setattr(drops, "TYPES", str(tmp_path))
    assert drops.Reasons(known).name(2 << 16 | 1) == "OPENVSWITCH:1"  # the module is not loaded
    (tmp_path / "openvswitch").write_bytes(writer.dump())
    assert drops.Reasons(known).name(2 << 16 | 1) == "OVS_DROP_LAST_ACTION"
    assert drops.Reasons(known).name(2 << 16 | 9) == "OPENVSWITCH:9"
    (tmp_path / "openvswitch").write_bytes(b"damaged")
    assert drops.Reasons(known).name(2 << 16 | 1) == "OPENVSWITCH:1"


def test_a_holder_is_known_as_long_as_it_has_the_socket_open() -> None:
    holders = Holders()
    with socket.socket() as made:
        inode = os.fstat(made.fileno()).st_ino
        (found,) = holders.find({inode, 0}).items()
        assert found[0] == inode and found[1].pid == os.getpid()
        assert holders.find([inode])[inode] is found[1]  # not searched for again
    assert not holders.find([inode])
