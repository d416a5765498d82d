"""What differs between kernels: one function a difference.

A template writes the difference's name as a placeholder
(``prev->$TASK_STATE``) and reads as C; what the name stands for is decided
here, when the template is rendered, by asking the kernel's BTF. Where a kernel
has no BTF, the version decides, and only there.

Every function takes the kernel and returns C text. Its docstring names the
commit that made the difference, and the version it first came with.
"""
from __future__ import annotations

from pytools.errors import Failure
from pytools.kernel import Kernel

__all__ = [
    "CFS_RQ_OFFSET_CHECK", "CGROUP_ANCESTOR_ID", "CFS_NR_RUNNING", "DELAYED_TASKS",
    "RUNNABLE_WEIGHT_FIELD", "TASK_STATE", "resolve",
]  # fmt: skip


def _has(kernel: Kernel, struct: str, member: str, since: tuple[int, int], before: bool = False) -> bool:
    """Whether BTF lists the member; without BTF, whether the kernel is at least
    ``since`` (or, with ``before``, older than that)."""
    known = kernel.has_field(struct, member)
    return (kernel.version >= since) != before if known is None else known


def TASK_STATE(kernel: Kernel) -> str:
    """task_struct's scheduling state. Since Linux commit 2f064a59a11f (v5.14)
    the member is ``__state``, 4 bytes wide; before, ``state``, 8 bytes."""
    return "__state" if _has(kernel, "task_struct", "__state", (5, 14)) else "state"


def RUNNABLE_WEIGHT_FIELD(kernel: Kernel) -> str:
    """cfs_rq has ``runnable_weight`` before ``nr_running`` from Linux commit
    1ea6c46a23f1 (v4.15) to commit 0dacee1bfa70 (v5.7) only."""
    if _has(kernel, "cfs_rq", "runnable_weight", (5, 7), before=True):
        return "unsigned long runnable_weight;"
    return ""


def CFS_NR_RUNNING(kernel: Kernel) -> str:
    """The entities queued on one cfs_rq. Since Linux commit 736c55a02c47
    (v6.14) the member is ``nr_queued``; before, ``nr_running``."""
    return "nr_queued" if _has(kernel, "cfs_rq", "nr_queued", (6, 14)) else "nr_running"


def CFS_RQ_OFFSET_CHECK(kernel: Kernel) -> str:
    """The hand-written ``struct cfs_rq_partial`` against the kernel's own: a
    kernel that lays cfs_rq out in a new way must not give wrong numbers."""
    if not kernel.has_btf:
        return ""
    name = CFS_NR_RUNNING(kernel)
    member = kernel.btf.member("cfs_rq", name)
    if member is None:
        raise Failure(f"this kernel's cfs_rq has no {name}: --cfs cannot be read")
    return (
        f"_Static_assert(offsetof(struct cfs_rq_partial, {name}) == {member.bit_offset // 8},\n"
        f'\t"cfs_rq is laid out in a new way");'
    )


def DELAYED_TASKS(kernel: Kernel) -> str:
    """Tasks that sleep but are still queued on the ``rq`` at hand ("delayed
    dequeue"), counted in ``rq->nr_running``. Since Linux commit 152e11f6df29
    (v6.12); told from the runnable ones since commit 11b1b8bc2b98 (v6.14, and
    in v6.12's stable series), before which ``h_nr_delayed`` counts them."""
    if _has(kernel, "cfs_rq", "h_nr_runnable", (6, 14)):
        return "rq->cfs.h_nr_queued - rq->cfs.h_nr_runnable"
    if _has(kernel, "cfs_rq", "h_nr_delayed", (6, 12)):
        return "rq->cfs.h_nr_delayed"
    return "0"


def CGROUP_ANCESTOR_ID(kernel: Kernel) -> str:
    """The id of the ancestor of ``cgroup`` at ``level``. Since Linux commit
    7f203bc89eb6 (v6.1) cgroup has pointers in ``ancestors``; before, the ids
    themselves in ``ancestor_ids``."""
    if _has(kernel, "cgroup", "ancestors", (6, 1)):
        return "cgroup->ancestors[level]->kn->id"
    return "cgroup->ancestor_ids[level]"


def resolve(name: str, kernel: Kernel) -> str | None:
    """The C text of the difference of that name; None if there is none."""
    function = globals().get(name)
    return function(kernel) if name in __all__ and name != "resolve" else None
