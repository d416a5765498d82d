"""Why a host name was not found: what the C library's resolver functions say of it, in words."""
from __future__ import annotations

import errno

__all__ = ["failure"]

# The same in glibc (netdb.h) and in musl.
EAI_NAMES = {
    -1: "EAI_BADFLAGS", -2: "EAI_NONAME", -3: "EAI_AGAIN", -4: "EAI_FAIL", -5: "EAI_NODATA",
    -6: "EAI_FAMILY", -7: "EAI_SOCKTYPE", -8: "EAI_SERVICE", -9: "EAI_ADDRFAMILY",
    -10: "EAI_MEMORY", -11: "EAI_SYSTEM", -12: "EAI_OVERFLOW", -104: "EAI_INTR",
    -105: "EAI_IDN_ENCODE",
}  # fmt: skip
H_ERRNO_NAMES = {
    -1: "NETDB_INTERNAL", 1: "HOST_NOT_FOUND", 2: "TRY_AGAIN", 3: "NO_RECOVERY", 4: "NO_DATA",
}  # fmt: skip


def failure(function: str, result: int, h_errno: int | None) -> str:
    """Why a function failed: the name of what getaddrinfo(3) returned; of gethostbyname(3) and its
    like that of the ``h_errno``, None where it is not known. Where that says NETDB_INTERNAL, the
    functions with _r return an errno, which says more. A number stands for itself where it has no
    name.

    >>> failure("getaddrinfo", -2, None), failure("gethostbyname", 0, 1)
    ('EAI_NONAME', 'HOST_NOT_FOUND')
    >>> failure("gethostbyname_r", 34, -1), failure("gethostbyname", 0, None)
    ('ERANGE', 'failed')
    """
    if function == "getaddrinfo":
        return EAI_NAMES.get(result, str(result))
    if h_errno is None:
        return "failed"
    if h_errno < 0 and result and function.endswith("_r"):
        return errno.errorcode.get(result, str(result))
    return H_ERRNO_NAMES.get(h_errno, str(h_errno))
