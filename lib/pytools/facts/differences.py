"""What differs between kernels: one function a difference.

A template writes the difference's name as a placeholder
(``prev->$TASK_STATE``) and reads as C; what the name stands for is decided
here, when the template is rendered, by asking the kernel's BTF. Where a kernel
has no BTF, the version decides, and only there.

Every function takes the kernel and returns C text. Its docstring names the
commit that made the difference, and the version it first came with.
"""
from __future__ import annotations

import os

from pytools.base.errors import Failure
from pytools.facts.kernel import Kernel

__all__ = [
    "ATTACH_COOKIE", "BUFFERED_READ", "CACHE_PROGRAMS", "CALLED_STACK", "CALL_RESULT",
    "CFS_NR_RUNNING", "CFS_RQ_OFFSET_CHECK", "CGROUP_ANCESTOR_ID", "COMPAT_ARGUMENTS",
    "COMPAT_CALL", "COMPAT_PARAMETER", "COMPAT_REGISTERS", "COMPLETION_ARGUMENTS", "DELAYED_TASKS",
    "DROPPED", "ENTERED_CALL", "EXIT_CONTEXT", "FAULT_COUNTS", "FIFTH_ARGUMENT", "FIRST_ARGUMENT",
    "FIRST_SUBFLOW", "FOURTH_ARGUMENT", "FSYNC_CALLERS", "FUNCTION_ARGUMENTS", "FUNCTION_RESULT",
    "GFP_WRITE", "GROUP_DEAD", "IO_COMPLETION", "IO_OPEN_NAME", "IO_OPEN_PREPARATIONS",
    "IO_OPEN_SLOT", "IO_RESULT_OFFSET", "IO_URING_ACCEPTS", "IS_MPTCP", "MM_COUNTER",
    "MM_CPU_PARTS", "NODE_ALLOCATIONS", "NO_DROP", "PACKET_DROP", "PAGE_SHIFT", "PREV_STATE",
    "PROCESS_EXIT", "QUEUED_TASKS", "READ_BEFORE", "RECLAIM_ARGUMENTS", "RECOVERY_STATE",
    "REQUEST_ARGUMENTS", "REQUEST_DISK", "REQUEST_IO_STATE", "REQUEST_ORIGIN", "REQUEST_STARTS",
    "RETRANSMISSION", "RETRANSMITTED", "RETURNED_STACK", "RETURNING_CALL", "RETURN_ADDRESS",
    "RUNNABLE_WEIGHT_FIELD", "RUN_QUEUE_LOCK", "SECOND_ARGUMENT", "SLAB_PROGRAMS", "SOCKET_OPTIONS",
    "SOCKET_STATE", "STATE_CHANGE", "STRUCT_BLKCG_GQ", "STRUCT_IO_OPEN", "STRUCT_MNT_NAMESPACE",
    "STRUCT_MOUNT", "SYNACK_RETRANSMISSION", "SYNACK_RETRANSMITTED", "SYS_ENTER", "SYS_EXIT",
    "TARGET_NAMESPACE", "TASK_IO_STATE", "TASK_STATE", "THIRD_ARGUMENT", "USER_REGISTERS",
    "WORKQUEUE_NAME", "WORK_ARGUMENTS", "resolve",
]  # fmt: skip


def _has(
    kernel: Kernel, struct: str, member: str, since: tuple[int, int], before: bool = False
) -> bool:
    """Whether BTF lists the member; without BTF, whether the kernel is at least
    ``since`` (or, with ``before``, older than that)."""
    known = kernel.has_field(struct, member)
    return (kernel.version >= since) != before if known is None else known


def _enumerator(kernel: Kernel, name: str) -> int | None:
    """The value of an enumerator; None where BTF does not list it, or there is none."""
    return kernel.btf.enumerators({name}).get(name) if kernel.has_btf else None


def TASK_STATE(kernel: Kernel) -> str:
    """task_struct's scheduling state. Since Linux commit 2f064a59a11f (v5.14)
    the member is ``__state``, 4 bytes wide; before, ``state``, 8 bytes."""
    return "__state" if _has(kernel, "task_struct", "__state", (5, 14)) else "state"


def PREV_STATE(kernel: Kernel) -> str:
    """The state of the task that sched_switch switches out. Since Linux commit
    fa2c3254d7cf (v5.18) the tracepoint's fourth argument: the task's own may
    have been changed by a waker meanwhile."""
    arguments = kernel.btf.raw_tracepoint("sched_switch") if kernel.has_btf else None
    if len(arguments) > 3 if arguments else kernel.version >= (5, 18):
        return "(unsigned int)ctx->args[3]"
    return f"prev->{TASK_STATE(kernel)}"


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


def QUEUED_TASKS(kernel: Kernel) -> str:
    """The tasks queued on one cfs_rq and on those below it. Since Linux commit 7b8a702d9438
    (v6.14, and v6.12.37) the member is ``h_nr_queued``; before, ``h_nr_running``."""
    return "h_nr_queued" if _has(kernel, "cfs_rq", "h_nr_queued", (6, 14)) else "h_nr_running"


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
    (v6.12). The runnable ones are counted apart since commit c2a295bffeaf
    (v6.14, and v6.12.37); ``h_nr_delayed`` counts the sleepers from commit
    76f2f783294d (v6.13, and v6.12.7) until then."""
    if not kernel.has_btf:
        raise Failure(
            "the CPU's own queue (struct rq) is known from type information (BTF) only, "
            "which this kernel lacks: use --cfs"
        )
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
        return "(*((struct cgroup **)&cgroup->ancestors + level))->kn->id"
    return "*((u64 *)&cgroup->ancestor_ids + level)"


def _register_helpers(kernel: Kernel) -> dict[str, int]:
    """The numbers of the helpers that give a task's registers; empty where there are none."""
    names = {"BPF_FUNC_get_current_task_btf", "BPF_FUNC_task_pt_regs"}
    numbers = kernel.btf.enumerators(names) if kernel.has_btf else {}
    return numbers if len(numbers) == len(names) else {}


def USER_REGISTERS(kernel: Kernel) -> str:
    """Declares ``registers``, the current task's registers as its system call
    found them, where ``context`` is a system call tracepoint's record. Since
    Linux commit dd6e10fbd9fb (v5.15) a helper gives them, for which the kernel
    must have BTF. Before, they are what the hidden first word of the record
    points to, as bpf_get_stack() takes it (commit cf5f5cea270b, v4.14)."""
    numbers = _register_helpers(kernel)
    if numbers:
        # By number: older versions of bcc do not know the names.
        return (
            "struct task_struct *(*current_task)(void) = "
            f"(void *){numbers['BPF_FUNC_get_current_task_btf']};\n"
            "\tstruct pt_regs *(*registers_of)(struct task_struct *) = "
            f"(void *){numbers['BPF_FUNC_task_pt_regs']};\n"
            "\tstruct pt_regs *registers = registers_of(current_task());\n"
        )
    return (
        "struct pt_regs copy = {}, *registers = NULL;\n\n"
        "\tbpf_probe_read_kernel(&registers, sizeof(registers), context);\n"
        "\tbpf_probe_read_kernel(&copy, sizeof(copy), registers);\n"
        "\tregisters = &copy;\n"
    )


# The members of struct pt_regs that hold a system call's arguments when it ends
# (syscall_get_arguments() in the kernel's arch/*/include/asm/syscall.h).
_ARGUMENTS = {
    "x86_64": ["di", "si", "dx", "r10", "r8"],
    "aarch64": ["orig_x0", "regs[1]", "regs[2]", "regs[3]", "regs[4]"],
    "riscv64": ["orig_a0", "a1", "a2", "a3", "a4"],
    "s390x": ["orig_gpr2", "gprs[3]", "gprs[4]", "gprs[5]", "gprs[6]"],
    "ppc64le": ["orig_gpr3", "gpr[4]", "gpr[5]", "gpr[6]", "gpr[7]"],
}


def call_arguments(kernel: Kernel) -> list[str]:
    """The members of struct pt_regs with the arguments of a system call, the first four."""
    for machine, members in _ARGUMENTS.items():
        known = [kernel.has_field("pt_regs", member.partition("[")[0]) for member in members]
        if all(known) or (known[0] is None and os.uname().machine == machine):
            return members
    raise Failure(f"system calls' arguments are not known on {os.uname().machine}")


def FIRST_ARGUMENT(kernel: Kernel) -> str:
    """The first argument of a system call; by architecture, as the others are."""
    return call_arguments(kernel)[0]


def SECOND_ARGUMENT(kernel: Kernel) -> str:
    """The second argument of a system call."""
    return call_arguments(kernel)[1]


def THIRD_ARGUMENT(kernel: Kernel) -> str:
    """The third argument of a system call."""
    return call_arguments(kernel)[2]


def FOURTH_ARGUMENT(kernel: Kernel) -> str:
    """The fourth argument of a system call."""
    return call_arguments(kernel)[3]


def FIFTH_ARGUMENT(kernel: Kernel) -> str:
    """The fifth argument of a system call."""
    return call_arguments(kernel)[4]


# The member of struct pt_regs that holds a system call's number when it ends
# (syscall_get_nr(), in the same file).
_NUMBERS = {
    "x86_64": "orig_ax",
    "aarch64": "syscallno",
    "riscv64": "a7",
    "s390x": "int_code & 0xffff",
    "ppc64le": "gpr[0]",
}


def _preempts_programs(kernel: Kernel) -> bool:
    """Whether a task may be preempted in a program at a raw tracepoint, or at one
    of ``syscalls``: for other tasks that come there on that CPU, the kernel leaves
    the program out meanwhile. It is so since Linux commits 439ebd5b5708 and
    57918341dd19 (v7.2), which let such programs sleep; at any other tracepoint that
    is a perf event nobody is preempted."""
    if kernel.has_btf:
        return kernel.btf.function("trace_call_bpf_faultable") is not None
    return kernel.version >= (7, 2)


def raw_tracepoints_count(kernel: Kernel) -> bool:
    """Whether a program at a raw tracepoint is run each time (see above)."""
    return kernel.has_btf and not _preempts_programs(kernel)


def single_calls_count(kernel: Kernel) -> bool:
    """The same of one at a tracepoint of category ``syscalls``."""
    return not _preempts_programs(kernel)


def links_functions(kernel: Kernel) -> bool:
    """Whether programs at functions are attached by links that may hold many functions
    (kprobe.multi). Such links are on the function graph tracer since Linux commit
    4346ba160409 (v6.14): nobody is preempted in their programs, and any number of tasks may
    be in a function whose return is traced. In fentry and fexit a task may be preempted where
    the kernel lets any task be, which is so since commit 7dadeaa6e851 (v7.0), and for other
    tasks that come there on that CPU, the kernel leaves the program out meanwhile."""
    if kernel.version < (7, 0) or not kernel.has_btf:
        return False  # without a look at BTF, which takes a start 9 MiB
    return kernel.btf.struct("fprobe_hlist_node") is not None


# What the names of the functions that make system calls begin with
# (arch/*/include/asm/syscall_wrapper.h).
_CALL_FUNCTIONS = {
    "x86_64": "__x64_sys_", "aarch64": "__arm64_sys_", "s390x": "__s390x_sys_",
    "riscv64": "__riscv_sys_",
}  # fmt: skip


def call_function(call: str, kernel: Kernel) -> str | None:
    """The function that makes a system call, where a program is run each time that it is
    called or returns, but not at the call's tracepoints (_preempts_programs)."""
    if not links_functions(kernel) or not _preempts_programs(kernel):
        return None
    return kernel.attachable(_CALL_FUNCTIONS.get(os.uname().machine, "sys_") + call)


def calls_share_functions() -> bool:
    """Whether those functions make system calls of 32-bit programs as well, which the
    tracepoints of single system calls leave out."""
    return os.uname().machine == "aarch64"


def ATTACH_COOKIE(kernel: Kernel) -> str:
    """The number that a link of many probes gave the one that a program runs for. Since
    Linux commit 7adfc6c9b315 (v5.15) a helper tells it; such links are newer."""
    helper = "BPF_FUNC_get_attach_cookie"
    number = _enumerator(kernel, helper)
    return "NO_PROBE" if number is None else f"((u64 (*)(void *)){number})(context)"


def SYS_ENTER(kernel: Kernel) -> str:
    """The head of a program that runs when a system call begins, for each of them.
    A raw tracepoint is the faster one."""
    if _preempts_programs(kernel):
        return "TRACEPOINT(raw_syscalls, sys_enter)"
    return "RAW_TRACEPOINT(sys_enter, struct pt_regs *registers, long int number)"


def ENTERED_CALL(kernel: Kernel) -> str:
    """The number of the system call in ``SYS_ENTER``."""
    return "args->id" if _preempts_programs(kernel) else "number"


def SYS_EXIT(kernel: Kernel) -> str:
    """The head of a program that runs when a system call returns."""
    if _preempts_programs(kernel):
        return "TRACEPOINT(raw_syscalls, sys_exit)"
    return "RAW_TRACEPOINT(sys_exit, struct pt_regs *registers, long int result)"


def CALL_RESULT(kernel: Kernel) -> str:
    """What the system call in ``SYS_EXIT`` returns."""
    return "args->ret" if _preempts_programs(kernel) else "result"


def EXIT_CONTEXT(kernel: Kernel) -> str:
    """What ``syscall_arguments`` of syscall.h takes in ``SYS_EXIT``. A raw tracepoint's
    first argument is the registers, as the hidden first word of a record is."""
    return "args" if _preempts_programs(kernel) else "ctx"


def RETURNING_CALL(kernel: Kernel) -> str:
    """The number of the system call in ``SYS_EXIT``; in struct pt_regs by architecture."""
    if _preempts_programs(kernel):
        return "args->id"
    member = _NUMBERS.get(os.uname().machine)
    if member is None:
        raise Failure(f"system calls' numbers are not known on {os.uname().machine}")
    return f"registers->{member}"


def PROCESS_EXIT(kernel: Kernel) -> str:
    """The head of a program that runs when a thread ends."""
    if _preempts_programs(kernel):
        return "TRACEPOINT(sched, sched_process_exit)"
    return "RAW_TRACEPOINT(sched_process_exit, struct task_struct *task)"


def GROUP_DEAD(kernel: Kernel) -> str:
    """Whether the thread that ends in PROCESS_EXIT is the last one of its process. Since Linux
    v6.18 the tracepoint says so; before, threads that end at the same time all find that none is
    left (``has_ended``)."""
    if _preempts_programs(kernel):
        return "args->group_dead"
    arguments = kernel.btf.raw_tracepoint("sched_process_exit") if kernel.has_btf else None
    if len(arguments) > 1 if arguments else kernel.version >= (6, 18):
        return "(bool)ctx->args[1]"
    return "has_ended(first)"


def COMPAT_CALL(kernel: Kernel) -> str:
    """Whether the current task makes a 32-bit system call on a 64-bit
    kernel, which has a number of its own: TS_COMPAT of
    arch/x86/include/asm/thread_info.h (since Linux v2.6), TIF_32BIT of arm64's
    (since v3.7). Since commit 3ca1032ab7ab (v5.11) a program may read the current
    task without a helper, which is five times as fast."""
    member, width, test = {
        "x86_64": ("status", 32, "& 2"),
        "aarch64": ("flags", 64, ">> 22 & 1"),
    }.get(os.uname().machine, ("", 0, ""))
    if not member:
        return "false"
    helper = "BPF_FUNC_get_current_task_btf"
    number = _enumerator(kernel, helper)
    if number is None:
        return f"(((struct task_struct *)bpf_get_current_task())->thread_info.{member} {test})"
    outer = kernel.btf.member("task_struct", "thread_info")
    inner = kernel.btf.member("thread_info", member)
    if outer is None or inner is None:
        raise Failure("this kernel's task_struct has no thread_info")
    offset = (outer.bit_offset + inner.bit_offset) // 8
    # In assembler, for bcc would put a bpf_probe_read there.
    return (
        f"({{ void *(*current)(void) = (void *){number}; u{width} word; "
        f'asm volatile("%0 = *(u{width} *)(%1 + {offset})" : "=r"(word) : "r"(current())); '
        f"word {test}; }})"
    )


# Those of a function's arguments when it is entered, and of its result when it has
# returned (the architectures' calling conventions: PT_REGS_PARM1 and so on).
_CALL = {
    "x86_64": (["di", "si", "dx", "cx", "r8", "r9"], "ax"),
    "aarch64": ([f"regs[{number}]" for number in range(8)], "regs[0]"),
    "riscv64": ([f"a{number}" for number in range(8)], "a0"),
    "s390x": ([f"gprs[{number}]" for number in range(2, 7)], "gprs[2]"),
    "ppc64le": ([f"gpr[{number}]" for number in range(3, 11)], "gpr[3]"),
}


def call_registers(kernel: Kernel) -> tuple[list[str], str]:
    """The members of struct pt_regs with a function's arguments, and with its result."""
    for machine, (members, result) in _CALL.items():
        known = kernel.has_field("pt_regs", members[0].partition("[")[0])
        if known or (known is None and os.uname().machine == machine):
            return members, result
    raise Failure(f"functions' arguments are not known on {os.uname().machine}")


def FUNCTION_ARGUMENTS(kernel: Kernel) -> str:
    """The first six arguments of a function, fewer where fewer are in registers, with commas
    between them; in a program that runs when it is called."""
    return ", ".join(f"ctx->{register}" for register in call_registers(kernel)[0][:6])


def FUNCTION_RESULT(kernel: Kernel) -> str:
    """What a function has returned, in a program that runs then."""
    return f"ctx->{call_registers(kernel)[1]}"


# The stack pointer, and how many bytes the return takes from the stack: where the
# call puts the address to return to, not into a register.
_STACK = {
    "x86_64": ("sp", 8),
    "aarch64": ("sp", 0),
    "riscv64": ("sp", 0),
    "s390x": ("gprs[15]", 0),
    "ppc64le": ("gpr[1]", 0),
}
# Those whose arguments beyond the registers are next to each other on the stack.
_ARGUMENTS_ON_STACK = ("x86_64", "aarch64", "riscv64")


def _stack() -> tuple[str, int]:
    machine = os.uname().machine
    if machine not in _STACK:
        raise Failure(f"the stack is not known on {machine}")
    return _STACK[machine]


def stack_argument(number: int) -> str | None:
    """Where an argument of a function is that has no register left, the first of them
    0, as the function is called; None where that is not known."""
    if os.uname().machine not in _ARGUMENTS_ON_STACK:
        return None
    register, return_bytes = _stack()
    return f"ctx->{register} + {return_bytes + 8 * number}"


def CALLED_STACK(kernel: Kernel) -> str:
    """Where the stack of a user function was when it was called, in a program that
    runs then: of two calls of a thread that have not returned, no two are alike."""
    return f"ctx->{_stack()[0]}"


def RETURNED_STACK(kernel: Kernel) -> str:
    """The same, in a program that runs when the function has returned."""
    register, return_bytes = _stack()
    return f"(ctx->{register} - {return_bytes})"


# Where a function's return address is when it is called, where that is a register.
_LINK = {
    "aarch64": "regs[30]", "riscv64": "ra", "s390x": "gprs[14]", "ppc64le": "link",
}  # fmt: skip


def RETURN_ADDRESS(kernel: Kernel) -> str:
    """Where a user function returns to, in a program that runs when it is called."""
    register = _LINK.get(os.uname().machine)
    if register is not None:
        return f"ctx->{register}"
    return (
        "({ u64 _address = 0; bpf_probe_read_user(&_address, sizeof(_address), "
        f"(void *){CALLED_STACK(kernel)}); _address; }})"
    )


# By which functions of x86 begin whose caller the kernel knows: push %rbp; endbr64.
_KNOWN_BEGINS = (b"\x55", b"\xf3\x0f\x1e\xfa")


def stack_has_caller(kernel: Kernel, code: bytes) -> bool:
    """Whether the stack that a program takes where a process's function is entered has the caller
    of the function, whose code is given. Since Linux commit cfa7f3d2c526 (v6.11), x86 looks at the
    first instruction."""
    looks = kernel.has_btf and kernel.btf.function("is_uprobe_at_func_entry") is not None
    return looks and code.startswith(_KNOWN_BEGINS)


def has_fentry(kernel: Kernel) -> bool:
    """Whether programs can be attached to functions without kprobes. x86 has what
    it takes since Linux commit fec56f5890d9 (v5.5), arm64 since efc9909fdce0
    (v6.0), s390 since 528eb2cb87bc (v6.3); it depends on BTF."""
    since = {"x86_64": (5, 5), "aarch64": (6, 0), "s390x": (6, 3)}.get(os.uname().machine, (99, 0))
    return kernel.has_btf and kernel.version >= since


def has_tp_btf(kernel: Kernel) -> bool:
    """Whether a program at a raw tracepoint may know its arguments' types, and so follow
    them without a call: since Linux commit 9e15db66136a (v5.5), where there is BTF."""
    return kernel.has_btf and kernel.version >= (5, 5)


def has_uprobe_multi(kernel: Kernel) -> bool:
    """Whether one link attaches a program to many places in a file: since Linux
    commit 89ae89f53d20 (v6.6). A hundred are detached in a fortieth of a second then, where
    the perf events of before take a tenth of a second each."""
    return _enumerator(kernel, "BPF_TRACE_UPROBE_MULTI") is not None


def links_see_threads(kernel: Kernel) -> bool:
    """Whether a link that attaches to places in a file for one process sees all of its threads.
    Before Linux commit 46ba0e49b642 (v6.10) it saw the first one alone."""
    return not has_uprobe_multi(kernel) or kernel.version >= (6, 10)


# The functions that make system calls of 32-bit programs on a 64-bit kernel.
_COMPAT_CALLS = {
    "x86_64": (
        "__ia32_compat_sys_open", "__ia32_compat_sys_openat",
        "__ia32_sys_creat", "__ia32_sys_openat2",
    ),
    "aarch64": (
        "__arm64_compat_sys_open", "__arm64_compat_sys_openat",
        "__arm64_sys_creat", "__arm64_sys_openat2",
    ),
}  # fmt: skip
# The members of struct pt_regs with their arguments, where those are others than of 64-bit
# programs' calls (SC_IA32_REGS_TO_ARGS in arch/x86/include/asm/syscall_wrapper.h).
_COMPAT_ARGUMENTS = {"x86_64": ["bx", "cx", "dx", "si"]}


def compat_function(call: str) -> str:
    """The function that makes a system call of 32-bit programs; empty where there are none."""
    names = _COMPAT_CALLS.get(os.uname().machine, ())
    return next((name for name in names if name.endswith(f"_sys_{call}")), "")


def COMPAT_PARAMETER(kernel: Kernel) -> str:
    """The parameter of such a function, if there is no other way to a task's registers
    (see USER_REGISTERS): for its return, it would have to be kept."""
    return "" if _register_helpers(kernel) else ", struct pt_regs *regs"


def COMPAT_REGISTERS(kernel: Kernel) -> str:
    """Declares ``registers``, in a program at the return of such a function."""
    if _register_helpers(kernel):
        return USER_REGISTERS(kernel)
    return "struct pt_regs *registers = regs;\n"


def COMPAT_ARGUMENTS(kernel: Kernel) -> str:
    """The initialiser of struct syscall_arguments (syscall.h), of these registers."""
    members = _COMPAT_ARGUMENTS.get(os.uname().machine) or call_arguments(kernel)
    return "{ " + ", ".join(f"(u32)registers->{member}" for member in members) + " }"


# Operations of file systems (struct file_operations), by the names that the file systems have for
# the first parameters. The types of those in modules are not among the kernel's own.
_FILE_OPERATIONS = {
    ("iocb",): [
        "ext4_file_read_iter", "ext4_file_write_iter", "xfs_file_read_iter", "xfs_file_write_iter",
        "btrfs_file_read_iter", "btrfs_file_write_iter", "nfs_file_read", "nfs_file_write",
        "fuse_file_read_iter", "fuse_file_write_iter", "f2fs_file_read_iter",
        "f2fs_file_write_iter", "bch2_read_iter", "bch2_write_iter",
    ],
    ("kiocb",): ["zpl_iter_read", "zpl_iter_write"],
    ("inode", "filp"): [
        "ext4_file_open", "btrfs_file_open", "nfs_file_open", "nfs4_file_open", "f2fs_file_open",
        "zpl_open",
    ],
    ("inode", "file"): ["xfs_file_open", "fuse_open", "bch2_open"],
    ("file",): [
        "ext4_sync_file", "xfs_file_fsync", "btrfs_sync_file", "nfs_file_fsync", "fuse_fsync",
        "f2fs_sync_file", "bch2_fsync",
    ],
    ("filp",): ["zpl_fsync"],
}  # fmt: skip

# Where a function's parameters stand, in kernels without BTF: (since, names), newest first.
_PARAMETERS = {
    **{
        name: [((0, 0), list(parameters))]
        for parameters, names in _FILE_OPERATIONS.items()
        for name in names
    },
    "filemap_read": [((0, 0), ["iocb", "iter", "already_read"])],
    "generic_file_buffered_read": [((0, 0), ["iocb", "iter", "written"])],
    "filemap_fault": [((0, 0), ["vmf"])],
    "filemap_map_pages": [((0, 0), ["vmf", "start_pgoff", "end_pgoff"])],
    "filemap_add_folio": [((0, 0), ["mapping", "folio", "index", "gfp"])],
    "add_to_page_cache_lru": [((0, 0), ["page", "mapping", "offset", "gfp_mask"])],
    **{name: [((0, 0), ["file", "buf", "count", "pos"])] for name in ("vfs_read", "vfs_write")},
    **{
        name: [((0, 0), ["file", "vec", "vlen", "pos", "flags"])]
        for name in ("vfs_readv", "vfs_writev")
    },
    "mnt_want_write": [((0, 0), ["m"])],
    "oom_kill_process": [((0, 0), ["oc", "message"])],
    "__oom_kill_process": [((0, 0), ["victim", "message"])],
    # Linux commit 549c7297717c (v5.12) put the user namespace first.
    "nfs_getattr": [((5, 12), ["", "path"]), ((0, 0), ["path"])],
    "security_inode_create": [((0, 0), ["dir", "dentry", "mode"])],
    "vfs_open": [((0, 0), ["path", "file"])],
    "security_capable": [((0, 0), ["cred", "ns", "cap", "opts"])],
    "cap_capable": [((0, 0), ["cred", "target_ns", "cap", "opts"])],
    "__mutex_lock_slowpath": [((0, 0), ["lock"])],
    "__mutex_lock_interruptible_slowpath": [((0, 0), ["lock"])],
    "__mutex_lock_killable_slowpath": [((0, 0), ["lock"])],
    "rwsem_down_read_slowpath": [((0, 0), ["sem"])],
    "rwsem_down_write_slowpath": [((0, 0), ["sem"])],
    "file_open_name": [((0, 0), ["name", "flags", "mode"])],
    "filp_open": [((0, 0), ["filename", "flags", "mode"])],
    # Linux commit ffb37ca3bd16 (v5.12) made a struct path of the first two.
    "file_open_root": [
        ((5, 12), ["root", "filename", "flags", "mode"]),
        ((0, 0), ["dentry", "mnt", "filename", "flags", "mode"]),
    ],
    "do_open_execat": [((0, 0), ["fd", "name"])],
    "io_openat2": [((0, 0), ["req"])],
    "io_req_complete_post": [((0, 0), ["req", "res"])],
    **{
        name: [((0, 0), ["req", "sqe"])]
        for name in ("io_openat_prep", "io_openat2_prep", "__io_openat_prep")
    },
    **{name: [((0, 0), ["regs"])] for calls in _COMPAT_CALLS.values() for name in calls},
    # Linux commit 6521f8917082 (v5.12) put the user namespace first.
    "vfs_unlink": [((5, 12), ["", "dir", "dentry"]), ((0, 0), ["dir", "dentry"])],
}


def parameter_names(function: str, kernel: Kernel) -> list[str]:
    """The names of a function's first parameters, where BTF does not tell them."""
    for since, names in _PARAMETERS.get(function, []):
        if kernel.version >= since:
            return names
    raise Failure(f"the arguments of {function} are known from type information (BTF) only")


def TARGET_NAMESPACE(kernel: Kernel) -> str:
    """What cap_capable() calls the user namespace in which the capability is asked for.
    ``target_ns`` since Linux v6.14, which gave it a tracepoint; before, ``targ_ns``."""
    function = kernel.btf.function("cap_capable") if kernel.has_btf else None
    names = [name for name, _ in function.parameters] if function else []
    return "targ_ns" if "targ_ns" in names else "target_ns"


def sees_spinlocks(kernel: Kernel) -> bool:
    """Whether waits for all kinds of locks have tracepoints: contention_begin and contention_end
    are there since Linux commit 16edd9b511a1 (v5.19)."""
    if kernel.has_btf:
        return kernel.btf.raw_tracepoint("contention_begin") is not None
    return kernel.version >= (5, 19)


def RUN_QUEUE_LOCK(kernel: Kernel) -> str:
    """The address of the lock of the run queue that ``task`` belongs to; 0 where it is not known.
    Since Linux commit 5cb9eaa3d274 (v5.14) the member is ``__lock``; a queue leads to its CPU's
    with CONFIG_FAIR_GROUP_SCHED only."""
    if kernel.has_field("rq", "__lock") and kernel.has_field("cfs_rq", "rq"):
        return "(u64)&task->se.cfs_rq->rq->__lock"
    return "0"


def STRUCT_MNT_NAMESPACE(kernel: Kernel) -> str:
    """The head of struct mnt_namespace, which is in BTF but in no installed
    header. Until Linux commit 1a7b8969e664 (v5.11) a counter comes first."""
    if kernel.has_btf:
        return ""
    count = "\tatomic_t count;\n" if kernel.version < (5, 11) else ""
    return f"struct mnt_namespace {{\n{count}\tstruct ns_common ns;\n}};\n"


def STRUCT_MOUNT(kernel: Kernel) -> str:
    """The head of struct mount, which is in BTF but in no installed header;
    unchanged from Linux v5.10 to v7.3 (fs/mount.h)."""
    if kernel.has_btf:
        return ""
    return (
        "struct mount {\n"
        "\tstruct hlist_node mnt_hash;\n"
        "\tstruct mount *mnt_parent;\n"
        "\tstruct dentry *mnt_mountpoint;\n"
        "\tstruct vfsmount mnt;\n"
        "};"
    )


def SOCKET_STATE(kernel: Kernel) -> str:
    """The head of a program that runs when a socket changes its state; it begins with
    STATE_CHANGE. TIME_WAIT is no state of a socket: that is closed then."""
    if _preempts_programs(kernel):
        return "TRACEPOINT(sock, inet_sock_set_state)"
    return "RAW_TRACEPOINT(inet_sock_set_state, struct sock *sk, int oldstate, int newstate)"


def STATE_CHANGE(kernel: Kernel) -> str:
    """Declares ``sk``, ``oldstate`` and ``newstate`` in SOCKET_STATE."""
    if not _preempts_programs(kernel):
        return ""
    return (
        "struct sock *sk = (struct sock *)args->skaddr;\n"
        "\tint oldstate = args->oldstate, newstate = args->newstate;"
    )


def _in_raw_tracepoint(kernel: Kernel, name: str, number: int) -> bool:
    """Whether a raw tracepoint has so many arguments, which BTF tells."""
    return kernel.has_btf and len(kernel.btf.raw_tracepoint(name) or ()) >= number


def RETRANSMISSION(kernel: Kernel) -> str:
    """The head of a program that runs when TCP has sent a segment again; it begins with
    RETRANSMITTED."""
    if _preempts_programs(kernel):
        return "TRACEPOINT(tcp, tcp_retransmit_skb)"
    return "RAW_TRACEPOINT(tcp_retransmit_skb, struct sock *sk, struct sk_buff *skb)"


def RETRANSMITTED(kernel: Kernel) -> str:
    """Declares ``sk``, ``skb`` and ``error`` in RETRANSMISSION. The tracepoint tells the error with
    which the segment could not be sent since Linux v6.18; in v6.12 it is only there without one."""
    if _preempts_programs(kernel):
        return (
            "struct sock *sk = (struct sock *)args->skaddr;\n"
            "\tstruct sk_buff *skb = (struct sk_buff *)args->skbaddr;\n"
            "\ts32 error = args->err;"
        )
    told = _in_raw_tracepoint(kernel, "tcp_retransmit_skb", 3)
    return f"s32 error = {'(s32)ctx->args[2]' if told else 0};"


def SYNACK_RETRANSMISSION(kernel: Kernel) -> str:
    """The head of a program that runs when TCP has sent the answer to a SYN again; it begins with
    SYNACK_RETRANSMITTED."""
    if _preempts_programs(kernel):
        return "TRACEPOINT(tcp, tcp_retransmit_synack)"
    return "RAW_TRACEPOINT(tcp_retransmit_synack, struct sock *sk, struct request_sock *request)"


def SYNACK_RETRANSMITTED(kernel: Kernel) -> str:
    """Declares ``sk``, the listening socket, and ``request`` in SYNACK_RETRANSMISSION."""
    if not _preempts_programs(kernel):
        return ""
    return (
        "struct sock *sk = (struct sock *)args->skaddr;\n"
        "\tstruct request_sock *request = (struct request_sock *)args->req;"
    )


def RECOVERY_STATE(kernel: Kernel) -> str:
    """Where the byte is in struct inet_connection_sock whose lower five bits are the state of
    congestion (TCP_CA_*): icsk_ca_state is a bit-field, of which C has no address."""
    known = kernel.btf.member("inet_connection_sock", "icsk_ca_state") if kernel.has_btf else None
    if known is not None:
        return str(known.bit_offset // 8)
    return "offsetof(struct inet_connection_sock, icsk_retransmits) - 1"


def PACKET_DROP(kernel: Kernel) -> str:
    """The head of a program that runs when a packet is freed as one that is dropped (kfree_skb());
    it begins with DROPPED."""
    if _preempts_programs(kernel):
        return "TRACEPOINT(skb, kfree_skb)"
    return "RAW_TRACEPOINT(kfree_skb, struct sk_buff *skb, void *location)"


def DROPPED(kernel: Kernel) -> str:
    """Declares ``context``, of the program, ``skb``, ``location``, ``reason`` (0: not known) and
    ``receiver``, the socket that the packet is for (NULL: not known), in PACKET_DROP. The
    tracepoint tells the reason since Linux commit c504e5c2f964 (v5.17), the socket since commit
    c53795d48ee8 (v6.11)."""
    if _preempts_programs(kernel):
        return (
            "struct sk_buff *skb = (struct sk_buff *)args->skbaddr;\n"
            "\tstruct sock *receiver = (struct sock *)args->rx_sk;\n"
            "\tvoid *location = args->location, *context = args;\n"
            "\tu32 reason = args->reason;"
        )
    told = [_in_raw_tracepoint(kernel, "kfree_skb", number) for number in (3, 4)]
    return (
        f"u32 reason = {'(u32)ctx->args[2]' if told[0] else 0};\n"
        f"\tstruct sock *receiver = {'(struct sock *)ctx->args[3]' if told[1] else 'NULL'};\n"
        "\tvoid *context = ctx;"
    )


def tells_drop_reasons(kernel: Kernel) -> bool:
    """Whether the tracepoint kfree_skb tells why a packet is dropped (DROPPED)."""
    return _enumerator(kernel, "SKB_DROP_REASON_NOT_SPECIFIED") is not None


def NO_DROP(kernel: Kernel) -> str:
    """Whether ``reason`` is none: most packets that are freed so are done with. There are numbers
    for that up to SKB_DROP_REASON_NOT_SPECIFIED: 1 in Linux v6.1, 2 in v6.12, where 1 is of packets
    that are consumed. Where no reason is told (DROPPED), all count as dropped."""
    last = _enumerator(kernel, "SKB_DROP_REASON_NOT_SPECIFIED")
    return "false" if last is None else f"reason <= {last}"


def _has_mptcp(kernel: Kernel) -> bool:
    """Whether TCP sockets may be subflows of MPTCP (CONFIG_MPTCP): since Linux commit
    f870fa0b5768 (v5.6). Only BTF says it, for headers do not have struct mptcp_sock."""
    return bool(kernel.has_field("mptcp_sock", "first"))


def FIRST_SUBFLOW(kernel: Kernel) -> str:
    """Where an MPTCP socket ``sk`` has the TCP socket of its first subflow (see _has_mptcp)."""
    return "&((struct mptcp_sock *)sk)->first" if _has_mptcp(kernel) else "NULL"


def IS_MPTCP(kernel: Kernel) -> str:
    """Where a TCP socket ``sk`` says whether it is a subflow of MPTCP (see _has_mptcp)."""
    return "&((struct tcp_sock *)sk)->is_mptcp" if _has_mptcp(kernel) else "NULL"


def IO_URING_ACCEPTS(kernel: Kernel) -> str:
    """The program that tells of what io_uring accepts, where the kernel has io_uring
    (CONFIG_IO_URING; the tracepoint is there since Linux v5.5)."""
    if not kernel.has_tracepoint("io_uring", "io_uring_complete"):
        return ""
    return "TRACEPOINT(io_uring, io_uring_complete)\n{\n\treturn completed(args->res);\n}"


def _keeps_result(kernel: Kernel) -> bool:
    """Whether a request of io_uring has its result when its function returns: since Linux
    commit cef216fc32d7 (v5.19). Before, it may be completed by then."""
    return _has(kernel, "io_kiocb", "cqe", (5, 19))


def STRUCT_IO_OPEN(kernel: Kernel) -> str:
    """The head of struct io_open, with which a struct io_kiocb of an open begins; it is in BTF
    but in no installed header (io_uring/openclose.c). The slot is there since Linux commit
    b9445598d8c6 (v5.15, and in Debian's 5.10); before, nothing was in its place."""
    if kernel.has_btf:
        return ""
    return (
        "struct io_kiocb;\n"
        "struct io_open {\n"
        "\tstruct file *file;\n"
        "\tint dfd;\n"
        "\tu32 file_slot;\n"
        "\tstruct filename *filename;\n"
        "\tstruct { u64 flags, mode, resolve; } how;\n"
        "};"
    )


def IO_OPEN_NAME(kernel: Kernel) -> str:
    """The struct filename of a struct io_open. Since Linux v7.0 ("allow incomplete
    imports of filenames") the member is a struct with the pointer."""
    if kernel.has_btf and kernel.btf.struct("delayed_filename") is not None:
        return "filename.__incomplete_filename"
    return "filename"


def IO_OPEN_SLOT(kernel: Kernel) -> str:
    """The slot of the ring that a file gets in place of a descriptor, plus one (see
    STRUCT_IO_OPEN)."""
    return "io.file_slot" if _has(kernel, "io_open", "file_slot", (5, 10)) else "0"


def IO_RESULT_OFFSET(kernel: Kernel) -> str:
    """Where a struct io_kiocb has the result (see _keeps_result)."""
    if not kernel.has_btf:
        return "80" if kernel.version >= (5, 19) else "76"
    if _keeps_result(kernel):
        return "offsetof(struct io_kiocb, cqe) + offsetof(struct io_cqe, res)"
    return "offsetof(struct io_kiocb, result)"


def IO_COMPLETION(kernel: Kernel) -> str:
    """The program that notes the result of an open through io_uring where the request may not
    have it any more when its function returns (see _keeps_result)."""
    if _keeps_result(kernel):
        return ""
    return (
        "OPTIONAL FUNCTION(io_req_complete_post, struct io_kiocb *req, int res)\n"
        "{\n"
        "\tu64 thread = bpf_get_current_pid_tgid();\n"
        "\tstruct uring_open *open = uring_opens.lookup(&thread);\n\n"
        "\tif (open && open->request == (u64)req) {\n"
        "\t\topen->result = res;\n"
        "\t\topen->has_result = 1;\n"
        "\t}\n"
        "\treturn 0;\n"
        "}\n"
    )


def IO_OPEN_PREPARATIONS(kernel: Kernel) -> str:
    """The programs that tell of opens that io_uring refuses when it reads them. Since Linux
    commit 0702e5364f64 (v6.0) a table has the two functions that read them; before, the
    compiler made them a part of others, but not what both call."""
    names = ["io_openat_prep", "io_openat2_prep"] if kernel.version >= (6, 0) else []
    return "\n".join(
        f"OPTIONAL FUNCTION_RETURN({name}, int result, const struct io_uring_sqe *sqe)\n"
        f"{{\n\treturn refused(ctx, URING_DRAFTS + {number}, result, sqe);\n}}\n"
        for number, name in enumerate(names or ["__io_openat_prep"], 1)
    )


def has_socket_requests(kernel: Kernel) -> bool:
    """Whether io_uring can bind a socket and have it listen: since Linux v6.11 (IORING_OP_BIND,
    IORING_OP_LISTEN)."""
    return kernel.version >= (6, 11)


def SOCKET_OPTIONS(kernel: Kernel) -> str:
    """Sets bits in ``options`` that IP_FREEBIND (1), IP_TRANSPARENT (2) and
    IP_BIND_ADDRESS_NO_PORT (4) set in the struct inet_sock ``inet``. Since Linux commit
    c274af224269 (v6.6) and those behind it, they are bits of inet_flags, with the same numbers
    since. Before, they are bit-fields in the two bytes behind pmtudisc."""
    if _has(kernel, "inet_sock", "inet_flags", (6, 6)):
        return (
            "unsigned long flags = 0;\n\n"
            "\tbpf_probe_read_kernel(&flags, sizeof(flags), &inet->inet_flags);\n"
            "\toptions = (flags >> 11 & 1) | (flags >> 15 & 1) << 1 | (flags >> 18 & 1) << 2;"
        )
    return (
        "u8 fields[2] = {};\n\n"
        "\tbpf_probe_read_kernel(fields, sizeof(fields), (u8 *)&inet->pmtudisc + 1);\n"
        "\toptions = BITS(fields[0], 2, 1) | BITS(fields[0], 5, 1) << 1 |\n"
        "\t\t  BITS(fields[1], 0, 1) << 2;"
    )


def REQUEST_DISK(kernel: Kernel) -> str:
    """The gendisk of a struct request, of which ``queue`` is the queue. Since Linux commit
    f3fa33acca9f (v5.17) only that has it, since commit d152c682f03c (v5.15); before, the
    request too."""
    if _has(kernel, "request", "rq_disk", (5, 17), before=True):
        return "READ(request, request, rq_disk)"
    return "READ(request_queue, queue, disk)"


def REQUEST_ARGUMENTS(kernel: Kernel) -> str:
    """The arguments of the raw tracepoints block_rq_issue and block_rq_requeue. Since
    Linux commit a54895fa057c (v5.11, and v5.10.y) without the queue in front."""
    arguments = kernel.btf.raw_tracepoint("block_rq_issue") if kernel.has_btf else None
    if arguments and len(arguments) > 1:
        return "struct request_queue *queue, struct request *request"
    return "struct request *request"


def COMPLETION_ARGUMENTS(kernel: Kernel) -> str:
    """The arguments of the raw tracepoint block_rq_complete. Since Linux commit
    8a7d267b4a2c (v5.16) the second is a blk_status_t; before, an errno."""
    arguments = kernel.btf.raw_tracepoint("block_rq_complete") if kernel.has_btf else None
    if arguments and len(arguments) > 1:
        status = arguments[1]
    else:
        status = "blk_status_t" if kernel.version >= (5, 16) else "int"
    return f"struct request *request, {status} status, unsigned int bytes"


def _has_io_start(kernel: Kernel) -> bool:
    """Since Linux commit 5a80bd075f3b (v6.5) a tracepoint says that a task's I/O has
    become a request, or that a stacked device makes one."""
    if kernel.has_btf:
        return kernel.btf.raw_tracepoint("block_io_start") is not None
    return kernel.version >= (6, 5)


def REQUEST_STARTS(kernel: Kernel) -> str:
    """The programs that run when a task's I/O becomes a request. Before there was
    block_io_start, there is the bio that gets a request: it is the request's first
    bio until one is merged in front of it, or until the request becomes the rear
    of another. Since Linux commit e8a676d61c07 (v5.11) those tracepoints have the
    bio only."""
    if _has_io_start(kernel):
        return (
            "RAW_TRACEPOINT(block_io_start, struct request *request)\n"
            "{\n\treturn starts((u64)request);\n}"
        )
    getrq = frontmerge = "struct bio *bio"
    arguments = kernel.btf.raw_tracepoint("block_getrq") if kernel.has_btf else None
    if len(arguments) > 1 if arguments else kernel.version < (5, 11):
        getrq = "struct request_queue *queue, struct bio *bio"
        frontmerge = "struct request_queue *queue, struct request *request, struct bio *bio"
    return (
        f"RAW_TRACEPOINT(block_getrq, {getrq})\n{{\n\treturn starts((u64)bio);\n}}\n\n"
        f"RAW_TRACEPOINT(block_bio_frontmerge, {frontmerge})\n"
        "{\n\treturn starts((u64)bio);\n}\n\n"
        f"RAW_TRACEPOINT(block_rq_merge, {REQUEST_ARGUMENTS(kernel)})\n"
        "{\n\tu64 origin = (u64)request->bio;\n\n\tflights.delete(&origin);\n\treturn 0;\n}"
    )


def REQUEST_ORIGIN(kernel: Kernel) -> str:
    """What REQUEST_STARTS knows a request by."""
    return "request" if _has_io_start(kernel) else "request->bio"


def _has_io_controller(kernel: Kernel) -> bool:
    """Whether the block layer knows cgroups (CONFIG_BLK_CGROUP). Since Linux commit 08e18eab0c57
    (v4.19) a bio has the state of its cgroup for its queue, blkcg_gq."""
    return _has(kernel, "bio", "bi_blkg", (4, 19))


def STRUCT_BLKCG_GQ(kernel: Kernel) -> str:
    """The head of struct blkcg_gq, under a name of its own: headers have had it only until Linux
    v5.18. It is unchanged from Linux v5.10 to v7.3 (block/blk-cgroup.h). A struct blkcg begins with
    its css."""
    if kernel.has_btf:
        return ""
    return (
        "struct blkcg_gq_head {\n"
        "\tstruct request_queue *q;\n"
        "\tstruct list_head q_node;\n"
        "\tstruct hlist_node blkcg_node;\n"
        "\tstruct cgroup_subsys_state *css;\n"
        "};"
    )


def REQUEST_IO_STATE(kernel: Kernel) -> str:
    """The state in the io controller of the cgroup to which a request's first bio belongs."""
    if not _has_io_controller(kernel):
        return "NULL"
    if not kernel.has_btf:
        return "((struct blkcg_gq_head *)request->bio->bi_blkg)->css"
    return "&request->bio->bi_blkg->blkcg->css"


def TASK_IO_STATE(kernel: Kernel) -> str:
    """The same of a task's own cgroup."""
    if _has_io_controller(kernel):
        return "*((struct cgroup_subsys_state **)&task->cgroups->subsys + io_cgrp_id)"
    return "NULL"


# What fsync(2) and fdatasync(2) call, or what they are themselves where the compiler made one
# function of both.
_FSYNC_CALLS = (
    "__x64_sys_fsync", "__x64_sys_fdatasync", "__ia32_sys_fsync", "__ia32_sys_fdatasync",
    "__arm64_sys_fsync", "__arm64_sys_fdatasync", "__s390x_sys_fsync", "__s390x_sys_fdatasync",
    "__riscv_sys_fsync", "__riscv_sys_fdatasync", "sys_fsync", "sys_fdatasync",
)  # fmt: skip


def FSYNC_CALLERS(kernel: Kernel) -> str:
    """Programs at the callers of vfs_fsync_range() that may hold a copy of it, as the compiler
    likes: v5.10's fdatasync(2) does, do_fsync() since v7.0, vfs_fsync() always."""
    names = ["vfs_fsync"]
    names += ["do_fsync"] if kernel.attachable("do_fsync") else _FSYNC_CALLS
    return "\n".join(
        f"FUNCTION({name})\n{{\n\treturn sync_begins();\n}}\n\n"
        f"FUNCTION_RETURN({name}, int result)\n{{\n\treturn sync_ends(result);\n}}\n"
        for name in names
        if kernel.attachable(name)
    )


# The page cache.


def _has_folios(kernel: Kernel) -> bool:
    """Since Linux commit 9dd3d069406c (v5.16) pages come into the cache as folios, which may be
    several pages each."""
    return kernel.attachable("filemap_add_folio") is not None


def _read_by_filemap(kernel: Kernel) -> bool:
    """Since Linux commit 87fa0f3eb267 (v5.12) generic_file_buffered_read() is filemap_read()."""
    return kernel.attachable("filemap_read") is not None


def BUFFERED_READ(kernel: Kernel) -> str:
    """The function that reads through the page cache, as FUNCTION_RETURN takes it."""
    if _read_by_filemap(kernel):
        return "filemap_read, ssize_t result, struct kiocb *iocb, long int already_read"
    return "generic_file_buffered_read, ssize_t result, struct kiocb *iocb, long int written"


def READ_BEFORE(kernel: Kernel) -> str:
    """The bytes in the result of BUFFERED_READ that were read before it was called."""
    return "already_read" if _read_by_filemap(kernel) else "written"


def PAGE_SHIFT(kernel: Kernel) -> str:
    """A page has so many bytes, as a power of two."""
    return str(os.sysconf("SC_PAGE_SIZE").bit_length() - 1)


def GFP_WRITE(kernel: Kernel) -> str:
    """The flag of an allocation for what is to be written: __GFP_WRITE. Since Linux commit
    772dd0342727 (v6.9) its bit is an enumerator; before, it was always this number."""
    bit = _enumerator(kernel, "___GFP_WRITE_BIT")
    return hex(0x1000 if bit is None else 1 << bit)


def FAULT_COUNTS(kernel: Kernel) -> str:
    """Whether the end of filemap_fault() is that of an access. A fault that had to wait for its
    page is tried again (VM_FAULT_RETRY), and most often filemap_map_pages() maps the page then.
    Where that does not tell (see CACHE_PROGRAMS), the first try counts, and not the second
    (FAULT_FLAG_TRIED of include/linux/mm.h)."""
    if _read_by_filemap(kernel):
        return "result & VM_FAULT_LOCKED"
    return "!(vmf->flags & 0x20) && result & (VM_FAULT_LOCKED | VM_FAULT_RETRY)"


_FOLIO_PAGES = """
static inline u64 folio_pages(struct folio *folio)
{
	u64 flags = 0, order = 0;

	bpf_probe_read_kernel(&flags, sizeof(flags), &folio->flags);
	/* Only a folio of several pages has an order. */
	if (!(flags >> %d & 1))
		return 1;
	bpf_probe_read_kernel(&order, 1, &folio->%s);
	return 1ULL << order;
}
"""

_ADDED_AND_DIRTIED = """
FUNCTION_RETURN(%s)
{
	return %s ? 0 : has_added(mapping, %s, %s);
}

RAW_TRACEPOINT(%s, %s, struct address_space *mapping)
{
	return has_dirtied(%s);
}
"""


def CACHE_PROGRAMS(kernel: Kernel) -> str:
    """The programs that run when pages come into the cache and when they become dirty; and, where
    they are, those for what maps pages around a page that is asked for, and for splice(2) and
    sendfile(2). The order of a folio is a member of its own until Linux commit ebc1baf5c9b4 (v6.6);
    since then it is the first byte of _flags_1. filemap_map_pages() tells whether it has
    mapped the page that is needed since commit f9ce0be71d1f (v5.12), so that before such a fault is
    not counted; filemap_splice_read() is there
    since commit 07073eb01c5f (v6.3), before which splice(2) reads as read(2) does."""
    if not _has_folios(kernel):
        return _ADDED_AND_DIRTIED % (
            "add_to_page_cache_lru, int error, struct address_space *mapping, "
            "unsigned int gfp_mask",
            "error", "1", "gfp_mask", "writeback_dirty_page", "struct page *page", "1",
        ) + (
            "\nFUNCTION(filemap_map_pages, struct vm_fault *vmf, long unsigned int start_pgoff, "
            "long unsigned int end_pgoff)\n{\n"
            "\treturn has_faulted(vmf, 0, end_pgoff - start_pgoff + 1);\n}\n"
        )  # fmt: skip
    head = _enumerator(kernel, "PG_head")
    own = _has(kernel, "folio", "_folio_order", (6, 6), before=True)
    text = _FOLIO_PAGES % (
        16 if head is None else head, "_folio_order" if own else "_flags_1"
    ) + _ADDED_AND_DIRTIED % (
        "filemap_add_folio, int error, struct address_space *mapping, struct folio *folio, "
        "unsigned int gfp",
        "error", "folio_pages(folio)", "gfp", "writeback_dirty_folio", "struct folio *folio",
        "folio_pages(folio)",
    )  # fmt: skip
    if _read_by_filemap(kernel):
        text += (
            "\nFUNCTION_RETURN(filemap_map_pages, vm_fault_t result, struct vm_fault *vmf, "
            "long unsigned int start_pgoff, long unsigned int end_pgoff)\n{\n"
            "\treturn result & VM_FAULT_NOPAGE ? "
            "has_faulted(vmf, 1, end_pgoff - start_pgoff) : 0;\n}\n"
        )
    if kernel.attachable("filemap_splice_read"):
        text += (
            "\nFUNCTION_RETURN(filemap_splice_read, ssize_t result, struct file *in, "
            "long long int *ppos)\n{\n\tu64 end = 0;\n\n"
            "\tbpf_probe_read_kernel(&end, sizeof(end), ppos);\n"
            "\treturn has_read(in, end, result);\n}\n"
        )
    return text


def resolve(name: str, kernel: Kernel) -> str | None:
    """The C text of the difference of that name; None if there is none."""
    if name == "resolve" or name not in __all__:
        return None
    text: str = globals()[name](kernel)
    return text


def WORK_ARGUMENTS(kernel: Kernel) -> str:
    """The arguments of the raw tracepoint at which an item is put into a workqueue. In Linux v6.1
    the first one is signed; it was not in v5.10."""
    arguments = kernel.btf.raw_tracepoint("workqueue_queue_work") if kernel.has_btf else None
    cpu = arguments[0] if arguments else "int"
    return f"{cpu} cpu, struct pool_workqueue *pool, struct work_struct *work"


def WORKQUEUE_NAME(kernel: Kernel) -> str:
    """The name of the workqueue that an item is put into: struct workqueue_struct is in no header
    of the kernel's."""
    if not kernel.has_btf:
        raise Failure(
            "the names of workqueues are known from type information (BTF) only, which this "
            "kernel lacks: -W and -w need them"
        )
    return "pool->wq->name"


def RECLAIM_ARGUMENTS(kernel: Kernel) -> str:
    """The arguments of the raw tracepoints at which direct reclaim begins. In Linux v7.3 the
    flags stand before the order; it was the other way round in v7.0."""
    name = "mm_vmscan_direct_reclaim_begin"
    arguments = kernel.btf.raw_tracepoint(name) if kernel.has_btf else None
    if arguments[0] != "int" if arguments else kernel.version >= (7, 1):
        return "unsigned int flags, int order"
    return "int order, unsigned int flags"


def NODE_ALLOCATIONS(kernel: Kernel) -> str:
    """The programs for allocations on a node of the memory, which had tracepoints of their own
    until Linux commits 11e9734bcb6a and 2c1d697fb8ba (v6.1)."""
    if kernel.has_btf:
        there = kernel.btf.raw_tracepoint("kmalloc_node") is not None
    else:
        there = kernel.version < (6, 1)
    return "\n".join(
        "TRACEPOINT(kmem, %s)\n{\n"
        "\treturn kernel_allocates(args, (u64)args->ptr, args->bytes_alloc);\n}\n" % name
        for name in ("kmalloc_node", "kmem_cache_alloc_node") * there
    )


_ALLOCATES = """
%s)
{
	return %s;
}
"""
_KMALLOC_NODE = """
RAW_TRACEPOINT(kmalloc_node, long unsigned int call_site, const void *ptr,
	       long unsigned int bytes_req, long unsigned int bytes_alloc)
{
	return ptr ? allocates_bytes(bytes_alloc) : 0;
}
"""


def SLAB_PROGRAMS(kernel: Kernel) -> str:
    """The programs that run when objects are allocated from a slab cache, and when kmalloc_node()
    is called. Since Linux commit 2c1d697fb8ba (v6.1) the tracepoint tells the cache; before, the
    functions do. The tracepoints of allocations on a node are gone since commit 11e9734bcb6a
    (v6.1). Those of many objects at a time have none."""
    if not kernel.has_btf:
        raise Failure(
            "slab caches (struct kmem_cache) are known from type information (BTF) only, "
            "which this kernel lacks"
        )
    function = "FUNCTION(%s, struct kmem_cache *s"
    many = "OPTIONAL " + function % "kmem_cache_alloc_bulk" + ", long unsigned int size"
    text = _ALLOCATES % (many, "allocates(s, size)") if kernel.has_kprobes else ""
    arguments = kernel.btf.raw_tracepoint("kmem_cache_alloc") or []
    if arguments[2:3] == ["struct kmem_cache *"]:
        traced = (
            "RAW_TRACEPOINT(kmem_cache_alloc, long unsigned int call_site, const void *ptr,\n"
            "\t       struct kmem_cache *s"
        )
        return text + _ALLOCATES % (traced, "ptr ? allocates(s, 1) : 0")
    for name in ("kmem_cache_alloc", "kmem_cache_alloc_node"):
        text += _ALLOCATES % (function % name, "allocates(s, 1)")
    return text + _KMALLOC_NODE


def MM_COUNTER(kernel: Kernel) -> str:
    """Where the number of pages of a kind (``kind``) of ``mm`` is: a pointer to an s64. Since Linux
    commit f1a7941243c1 (v6.2) it is a percpu_counter, and lacks what MM_CPU_PARTS has."""
    if _has(kernel, "mm_rss_stat", "count", (6, 2), before=True):
        return "&((atomic_long_t *)&mm->rss_stat + kind)->counter"
    return "&((struct percpu_counter *)&mm->rss_stat + kind)->count"


def MM_CPU_PARTS(kernel: Kernel) -> str:
    """A pointer to the pointer to what each CPU has to add to MM_COUNTER, an s32 (see there): up to
    32 pages, or twice as many as there are CPUs. 0 where it is whole."""
    if _has(kernel, "mm_rss_stat", "count", (6, 2), before=True):
        return "0"
    return "&((struct percpu_counter *)&mm->rss_stat + kind)->counters"
