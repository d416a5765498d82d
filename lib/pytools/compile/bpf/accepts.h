/*
 * Connections that a process accepts, with accept(2) or through io_uring. Before this stand mptcp.h
 * and two functions of the tool's: accepted(sk) for the TCP socket of a connection, in the task that
 * has accepted it; and is_awaited(sk), whether the tool knows of a connection that nobody has
 * accepted yet.
 */

/* The TCP socket that is a new file descriptor; NULL if it is none. */
static inline struct sock *accepted_as(s64 fd)
{
	struct sock *sk = fd < 0 ? NULL : socket_of(fd);

	return sk ? tcp_of(sk) : NULL;
}

static inline int returned(s64 fd)
{
	struct sock *sk = accepted_as(fd);

	if (sk)
		accepted(sk);
	return 0;
}

TRACEPOINT(syscalls, sys_exit_accept)
{
	return returned(args->ret);
}

TRACEPOINT(syscalls, sys_exit_accept4)
{
	return returned(args->ret);
}

/*
 * A request of io_uring is done. It is not known which kind of request it was (the kernel does not
 * say it of those that complete several times): the result may be any number. It is a descriptor if
 * that is a connection which nobody has accepted, for other ways were seen.
 */
static inline int completed(s64 result)
{
	struct sock *sk = accepted_as(result);

	if (sk && is_awaited(sk))
		accepted(sk);
	return 0;
}

$IO_URING_ACCEPTS
