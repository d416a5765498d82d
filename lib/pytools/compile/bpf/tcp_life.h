/*
 * TCP sessions, each with its process, from their beginning to their end. Before this stand
 * wanted(task), mptcp.h, socket_owner.h and the counter "lost". "since" of a session is when it has
 * begun, 0 if that was before. The tool defines session_changed() and session_ended().
 */
#ifndef TCP_LIFE_H
#define TCP_LIFE_H
#include "tcp_session.h"
#include "session_owners.h"

/* It has begun, or a process has accepted it. */
static inline void session_changed(struct sock *sk, struct session *session, bool begins);

/* Its last packet has come or gone. */
static inline void session_ended(struct sock *sk, struct session *session);

$SOCKET_STATE
{
	$STATE_CHANGE
	struct session made = {};

	if (!is_tcp(sk))
		return 0;
	read_session(&made, sk, newstate);
	if (newstate == TCP_ESTABLISHED && !made.since) {
		made.since = bpf_ktime_get_ns();
		session_changed(sk, &made, true);
	}
	if (newstate != TCP_CLOSE) {
		if (newstate != TCP_LISTEN && newstate != TCP_SYN_RECV)
			keep_session(&made, sk);
		return 0;
	}
	end_session(sk);
	if (has_session(oldstate) || made.since)
		session_ended(sk, &made);
	return 0;
}

static inline void accepted(struct sock *sk)
{
	struct session made = {};
	bool in_handshake;

	/* It may have ended before anybody accepted it. */
	if (is_closed(sk))
		return;
	/* Asked first: a handshake that has ended has left a session. */
	in_handshake = is_in_handshake(sk);
	read_session(&made, sk, TCP_ESTABLISHED);
	/* With TCP Fast Open, the program has it before the handshake's end. */
	if (!made.since && in_handshake)
		made.since = bpf_ktime_get_ns();
	own(&made.owner, current_is_wanted() ? WANTED : UNWANTED);
	keep_session(&made, sk);
	session_changed(sk, &made, false);
}
#include "accepts.h"
#endif
