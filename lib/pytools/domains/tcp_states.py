"""The names of a TCP socket's states, as the kernel has them (include/net/tcp_states.h)."""
from __future__ import annotations

__all__ = ["tcp_state"]

# 12 is that of a request for a connection, which has no socket yet: TCP_NEW_SYN_RECV. 13 is of a
# socket that is bound (TCP_BOUND_INACTIVE, since Linux v6.8): only sock_diag has it.
_STATES = {
    1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2",
    6: "TIME_WAIT", 7: "CLOSE", 8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING",
    12: "NEW_SYN_RECV", 13: "BOUND_INACTIVE",
}  # fmt: skip


def tcp_state(number: int) -> str | None:
    """The name of a state; None for 0: not known.

    >>> tcp_state(1), tcp_state(99), tcp_state(0)
    ('ESTABLISHED', '99', None)
    """
    return _STATES.get(number, str(number)) if number else None
