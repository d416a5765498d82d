/*
 * Tail loss probes of TCP that send new data, which is no retransmission: where tcp_send_loss_probe()
 * has moved on in what is to be sent. It runs in a softirq, of which a CPU has one at a time. Before
 * this stand wanted_socket(ends), retransmission.h and report(again).
 */
struct probe {
	struct sock *sk;
	u32 next;
};
BPF_PERCPU_ARRAY(probes, struct probe, 1);

static inline u32 next_of(struct sock *sk)
{
	u32 next = 0;

	bpf_probe_read_kernel(&next, sizeof(next), &((struct tcp_sock *)sk)->snd_nxt);
	return next;
}

FUNCTION(tcp_send_loss_probe, struct sock *sk)
{
	int place = 0;
	struct probe *probe = probes.lookup(&place);

	if (probe) {
		probe->sk = sk;
		probe->next = next_of(sk);
	}
	return 0;
}

FUNCTION_RETURN(tcp_send_loss_probe, int nothing)
{
	struct again again = {.segments = 1, .reason = IS_NEW_DATA};
	int place = 0;
	struct probe *probe = probes.lookup(&place);
	struct sock *sk;

	if (!probe || !probe->sk)
		return 0;
	sk = probe->sk;
	probe->sk = NULL;
	if (next_of(sk) == probe->next)
		return 0;
	read_ends(&again.ends, sk);
	if (!wanted_socket(&again.ends))
		return 0;
	again.seq = probe->next;
	again.state = state_of(sk);
	again.inode = inode_of(sk);
	report(&again);
	return 0;
}
