/*
 * Opens through io_uring, for opensnoop. io_openat2() makes both kinds of them, in the thread that
 * asked for them or in one that works for it. It frees the name, which is therefore copied when it
 * is called; and it returns -EAGAIN where it would have to wait: it is called again then, by a
 * thread that may.
 */
#include <uapi/linux/io_uring.h>

#include "error_numbers.h"

#define MOST_URING_OPENS 512 /* threads at once: 2 MiB of names */
#define OPENAT2 28 /* IORING_OP_OPENAT2 */

$STRUCT_IO_OPEN
struct uring_open {
	struct open_request asked;
	u64 request;
	s32 result; /* once it is known before the function returns */
	u16 has_result;
	u16 in_slot; /* of the ring, which has no descriptor */
	char name[4096];
};
BPF_HASH(uring_opens, u64, struct uring_open, MOST_URING_OPENS);
BPF_ARRAY(new_uring_open, struct uring_open, 1);

OPTIONAL FUNCTION(io_openat2, struct io_kiocb *req)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct filename *filename;
	struct io_open io = {};
	struct uring_open *open;
	const char *name = NULL;
	u32 zero = 0;

	open = new_uring_open.lookup(&zero);
	if (!open || !wanted((struct task_struct *)bpf_get_current_task()))
		return 0;
	if (uring_opens.update(&thread, open))
		lost.increment(0);
	open = uring_opens.lookup(&thread);
	if (!open)
		return 0;
	bpf_probe_read_kernel(&io, sizeof(io), req);
	filename = io.$IO_OPEN_NAME;
	bpf_probe_read_kernel(&name, sizeof(name), &filename->name);
	bpf_probe_read_kernel_str(open->name, sizeof(open->name), name);
	open->request = (u64)req;
	open->in_slot = $IO_OPEN_SLOT != 0;
	open->asked.dirfd = io.dfd;
	/* The kernel has put that there, whether it was asked for or not. */
	open->asked.flags = io.how.flags & ~(u64)LARGEFILE;
	open->asked.mode = io.how.mode;
	open->asked.in_root = io.how.resolve & RESOLVE_IN_ROOT;
	return 0;
}

$IO_COMPLETION
OPTIONAL FUNCTION_RETURN(io_openat2, int result)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct uring_open *open = uring_opens.lookup(&thread);
	struct open_request asked = {};
	s32 value = 0;

	if (!open)
		return 0;
	if (result != -EAGAIN) {
		value = open->result;
		if (!open->has_result)
			bpf_probe_read_kernel(&value, sizeof(value),
					      (void *)open->request + $IO_RESULT_OFFSET);
		asked = open->asked;
		asked.name = open->name;
		asked.kernel_name = true;
		opened(ctx, URING_DRAFTS, IO_URING, &asked, value, open->in_slot);
	}
	uring_opens.delete(&thread);
	return 0;
}

/* One that never gets there, for its name or its struct open_how cannot be had. */
static inline int refused(void *ctx, u32 program, s64 result, const void *entry)
{
	struct { u64 flags, mode, resolve; } how = { .flags = UNKNOWN };
	struct open_request asked = {};
	struct io_uring_sqe sqe = {};

	if (result >= 0)
		return 0;
	bpf_probe_read_kernel(&sqe, sizeof(sqe), entry);
	if (sqe.opcode != OPENAT2) {
		how.flags = sqe.open_flags;
		how.mode = sqe.len;
	} else if (bpf_probe_read_user(&how, sizeof(how), (void *)sqe.addr2)) {
		how.flags = UNKNOWN;
	}
	asked.name = (void *)sqe.addr;
	asked.dirfd = sqe.fd;
	asked.flags = how.flags;
	asked.mode = how.mode;
	asked.in_root = how.resolve & RESOLVE_IN_ROOT;
	return opened(ctx, program, IO_URING, &asked, result, false);
}

$IO_OPEN_PREPARATIONS
