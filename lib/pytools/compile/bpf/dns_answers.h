/*
 * The answers that processes receive from name servers, as events between the tool's own: those
 * with a size in "answered". The kernel's functions would tell of them as well, but not every
 * kernel lets programs attach to them. Before this stand wanted(task), socket_owner.h, syscall.h,
 * verifier.h and struct event, with the members owner, answered and, as the last one, answer.
 */
#define ANSWER_BYTES sizeof(((struct event *)0)->answer) /* a power of two */

static inline int received(u32 fd, u64 buffer, s64 size)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	u16 header[4], protocol = 0; /* id, flags, questions, answers */
	struct event *event;
	struct ends ends;
	struct sock *sk;

	if (size < 32 || !wanted(task))
		return 0;
	sk = socket_of(fd);
	if (!sk)
		return 0;
	bpf_probe_read_kernel(&protocol, sizeof(protocol), &sk->sk_protocol);
	read_ends(&ends, sk);
	/* One that is not connected has no peer. */
	if (protocol != IPPROTO_UDP || (ends.rport != 53 && ends.rport != 0))
		return 0;
	if (bpf_probe_read_user(header, sizeof(header), (void *)buffer))
		return 0;
	if (!(header[1] & bpf_htons(0x8000)) || header[2] != bpf_htons(1) || !header[3])
		return 0;
	event = reserve_event();
	if (!event)
		return 0;
	__builtin_memset(event, 0, offsetof(struct event, answer));
	event->owner.pid = bpf_get_current_pid_tgid() >> 32;
	if (size > (s64)ANSWER_BYTES)
		size = ANSWER_BYTES;
	KEEP(size);
	size &= 2 * ANSWER_BYTES - 1;
	if (size > (s64)ANSWER_BYTES ||
	    bpf_probe_read_user(event->answer, size, (void *)buffer)) {
		events.ringbuf_discard(event, NO_WAKEUP);
		return 0;
	}
	event->answered = size;
	submit_event(event);
	return 0;
}

TRACEPOINT(syscalls, sys_exit_recvfrom)
{
	struct syscall_arguments call;

	if (args->ret <= 0)
		return 0;
	call = syscall_arguments(args);
	return received(call.first, call.second, args->ret);
}

TRACEPOINT(syscalls, sys_exit_read)
{
	struct syscall_arguments call;

	if (args->ret <= 0)
		return 0;
	call = syscall_arguments(args);
	return received(call.first, call.second, args->ret);
}

TRACEPOINT(syscalls, sys_exit_recvmsg)
{
	struct syscall_arguments call;
	struct {
		u64 buffer;
		s64 size;
	} first = {};
	u64 parts = 0;

	if (args->ret <= 0)
		return 0;
	call = syscall_arguments(args);
	/* msg_iov of struct msghdr, and what it points to. */
	if (bpf_probe_read_user(&parts, sizeof(parts), (void *)call.second + 16) ||
	    bpf_probe_read_user(&first, sizeof(first), (void *)parts))
		return 0;
	return received(call.first, first.buffer,
			first.size < args->ret ? first.size : args->ret);
}
