/*
 * Attempts to open a TCP connection, from their SYN to their outcome, however they are made. Before
 * this stand wanted(task), wanted_socket(ends), socket_owner.h and the counter "lost". The tool
 * defines report().
 */
#include "error_numbers.h"
#include "mptcp.h"
#include "socket_address.h"
#include "syscall.h"
#include "tcp_syn.h"
#include "verifier.h"

/* A connect on its way, by socket. */
struct attempt {
	u64 began;
	struct owner owner;
	struct ends ends;
	u32 failed; /* within connect(2), which will say why */
	u32 unsent; /* its SYN was still to come when connect(2) returned */
	u32 mptcp;
};
BPF_HASH(attempts, u64, struct attempt, 16384);
/* The socket that a thread in connect(2) has begun with; 0 before it has. */
BPF_HASH(calls, u64, u64, 16384);

/* An attempt of the current task; false if nobody wants it. */
static inline bool attempt_of(struct attempt *attempt)
{
	if (!current_is_wanted() || !wanted_socket(&attempt->ends))
		return false;
	attempt->began = bpf_ktime_get_ns();
	own(&attempt->owner, WANTED);
	return true;
}

/* An attempt has its outcome: 0, or why it failed. The tool's. */
static inline void report(struct attempt *attempt, u32 error);

$SOCKET_STATE
{
	$STATE_CHANGE
	struct attempt made = {}, *attempt;
	u64 key = (u64)sk, *within, thread = bpf_get_current_pid_tgid();
	struct socket *socket = NULL;
	s32 error = 0;

	if (oldstate != TCP_SYN_SENT && newstate != TCP_SYN_SENT)
		return 0;
	if (!is_tcp(sk))
		return 0;
	if (newstate == TCP_SYN_SENT) {
		within = calls.lookup(&thread);
		if (within)
			*within = key;
		read_ends(&made.ends, sk);
		made.mptcp = is_mptcp(sk);
		if (attempt_of(&made) && attempts.update(&key, &made))
			lost.increment(0);
		return 0;
	}
	attempt = attempts.lookup(&key);
	if (!attempt)
		return 0;
	if (newstate == TCP_CLOSE) {
		bpf_probe_read_kernel(&error, sizeof(error), &sk->sk_err);
		within = calls.lookup(&thread);
		if (!error && within && *within == key) {
			attempt->failed = 1;
			return 0;
		}
		if (!has_sent_syn(sk)) {
			bpf_probe_read_kernel(&socket, sizeof(socket), &sk->sk_socket);
			/* It waited for data that never came: no SYN, no attempt. */
			if (is_connecting(socket)) {
				attempts.delete(&key);
				return 0;
			}
			/* What else ends between the state and the SYN, where no call says why. */
			error = EADDRNOTAVAIL;
		}
		if (!error)
			error = ECANCELED;
	}
	made = *attempt;
	attempts.delete(&key);
	made.began = first_syn(sk, made.began);
	read_ends(&made.ends, sk);
	report(&made, error);
	return 0;
}

RAW_TRACEPOINT(tcp_retransmit_skb, struct sock *sk)
{
	u64 key = (u64)sk;
	struct attempt *attempt = attempts.lookup(&key);
	u32 again = 0;

	if (!attempt)
		return 0;
	attempt->unsent = 0;
	bpf_probe_read_kernel(&again, sizeof(again), &((struct tcp_sock *)sk)->total_retrans);
	if (again == 1)
		attempt->began = first_syn_of_two(sk, attempt->began);
	return 0;
}

TRACEPOINT(syscalls, sys_enter_connect)
{
	u64 thread = bpf_get_current_pid_tgid(), none = 0;
	struct socket *socket;

	if (!current_is_wanted())
		return 0;
	/* A further call only asks what became of the attempt. */
	socket = open_socket(args->fd);
	if (socket && is_connecting(socket))
		return 0;
	if (calls.update(&thread, &none))
		lost.increment(0);
	return 0;
}

TRACEPOINT(syscalls, sys_exit_connect)
{
	u64 thread = bpf_get_current_pid_tgid(), *within = calls.lookup(&thread), key;
	struct syscall_arguments call;
	struct attempt made = {}, *attempt;
	s64 result = args->ret;
	struct sock *sk;

	if (!within)
		return 0;
	key = *within;
	calls.delete(&thread);
	if (key) {
		attempt = attempts.lookup(&key);
		if (!attempt)
			return 0;
		if (!attempt->failed) {
			attempt->unsent = !has_sent_syn((struct sock *)key);
			return 0;
		}
		made = *attempt;
		attempts.delete(&key);
		report(&made, -result);
		return 0;
	}
	/* Not even begun; those are about the call. */
	if (result >= 0 || result <= -ERESTARTSYS || result == -EINPROGRESS ||
	    result == -EALREADY || result == -EISCONN || result == -EINTR)
		return 0;
	call = syscall_arguments(args);
	sk = tcp_of(socket_of(call.first));
	if (!sk)
		return 0;
	read_ends(&made.ends, sk);
	made.mptcp = is_mptcp(sk);
	if (read_peer(&made.ends, (void *)call.second) && attempt_of(&made))
		report(&made, -result);
	return 0;
}
