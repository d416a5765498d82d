/*
 * TCP sockets while they live, with a time that the tool keeps and the process that they belong to:
 * the one that connects or accepts, else the first one that is seen to use the socket. Before this
 * stand tcp_session.h, socket_owner.h and the counter "lost".
 */
struct session {
	u64 since; /* 0: not known */
	struct owner owner;
};
BPF_HASH(sessions, u64, struct session, 65536);

/* "made" is all zeros: it becomes what is known of a socket that gets a new state. */
static inline void read_session(struct session *made, struct sock *sk, int newstate)
{
	u64 key = (u64)sk;
	struct session *session = sessions.lookup(&key);

	/* The next attempt of the same socket may be another process's. */
	if (session && newstate != TCP_SYN_SENT)
		*made = *session;
	if (made->owner.owned == UNKNOWN && is_in_use(sk))
		own(&made->owner, current_is_wanted() ? WANTED : UNWANTED);
}

static inline void keep_session(struct session *session, struct sock *sk)
{
	u64 key = (u64)sk;

	if (sessions.update(&key, session))
		lost.increment(0);
}

static inline void end_session(struct sock *sk)
{
	u64 key = (u64)sk;

	sessions.delete(&key);
}

/* For accepts.h. */
static inline bool is_awaited(struct sock *sk)
{
	u64 key = (u64)sk;
	struct session *session = sessions.lookup(&key);

	return session && session->owner.owned == UNKNOWN;
}
