"""How the options and the output of the tools differ from those of the tools of the same name in
bcc and in libbpf-tools: one table.

From it follow the spellings of theirs that are accepted, though --help does not list them
(``accept``); what a message says of an option that is another one here (``hint``); and the section
COMPARED WITH BCC of the manual pages (man/generate.py). A command line that has options of ours
alone never reads it."""
from __future__ import annotations

import argparse

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.show.output import complain

if TYPE_CHECKING:
    from typing import Any, Mapping, Sequence

__all__ = ["ACCEPTED", "DIFFERENCES", "Difference", "IGNORED", "MOVED", "OUTPUT", "accept", "hint"]

# What becomes of an option of theirs: it is taken for ours, or for nothing where ours does the same
# without it; it is taken for nothing, and a line says so; it is refused, with a hint.
ACCEPTED, IGNORED, MOVED = "accepted", "ignored", "moved"
OUTPUT = "output"  # no option: what is printed differs
BCC, LIBBPF_TOOLS = "bcc", "libbpf-tools"


class Difference(NamedTuple):
    """``theirs`` is an option as the other tool spells it, with the name of its argument
    (``"-b, --buffer-pages PAGES"``), empty where it is about no option. ``ours`` is the option that
    stands for it, empty if none does. ``about`` is a whole sentence or more. ``how`` is one of the
    words above, ``of`` whose tool it is."""

    theirs: str
    ours: str = ""
    about: str = ""
    how: str = ACCEPTED
    of: str = BCC

    @property
    def names(self) -> list[str]:
        """The spellings.

        >>> Difference("-b, --buffer-pages PAGES").names
        ['-b', '--buffer-pages']
        """
        return [word.rstrip(",") for word in self.theirs.split() if word.startswith("-")]

    @property
    def argument(self) -> str:
        """The name of its argument, empty if it takes none.

        >>> Difference("-b, --buffer-pages PAGES").argument, Difference("--count").argument
        ('PAGES', '')
        """
        last = self.theirs.split()[-1]
        return "" if last.startswith("-") else last

    @property
    def whose(self) -> str:
        """Whose option it is, as in ``bcc's``."""
        return f"{self.of}'" if self.of.endswith("s") else f"{self.of}'s"


def _output(about: str, of: str = BCC) -> Difference:
    return Difference("", "", about, OUTPUT, of)


_CGROUP = Difference("-c CGROUP", "--cgroup", "", MOVED, LIBBPF_TOOLS)
_EXEC = Difference(
    "", "",
    "With --exec, the children of the command are traced as well, and the tool ends when all have "
    "ended. bcc's tool traces the process of the command alone.", OUTPUT,
)  # fmt: skip
_NO_LOADS = _output("The load averages are not shown above the table.")
_ROWS = Difference("--rows ROWS", "--maxrows", of=LIBBPF_TOOLS)
_WAKER = _output(
    "The waker is whoever makes the other able to run (sched_waking). bcc's tool takes "
    "whoever puts it on a run queue (sched_wakeup), which may be a task that another CPU "
    "interrupts for that."
)
_DEPTH = Difference(
    "--perf-max-stack-depth DEPTH", "", "A stack always has up to 127 functions.", IGNORED,
    LIBBPF_TOOLS,
)  # fmt: skip

# Of fsslower and fsdist by bcc's names for them.
_SLOWER = (
    Difference("-j", "--csv", "Its columns are ours."),
    _output("FILENAME is the whole path of the file. bcc's tool shows its last component."),
    _output(
        "BYTES is what was read or written. If an operation failed, it is the error in its place. "
        "OFF_KB is where the operation began, also if it appended to the file."
    ),
)
_DIST = (
    _output("Each histogram has a line more, with the type of the file system."),
    _output(
        "Operations that go on when their function has returned (AIO, io_uring) are counted apart. "
        "bcc's tool takes the time until then for theirs."
    ),
)
_TIMESTAMP = _output(
    "With --timestamp, TIME(s) counts from the start of the tool. bcc's tool counts from the first "
    "line."
)
_MAPPED = _output(
    "IP is 4 also for an IPv6 socket whose peer is an IPv4 address (::ffff:192.0.2.1), and "
    "--ipv4 shows it. bcc's tool takes it for IPv6."
)
_URING = _output(
    "bcc's tool also shows what the kernel itself accepts, as its NFS server does. Ours shows what "
    "processes accept, through io_uring as well."
)

DIFFERENCES: Mapping[str, Sequence[Difference]] = {
    "bashreadline": [
        _output(
            "Without --shared, bcc's tool traces /bin/bash alone. Ours traces every bash of the "
            "system and of its containers."
        ),
    ],
    "bindsnoop": [
        Difference("--port PORTS", "--only-lport"),
        Difference("--ports PORTS", "--only-lport", of=LIBBPF_TOOLS),
        Difference("-x, --failed", "--errors", of=LIBBPF_TOOLS),
        _CGROUP,
        _output(
            "ERROR has the name of the error, behind all other columns. bcc's tool has its number "
            "in the column RC, before PID. With -E, a bind that fails is shown with the address "
            "and the port that were asked for; bcc's tool shows those that the socket has."
        ),
        _output(
            "PROT has the names of all protocols, such as SCTP and MPTCP. bcc's tool has UNKNOWN "
            "for all but TCP and UDP."
        ),
        _output("bcc's tool also shows binds that the kernel makes for itself."),
    ],
    "biolatency": [
        Difference("--flag", "--flags", of=LIBBPF_TOOLS),
        _CGROUP,
        _output(
            "With --json, bcc's tool prints dictionaries of Python with val_type, data, "
            "interval-start and interval-end. Ours prints JSON with unit, buckets, lo and hi."
        ),
        _output(
            "With --flags, bcc's tool has names of its own for the flags, such as Sync-Write and "
            "ReadAhead-Read. Ours has the kernel's, such as write|sync and read|rahead."
        ),
    ],
    "biolatpcts": [
        _output(
            "With --json, bcc's tool prints a dictionary of seconds. Ours prints a line for each "
            "operation, with nanoseconds."
        ),
        _output(
            "The times are the tool's own, so -w from-rq-alloc counts on every disk. bcc's tool "
            "reads the kernel's, which has that one only where blk-iocost is in use."
        ),
        _output(
            "A latency is known to 1/32. bcc's tool counts up to 1 ms in steps of 10 us, up to 100 "
            "ms in steps of 1 ms, and above in steps of 100 ms."
        ),
        _output("With --interval 0, our tool prints a table before it ends."),
    ],
    "biopattern": [
        Difference(
            "-T, --timestamp", "", "The time is always shown.", IGNORED, LIBBPF_TOOLS,
        ),
        _output(
            "Requests are compared in the order in which the driver gets them. bcc's tool compares "
            "them in the order in which they end, so that several at a time look random."
        ),
        _output(
            "The first request of an interval is compared with the last one of the interval "
            "before. bcc's tool leaves it out, with its bytes."
        ),
        _output("A flush of the disk's cache is no I/O of the table."),
    ],
    "biosnoop": [
        Difference("-t", "--timestamp", "", MOVED, LIBBPF_TOOLS),
        Difference("--queued", "--queue", of=LIBBPF_TOOLS),
        _CGROUP,
        _output(
            "TIME(s) counts from the start of the tool. bcc's tool counts from the first request."
        ),
        _output("LAT(ms) and QUE(ms) have three digits behind the point. bcc's tool prints two."),
        _output("PID and COMM are not known (-) for a flush of the disk's cache."),
        _output(
            "The milliseconds of --min may have a fraction, as in 0.5.", LIBBPF_TOOLS,
        ),
    ],
    "biotop": [
        _ROWS,
        _output(
            "The order is by bytes, I/O or time. libbpf-tools' tool has all, the sum of them, too.",
            LIBBPF_TOOLS,
        ),
        _output(
            "What a kernel thread writes back for a cgroup has a row of that cgroup. bcc's tool "
            "has the thread in it."
        ),
        _output("QUEms is the time that requests waited before their driver got them."),
        _output("D has letters for flushes, discards and others. bcc's tool has R for them."),
        _NO_LOADS,
    ],
    "bitesize": [
        Difference("-c COMM", "--comm", of=LIBBPF_TOOLS),
        _output(
            "A histogram is that of the process that made the requests, and of one operation. "
            "bcc's tool has the task that passed them to the driver, and all operations in one."
        ),
        _output("Flushes, which have no size, are not counted. bcc's tool counts them as 0."),
    ],
    "bpflist": [
        Difference("--verbosity", "--verbose"),
        _output(
            "COUNT also has what a process keeps without a descriptor of it: the programs of its "
            "links and perf events, and the maps of its programs. bcc's tool counts descriptors, "
            "and none of links. What no process keeps is listed, too. MEMORY is a column more."
        ),
        _output(
            "With -v, each program, map and link has a line, with what it is attached to: also "
            "kprobes and uprobes. bcc's tool counts those that have a name of bcc's in tracefs; "
            "with -vv, which is the same as -v here, it prints the lines of tracefs."
        ),
    ],
    "cachestat": [
        _output(
            "A hit or a miss is a page that a read or a page fault asks for. bcc's tool subtracts "
            "calls of functions from each other: writes and pages that are read ahead change its "
            "numbers, and with large folios (since Linux 6.16 on ext4) it counts a small part of "
            "the pages."
        ),
        _output("DIRTIES counts all pages that become dirty. bcc's tool counts buffers."),
    ],
    "cachetop": [
        _output(
            "A hit or a miss is a page that a read or a page fault asks for, and WRITE_HIT% is of "
            "the pages that become dirty, as in cachestat(8). bcc's tool has one sum of accesses "
            "for reads and writes, and its two percentages are parts of that."
        ),
        _output(
            "The table is printed anew, also into a pipe. The keys of bcc's tool (<, >, r and q) "
            "are --sort and Ctrl-C here. The time, the order and the sizes of the cache are not "
            "shown above the table; cachestat(8) has the sizes."
        ),
    ],
    "capable": [
        Difference("--extra-fields", "--extra", of=LIBBPF_TOOLS),
        _CGROUP,
        _DEPTH,
        Difference(
            "--stack-storage-size SIZE", "", "Each event has its stacks with it.", IGNORED,
            LIBBPF_TOOLS,
        ),
        _output(
            "VERDICT is a column more, behind those of bcc's tool. It is the answer of all "
            "security modules, not of cap_capable() alone."
        ),
        _output(
            "Here, -u is a user, as in the other tools. In libbpf-tools it is --unique, which "
            "needs pid or cgroup there.", LIBBPF_TOOLS,
        ),
        _output(
            "Below a check stand the functions that led to it, without those that make it and "
            "without offsets, and [unknown] for what has no name."
        ),
        _output("With --verbose, ours also says on standard error what is compiled and attached."),
    ],
    "cpudist": [
        _CGROUP,
        _output(
            "A stretch that lasts longer than an interval is counted in parts, one in each "
            "interval. bcc's tool counts it once, when it ends."
        ),
        _output("-e adds percentiles to the average, the total and the count of bcc's tool."),
    ],
    "dcstat": [
        _output(
            "MISS counts the names that a file system was asked for. bcc's tool counts those that "
            "d_lookup() has not found, which most look-ups do not pass any more."
        ),
        _output("HIT% is 0.00 where nothing was looked up. bcc's tool prints -%."),
    ],
    "dirtop": [
        _output(
            "R_Kb and W_Kb are what was read and written. bcc's tool adds up what was asked for, "
            "which is more where a read meets the end of the file."
        ),
        _output(
            "There may be 16,384 directories, of which the innermost counts. In bcc's tool there "
            "may be 15, of which the outermost counts; it also counts for any other directory "
            "whose inode has the same number on another file system."
        ),
        _NO_LOADS,
    ],
    "drsnoop": [
        Difference("-P PID", "--pid", "bcc's examples have it, though its tool refuses it."),
        Difference(
            "-e, --extended", "--verbose", "FREE(KB) stands for all that it shows.", ACCEPTED,
            LIBBPF_TOOLS,
        ),
        _output(
            "bcc's tool does not show reclaim of a cgroup that is at its limit. ORDER and SCOPE "
            "are columns more, behind those of bcc's tool."
        ),
        _output(
            "TIME(s) counts from the start of the tool. bcc's tool counts from the first line."
        ),
        _output(
            "With --verbose, ours also says on standard error what is compiled and attached."
        ),
    ],
    "execsnoop": [
        Difference("--print-pcomm", "--parent-comm"),
        _CGROUP,
        _output(
            "Ours shows all arguments, unless --max-args limits them. bcc's tool shows 20 if "
            "--max-args does not say more, and 128 bytes of each. It always shows the program's "
            "file in place of the first argument."
        ),
        _output(
            "With --timestamp, TIME(s) has nine digits behind the point. bcc's tool prints three."
        ),
        _output("In libbpf-tools, --name and --line are text and no regular expressions."),
    ],
    "exitsnoop": [
        Difference("--timespec", "", "Ours finds the time in the kernel's own types."),
        Difference("-T, --threaded", "--per-thread", of=LIBBPF_TOOLS),
        _CGROUP,
        _output(
            "A line is printed when the last thread of a process ends, with what wait(2) tells. "
            "bcc's tool prints it when the first thread ends, with the code of that thread."
        ),
        _output(
            "With --per-thread, PCOMM is the name of the process, and JSON has that of the thread. "
            "bcc's tool has the name of the thread there."
        ),
        _output(
            "The heading of the time is TIME or TIME-UTC, and it has microseconds. bcc's tool has "
            "the time zone in the heading, and milliseconds."
        ),
        _output("With --pid, bcc's tool ends with the process. Ours goes on."),
    ],
    "f2fsslower": (Difference("-s", "--csv", "Its columns are ours."), *_SLOWER[1:]),
    "filelife": [
        _output("SIZE is a column more. It stands behind those of bcc's tool."),
        _output(
            "With --full-path, the path begins at the root directory of the process, and crosses "
            "mounts. Theirs begins at the root of the file system.", LIBBPF_TOOLS,
        ),
    ],
    "fileslower": [
        _output(
            "Reads and writes of several buffers (readv, writev) are shown. bcc's tool misses them."
        ),
        _output("FILENAME is the whole path of the file. bcc's tool shows its last component."),
        _output("BYTES is what was read or written. bcc's tool shows what was asked for."),
    ],
    "filetop": [
        Difference("--all", "--all-files", of=LIBBPF_TOOLS),
        _ROWS,
        _output(
            "R_Kb and W_Kb are what was read and written. bcc's tool adds up what was asked for, "
            "which is more where a read meets the end of the file."
        ),
        _output("FILE is the whole path of the file. bcc's tool shows its last component."),
        _NO_LOADS,
    ],
    "fsdist": [*_DIST[1:]],
    "fsslower": [
        Difference("-c", "--csv", "Its columns are ours.", of=LIBBPF_TOOLS),
        *_SLOWER[1:],
        _output(
            "Without --type, all file systems that are known are traced. libbpf-tools' fsslower "
            "needs it.", LIBBPF_TOOLS,
        ),
    ],
    "funccount": [
        Difference(
            "-D, --debug", "--ebpf", "It prints the program and ends; bcc's tool goes on.", MOVED
        ),
        _output("Several patterns may be given. bcc's tool takes one."),
    ],
    "funclatency": [
        _CGROUP,
        _output(
            "Each call counts, up to 64 of a thread that are nested in each other. Without "
            "--level, bcc's tool counts the innermost alone, and takes the time of one function "
            "for that of another that it calls."
        ),
        _output("Average and total are printed with --summary, and so are percentiles."),
        _output(
            "A function of a process's own program has the name or the path of the program before "
            "it, also with --pid. In libbpf-tools, it may have a colon alone.", LIBBPF_TOOLS,
        ),
        _output(
            "With --function, the histograms of all processes are one. bcc's tool prints one for "
            "each process if the function is a program's; ours does with --pids."
        ),
        _output("Several patterns may be given. bcc's tool takes one."),
    ],
    "funcslower": [
        _output(
            "A function may be a pattern with * and ?, and there may be any number of them. bcc's "
            "tool takes six."
        ),
        _output(
            "Each call counts, also of functions that call each other. bcc's tool follows the "
            "innermost alone."
        ),
        _output(
            "With --timestamp, times count from the start of the tool. bcc's tool counts from the "
            "first event."
        ),
        _output(
            "With --kernel-stack, a call of a program's function has no stack of the kernel. bcc's "
            "tool prints that of the trap."
        ),
    ],
    "futexctn": [
        _DEPTH,
        _output(
            "How a wait ended and what was asked for tell histograms apart. libbpf-tools' tool has "
            "waits that timed out or were interrupted among the others, and those of futex_waitv "
            "and futex_wait not at all.", LIBBPF_TOOLS,
        ),
        _output(
            "With -s, a table is printed. libbpf-tools' tool prints histograms without stacks.",
            LIBBPF_TOOLS,
        ),
        _output(
            "The number behind the name is that of the process. libbpf-tools' tool prints the "
            "thread's, and tells threads apart.", LIBBPF_TOOLS,
        ),
    ],
    "gethostlatency": [
        Difference(
            "-l, --libc FILE", "", "The C libraries of all processes are traced without it.",
            MOVED, LIBBPF_TOOLS,
        ),
        _output("ERROR is a column more. It stands behind those of bcc's tool."),
        _output("The heading LAT(ms) is LATms in bcc's tool."),
    ],
    "hardirqs": [
        Difference("--distributed", "--dist", of=LIBBPF_TOOLS),
        Difference("-s CPU", "--cpu", "", MOVED, LIBBPF_TOOLS),
        Difference("--CPU", "--cpus", of=LIBBPF_TOOLS),
        _output(
            "IRQ, COUNT and the maximum are columns more, behind those of bcc's tool."
        ),
        _output(
            "A handler that had nothing to do on a line that devices share is counted in a row of "
            "its own. bcc's tool does not count it."
        ),
        _output(
            "Here, -C counts interrupts and -c is a CPU, as in bcc's tool. In libbpf-tools, -C "
            "separates the CPUs, which is --cpus, and -c is a cgroup.", LIBBPF_TOOLS,
        ),
    ],
    "killsnoop": [
        _output(
            "bcc's tool shows calls of kill(2) alone. Ours shows tkill(2), tgkill(2), "
            "rt_sigqueueinfo(2), rt_tgsigqueueinfo(2) and pidfd_send_signal(2), too; CALL says "
            "which one it was."
        ),
    ],
    "klockstat": [
        Difference("-R, --reset", "", "Each table is about its interval alone.", of=LIBBPF_TOOLS),
        _output(
            "The waits for all locks of the kernel are shown, and none where the lock was free. "
            "bcc's tool measures each mutex_lock(), also where nobody waits."
        ),
        _output(
            "How long a lock is held is not measured: there is no second table. --sort takes the "
            "fields of that table, and sorts by the others."
        ),
        _output(
            "Callers that are the same in all functions shown are one row. bcc's tool has a row "
            "for each stack. Type and Lock are columns more."
        ),
        _output(
            "Times are nanoseconds. libbpf-tools has units behind them, and the columns in "
            "another order.", LIBBPF_TOOLS,
        ),
    ],
    "memleak": [
        Difference(
            "-F, --wa-missing-free", "", "What is allocated anew was freed before, in any case.",
        ),
        _DEPTH,
        _output(
            "A call that fails changes nothing, an allocator's call of another of its functions is "
            "a part of it, and what a process had when it executes another program is forgotten. "
            "bcc's tool forgets what realloc(3) was given if that fails, and knows a large "
            "malloc(3) by its mmap(2)."
        ),
        _output(
            "Ours traces each allocator that the process has mapped, and those of the program "
            "itself. bcc's tool traces one library, --obj."
        ),
        _output(
            "A last table is printed at the end. Of a process that has ended, it has what was "
            "never freed, whatever its age."
        ),
        _output(
            "With --exec and --command, the children are traced as well, and the tool ends when "
            "all have ended. bcc's tool traces the process of the command alone."
        ),
        _output(
            "With --trace, each call is a line with columns. bcc's tool prints what "
            "bpf_trace_printk() says."
        ),
        _output(
            "With --show-allocs, the addresses stand above their stack, and those of the stacks "
            "are shown that --top leaves."
        ),
        _output("--sample-rate chooses by chance. bcc's tool chooses by the clock's last digits."),
    ],
    "mountsnoop": [
        Difference("--parent_process", "--parent-process"),
        Difference(
            "--detailed", "", "A line always has the whole call. -d is --duration here.", IGNORED,
            LIBBPF_TOOLS,
        ),
        _output("A null pointer among the arguments is NULL. bcc's tool prints an empty text."),
        _output(
            "open_tree(2), fspick(2) and mount_setattr(2) are shown as well. Texts are as long as "
            "they are."
        ),
    ],
    "nfsslower": (
        *_SLOWER,
        _output("Commits (C) are not shown. A commit is a part of the fsync that waits for it."),
    ),
    "offcputime": [
        _DEPTH,
        _output(
            "Behind the thread, text names the state in which it waited. Folded lines do so with "
            "--states only. bcc's tool names none."
        ),
    ],
    "offwaketime": [
        _WAKER,
        _output(
            "If an interrupt ends a wait, it is named in the place of the waker, as in [hard "
            "interrupt]. bcc's tool names the task that was interrupted."
        ),
        _output(
            "The stack that waits is the one with which the thread left its CPU. Where bcc's tool "
            "uses raw tracepoints (since November 2025), it takes the name and the stack of the "
            "task that is switched out when the thread runs again."
        ),
        _output(
            "Behind the thread, text names the state in which it waited. Folded lines do so with "
            "--states only. bcc's tool names none."
        ),
        _output(
            "What is still waiting at the end is shown, without a waker. bcc's tool leaves it out."
        ),
    ],
    "oomkill": [
        _output(
            "bcc's tool prints a sentence, with the load averages and the stack of the process "
            "that needed memory. Ours has columns, and the load averages on wide terminals and "
            "for programs."
        ),
        _output(
            "bcc's tool shows one line if a cgroup is killed as a group. Ours shows each process."
        ),
    ],
    "opensnoop": [
        Difference("--extended_fields", "--extended-fields"),
        Difference("--flag_filter FLAG", "--flag-filter"),
        Difference(
            "-b, --buffer-pages PAGES", "", "The ring buffer has a fixed size of 8 MiB.", IGNORED
        ),
        _output(
            "With --extended-fields, FLAGS are names, and a MODE that is not known is -. bcc's "
            "tool prints the flags as an octal number, and n/a. JSON has the names and the number."
        ),
        _EXEC,
        _output(
            "With --callers, all callers are shown, up to 32. Theirs shows two, without the "
            "function that makes the system call, and the lines of their sources.", LIBBPF_TOOLS,
        ),
    ],
    "profile": [
        _DEPTH,
        _output(
            "As in bcc's tool, cycles are counted where the CPUs count them, else nanoseconds. "
            "Ours says so if --count is given and no CPU does."
        ),
    ],
    "runqlat": [
        _CGROUP,
        _output(
            "A task that was preempted on its way to sleep is counted. bcc's tool misses it: it "
            "counts a preempted task only if its state is still running."
        ),
    ],
    "runqlen": [
        Difference(
            "-H, --host", "", "Ours always reports the queue of the CPU.", ACCEPTED, LIBBPF_TOOLS
        ),
        _output(
            "Without --cfs, the length is that of the queue of the CPU. bcc's tool reports that of "
            "the queue of the running task's cgroup."
        ),
    ],
    "runqslower": [
        Difference(
            "-c COMM", "--comm", "Theirs is the beginning of a name.", MOVED, LIBBPF_TOOLS
        ),
    ],
    "sigsnoop": [
        Difference("--name", "--names", of=LIBBPF_TOOLS),
        _output(
            "RESULT says in a word what became of the signal. libbpf-tools has the number "
            "si_errno there, which is nearly always 0; --failed asks for that.", LIBBPF_TOOLS,
        ),
        _output(
            "CAUSE is a column more. With --kill, there is no TCOMM, and CALL is a column more.",
            LIBBPF_TOOLS,
        ),
    ],
    "slabratetop": [
        _ROWS,
        _output(
            "Objects that are allocated on a node or many at a time, and those of kmalloc(), are "
            "counted. bcc's tool and libbpf-tools' miss them; bcc's refuses Linux 6.8 and newer."
        ),
        _NO_LOADS,
    ],
    "softirqs": [
        Difference("--distributed", "--dist", of=LIBBPF_TOOLS),
        Difference("--count", "--events", of=LIBBPF_TOOLS),
        _output("COUNT and the maximum are columns more, behind those of bcc's tool."),
    ],
    "solisten": [
        _output(
            "PROTO has all protocols whose sockets listen, such as SCTPv4 and MPTCPv6. bcc's tool "
            "has TCPv4 and TCPv6 for all of them. ERROR is a column more."
        ),
        _output(
            "NETNS is the name of the namespace, if it has one. bcc's tool has its number, which "
            "-n takes as well."
        ),
        _output(
            "A line is printed when listen(2) has returned, with the port that the kernel chose. "
            "bcc's tool prints it before, and has 0 then. It also shows the kernel's own listens."
        ),
        _output(
            "The result of listen(2) is shown as ERROR, by its name, and behind the other columns.",
            LIBBPF_TOOLS,
        ),
    ],
    "stackcount": [
        Difference(
            "--debug", "--ebpf", "It prints the program and ends; bcc's tool goes on.", MOVED
        ),
        _output("With --verbose, bcc's tool prints the addresses. Ours does with --address."),
        _output(
            "Processes are told apart without --perpid if user stacks are shown: their functions "
            "have names only then."
        ),
        _output(
            "The direct caller of a program's function is always there. Before Linux v6.11, bcc's "
            "tool misses it."
        ),
        _output("Several patterns may be given. bcc's tool takes one."),
    ],
    "statsnoop": [
        _output(
            "PATH is that of the open file where a call has a file descriptor and no name. bcc's "
            "tool prints nothing there."
        ),
        _output("With --timestamp, TIME(s) counts from the start of the tool."),
    ],
    "syncsnoop": [
        _output(
            "A line is printed when the call has ended. bcc's tool prints it when the call begins. "
            "PID, LAT(ms), ERROR and FILE are columns more."
        ),
        _output(
            "TIME(s) counts from the start of the tool. bcc's tool counts from the start of the "
            "machine."
        ),
    ],
    "syscount": [
        _output(
            "Calls are counted when they begin, unless --latency, --failures, --errno or --errors "
            "is given. bcc's tool always counts them when they end, and takes the numbers of "
            "32-bit calls for those of 64-bit ones."
        ),
        _output(
            "bcc's tool prints the time above each table. Ours does so with --timestamp."
        ),
        _output(
            "The headings of times are TIME(us), AVG(us) and MAX(us), or those with ms. bcc's tool "
            "has TIME (us), with a space, and neither of the others."
        ),
        _EXEC,
        _output(
            "Here, -c is the parent process, as in bcc's tool. In libbpf-tools it is a cgroup: "
            "that is --cgroup.", LIBBPF_TOOLS,
        ),
    ],
    "tcpaccept": [
        Difference("--port PORTS", "--only-lport"),
        _output(
            "WAIT(ms) and ERROR are columns more, behind those of bcc's tool. Connections that "
            "nobody has accepted when their listener is closed are lines more: they have an ERROR "
            "and no process."
        ),
        _TIMESTAMP,
        _MAPPED,
        _URING,
    ],
    "tcpconnect": [
        Difference("-C MAPPATH", "--cgroupmap", of=LIBBPF_TOOLS),
        Difference("-M MAPPATH", "--mntnsmap", of=LIBBPF_TOOLS),
        Difference("--port PORTS", "--only-rport"),
        Difference("--count", "--counts"),
        Difference(
            "-s, --source-port", "--lport",
            "It shows the local port of each connect; a table of --counts does not have it.",
            MOVED, LIBBPF_TOOLS,
        ),
        _output(
            "A line is printed when the outcome of the attempt is known. bcc's tool prints it when "
            "the attempt begins, and says nothing of the outcome."
        ),
        _output(
            "With --counts, the columns are SADDR, DADDR, DPORT, NETNS, CONNECTS and FAILED. bcc's "
            "tool has LADDR, RADDR, RPORT and CONNECTS."
        ),
    ],
    "tcpconnlat": [
        _output(
            "ERROR is a column more, behind those of bcc's tool: attempts that fail are lines, "
            "with the time until they failed. bcc's tool shows a connection that is refused as one "
            "that was opened, and no other failure."
        ),
        _output(
            "The time ends when the kernel has opened the connection, and starts with the SYN, "
            "also where that waits for data (TCP Fast Open)."
        ),
        _TIMESTAMP,
        _MAPPED,
    ],
    "tcpdrop": [
        Difference("--netns-id NUMBER", "--netns"),
        Difference("--pid-netns PID", "--netns"),
        _output(
            "PID is a process that has the packet's socket open. bcc's tool has the task that ran "
            "on the CPU when the packet was dropped, which has most often nothing to do with it."
        ),
        _output(
            "A packet is shown if the kernel gives a reason for the drop; -a shows the others as "
            "well. The first line below a packet has the reason, the place and the flags, and the "
            "stack does not show the functions of the tracing itself."
        ),
    ],
    "tcplife": [
        Difference("-s", "--csv", "Its columns are ours."),
        Difference("--localport PORTS", "--only-lport"),
        Difference("--remoteport PORTS", "--only-rport"),
        _output(
            "With --timestamp, TIME(s) counts from the start of the tool. bcc's tool counts from "
            "the first session."
        ),
        _output(
            "B is a column more. It stands behind those of bcc's tool, which does not show "
            "sessions that were open before it, or counts them from its own start."
        ),
    ],
    "tcpretrans": [
        Difference("--count", "--counts"),
        _output(
            "PID is a process that has the socket open. bcc's tool has the task that ran on the "
            "CPU when the segment was sent, most often none."
        ),
        _output(
            "T> has more letters: T is a timeout, S a SYN and A the answer to a SYN, which bcc's "
            "tool shows as R, and the last one not at all. L is a tail loss probe, which bcc's "
            "tool shows as R. Its L is each attempt to send one, and ours with -l are those that "
            "were sent."
        ),
        _output(
            "With --counts, NETNS, SEGMENTS and PROBES are columns more. One retransmission may be "
            "of several segments."
        ),
    ],
    "tcprtt": [
        Difference("--lport PORT", "--only-lport"),
        Difference("--rport PORT", "--only-rport"),
        Difference("--laddr ADDRESS", "--only-laddr"),
        Difference("--raddr ADDRESS", "--only-raddr"),
        Difference("--millisecond", "--milliseconds", of=LIBBPF_TOOLS),
        Difference(
            "-D, --debug", "--ebpf", "It prints the program and ends; bcc's tool goes on.", MOVED
        ),
        _output(
            "-p and -P take several ports. -4 includes IPv6 sockets whose peer is an IPv4 address, "
            "and -a, -A, -b and -B know such an address by its IPv4 form."
        ),
        _output(
            "With --extension, the total, the maximum and percentiles are shown beside the average."
        ),
        _output(
            "Without -b and -B there is no line All Addresses above the histogram. With them, the "
            "line is laddr = ADDRESS or raddr = ADDRESS, for IPv6, too."
        ),
    ],
    "tcpstates": [
        Difference("-s", "--csv", "Its columns are ours."),
        Difference("--localport PORTS", "--only-lport"),
        Difference("--remoteport PORTS", "--only-rport"),
        Difference(
            "-Y, --journal", "",
            "Nothing is logged to the journal. systemd-cat(1) logs what a program prints, as "
            "--json does.", IGNORED,
        ),
        _output(
            "C-PID and C-COMM are the process that the socket belongs to. bcc's tool shows the "
            "task that ran when the state changed. If a packet changed it, that may be any task."
        ),
        _output(
            "MS is not known where bcc's tool shows 0.000: of a socket that had no state before, "
            "or got it before the tool started."
        ),
        _output(
            "The change from LISTEN to SYN_RECV has its addresses, and the filters by port find "
            "it. In bcc's tool it does not have those of the peer yet."
        ),
        _output(
            "bcc's tool also shows sockets that get the state which they have, as FIN_WAIT1 when a "
            "socket that was shut down is closed."
        ),
        _TIMESTAMP,
        _MAPPED,
    ],
    "tcptop": [
        _CGROUP,
        _ROWS,
        Difference("-S, --nosummary", "", "There is no line of load averages above the table."),
        _output(
            "The bytes are those that went over the session, and no byte counts twice. bcc's tool "
            "counts what programs hand to the kernel and take from it, and what they only look at "
            "(MSG_PEEK) again."
        ),
        _output(
            "A session is a row of the process that connected or accepted it, or that has it now. "
            "bcc's tool has a row for each process that sends or receives."
        ),
        _output(
            "IPv6 is in the same table. bcc's tool has a second one, whose addresses are wider."
        ),
    ],
    "tcptracer": [
        Difference("-N NETNS", "--netns"),
        Difference("-C MAPPATH", "--cgroupmap", of=LIBBPF_TOOLS),
        Difference("-M MAPPATH", "--mntnsmap", of=LIBBPF_TOOLS),
        _output(
            "With --verbose, ours says what is compiled and attached. bcc's tool shows the network "
            "namespace, which is --print-netns here, and a word in place of T."
        ),
        _output(
            "X is the end of a session: its process closes it or shuts down its sending side, or "
            "it is reset. The process is the one that opened or accepted it. bcc's tool prints X "
            "when any process has closed the socket, and shows that process."
        ),
        _output("IPv6 addresses have no brackets."),
        _TIMESTAMP,
        _MAPPED,
        _URING,
    ],
    "tplist": [
        Difference("--lib FILE", "--library"),
        _output(
            "Each name has its kind and a colon before it (tracepoint:, usdt:), and functions and "
            "raw tracepoints are listed as well. A pattern such as tracepoint:* chooses one kind."
        ),
        _output(
            "With -vv, bcc's tool shows every place of a USDT probe. Ours shows the first place."
        ),
    ],
    "trace": [
        Difference("-b, --buffer-pages PAGES", "", "The ring buffer has a fixed size.", IGNORED),
        Difference("-B, --bin_cmp", "", "STRCMP compares up to the first NUL."),
        Difference("-I, --include HEADER", "", "Types are the kernel's own, from its BTF."),
        Difference("-s, --sym_file_list FILES", "", "Symbols are found without."),
        Difference("-a, --address", "", "Stacks have no addresses.", IGNORED),
        Difference("-c, --cgroup-path PATH", "--cgroup"),
        _output(
            "The name of a system call's function (sys_read, SyS_read, __x64_sys_read) stands for "
            "the tracepoint of that call, on every kernel and processor. arg1, arg2, ... are then "
            "what the program passes. bcc's tool looks for a function of that name."
        ),
        _output(
            "With -A, each line begins with the count, the greatest first. bcc's tool prints it "
            "behind -->COUNT."
        ),
        _output("COMM is the name of the process. bcc's tool has the thread's, which JSON has."),
        _output("With -v, the program is not printed; --ebpf prints it."),
    ],
    "vfsstat": [
        _output("UNLINK/s, MKDIR/s and RMDIR/s are columns more, behind those of bcc's tool."),
        _output(
            "CREATE/s counts the files that open(2) creates. bcc's tool counts calls of "
            "vfs_create(), which open(2) does not make: it shows 0 where files are created all the "
            "time."
        ),
    ],
    "wakeuptime": [
        Difference("--useronly", "--user-threads-only"),
        _DEPTH,
        _WAKER,
        _output(
            "If an interrupt ends a sleep, it is named in the place of the waker, as in [hard "
            "interrupt]. bcc's tool names the task that was interrupted."
        ),
        _output(
            "The functions of the waker's process are shown below those of the kernel. bcc's tool "
            "shows the kernel's alone, as -K does."
        ),
        _output(
            "Processes of the same name are told apart, and their numbers are shown. bcc's tool "
            "adds them up."
        ),
        _output(
            "Addresses are shown with --address. bcc's tool always shows them. With --verbose, "
            "ours says what is compiled and attached."
        ),
    ],
    "wqlat": [
        _output(
            "With -w, names have up to 31 bytes, as in Linux 6.12, and a * at the end of NAME "
            "stands for any more of it. bcc's tool takes 23 bytes, and cuts longer names off."
        ),
        _output("bcc's tool does not compile on Linux 5.10."),
    ],
    **dict.fromkeys(("ext4slower", "xfsslower", "btrfsslower", "zfsslower"), _SLOWER),
}  # fmt: skip


class _Nothing(argparse.Action):
    """An option of theirs for which nothing is done; ``help`` is what is said of it, if anything
    is."""

    def __call__(self, parser: Any, namespace: Any, value: Any, option: str | None = None) -> None:
        if self.help:
            complain(f"{parser.prog}: {option} is ignored. {self.help}")


def accept(parser: Any) -> bool:
    """Have the parser of a tool take the spellings of the other tools, without help for them.
    False if there is none."""
    known = parser._option_string_actions
    for each in DIFFERENCES.get(parser.prog, ()):
        if each.how not in (ACCEPTED, IGNORED):
            continue
        action = known[each.ours] if each.ours else _Nothing(
            each.names, argparse.SUPPRESS, nargs=None if each.argument else 0,
            help=each.about if each.how == IGNORED else None,
        )  # fmt: skip
        for name in each.names:
            known.setdefault(name, action)
    return parser.prog in DIFFERENCES


def hint(tool: str, option: str) -> str | None:
    """What stands here for an option that a tool does not have, as the rest of a sentence; None if
    no other tool of that name has it.

    >>> hint("runqlat", "-c")
    "libbpf-tools' -c CGROUP is --cgroup here"
    """
    for each in DIFFERENCES.get(tool, ()):
        if each.how == MOVED and option in each.names:
            theirs = f"{each.whose} {option} {each.argument}".rstrip()
            return f"{theirs} is {each.ours} here" if each.ours else f"{theirs} is not needed here"
    return None
