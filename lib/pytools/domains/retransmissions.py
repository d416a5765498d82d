"""Why TCP sends a segment again (bpf/retransmission.h)."""
from __future__ import annotations

__all__ = ["reason_letter", "reason_name"]

# By number: the states of congestion (TCP_CA_* of the kernel's include/uapi/linux/tcp.h), the first
# two of which are of all that is none of the others, such as the data of a SYN of TCP Fast Open;
# then the header's own numbers.
_NAMES = {
    0: "open", 1: "disorder", 2: "cwr", 3: "recovery", 4: "timeout", 8: "syn", 9: "synack",
    10: "probe", 11: "newdata",
}  # fmt: skip
_LETTERS = {4: "T", 8: "S", 9: "A", 10: "L", 11: "L"}


def reason_name(number: int) -> str:
    """The reason in a word.

    >>> reason_name(4)
    'timeout'
    """
    return _NAMES.get(number, str(number))


def reason_letter(number: int) -> str:
    """The letter that stands before ``>``: bcc's where it has one.

    >>> reason_letter(3), reason_letter(10)
    ('R', 'L')
    """
    return _LETTERS.get(number, "R")
