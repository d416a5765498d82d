"""Structs, unions and enums of the kernel as C, for -lv."""
from __future__ import annotations

from fnmatch import fnmatchcase

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure

if TYPE_CHECKING:
    from typing import Iterator

    from pytools.facts.btf import Btf
    from pytools.facts.kernel import Kernel

__all__ = ["structs"]

_DEEPEST = 20  # anonymous structs in one another


def structs(kernel: Kernel, word: str, pattern: str, verbose: bool) -> Iterator[str]:
    """The types of the kernel itself whose names match, with ``verbose`` their definitions:
    ``word`` is "struct", "union" or "enum"."""
    if not kernel.has_btf:
        raise Failure("this kernel does not tell its types (CONFIG_DEBUG_INFO_BTF)")
    from pytools.facts import btf as kinds

    btf = kernel.btf
    of_kind = {
        "struct": (kinds.STRUCT,),
        "union": (kinds.UNION,),
        "enum": (kinds.ENUM, kinds.ENUM64),
    }[word]
    found = {name: type_id for kind in of_kind for name, type_id in btf.names(kind).items()}
    for name in sorted(found):
        if not name or not fnmatchcase(name, pattern):
            continue
        head = f"vmlinux: {word} {name}"
        if not verbose:
            yield head
        elif word == "enum":
            yield head + " {"
            for value, enumerator in btf.enumeration(name).items():
                yield f"\t{enumerator} = {value},"
            yield "};"
        else:
            yield head + " {"
            yield from _members(btf, found[name], 1)
            yield "};"


def _members(btf: Btf, type_id: int, depth: int) -> Iterator[str]:
    """The declarations of a struct's members, anonymous structs with theirs."""
    from pytools.facts.btf import ARRAY, STRUCT, UNION

    indent = "\t" * depth
    for member in btf.own_members(type_id):
        bits = f" : {member.bits}" if member.bits else ""
        inner = btf.strip(member.type_id)
        kind = btf.kind(inner)
        if kind in (STRUCT, UNION) and not btf.name(inner) and depth < _DEEPEST:
            yield f"{indent}{'struct' if kind == STRUCT else 'union'} {{"
            yield from _members(btf, inner, depth + 1)
            yield f"{indent}}}{' ' + member.name if member.name else ''};"
        elif kind == ARRAY or member.name:
            yield f"{indent}{btf.spelled(member.type_id, member.name)}{bits};"
