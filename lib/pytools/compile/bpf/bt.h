/*
 * What every program of bt's has before its own lines. Helpers are called by their numbers
 * (include/uapi/linux/bpf.h), which do not change; addresses are numbers, so that bcc's rewriter
 * leaves all of it alone. (The one of bcc 0.18 wants each function that is called to have a name.)
 */
#include "verifier.h"

#define HELPER(name, number, result, ...) \
	static result (*helper_##name)(__VA_ARGS__) = (void *)number;
HELPER(clock_monotonic, 5, u64, void)
HELPER(random_number, 7, u32, void)
HELPER(current_cpu, 8, u32, void)
HELPER(pid_tgid, 14, u64, void)
HELPER(uid_gid, 15, u64, void)
HELPER(current_comm, 16, long, void *, u32)
HELPER(current_task, 35, u64, void)
HELPER(write_user_memory, 36, long, u64, void *, u32)
HELPER(numa_node, 42, u32, void)
HELPER(cookie_of_socket, 46, u64, u64)
HELPER(take_frames, 67, long, void *, void *, u32, u64)
HELPER(cgroup_id, 80, u64, void)
HELPER(send_signal, 109, long, u32)
HELPER(read_user_memory, 112, long, void *, u32, u64)
HELPER(read_kernel_memory, 113, long, void *, u32, u64)
HELPER(read_user_string, 114, long, void *, u32, u64)
HELPER(read_kernel_string, 115, long, void *, u32, u64)
HELPER(send_signal_thread, 117, long, u32)
HELPER(jiffies_64, 118, u64, void)
HELPER(namespace_pid_tgid, 120, long, u64, u64, void *, u32)
HELPER(clock_boot, 125, u64, void)
HELPER(ring_output, 130, long, void *, void *, u64, u64)
HELPER(ring_query, 134, u64, void *, u64)
HELPER(path_text, 147, long, u64, void *, u32)
HELPER(variable_of_cpu, 153, u64, u64, u32)
HELPER(variable_of_this_cpu, 154, u64, u64)
HELPER(for_each_element, 164, long, void *, u64, u64, u64)
HELPER(call_in_loop, 181, long, u32, u64, void *, u64)
HELPER(value_of_cpu, 195, u64, void *, u64, u32)
HELPER(clock_tai, 208, u64, void)
#define read_kernel(to, size, from) helper_read_kernel_memory((void *)(to), size, (u64)(from))
#define read_user(to, size, from) helper_read_user_memory((void *)(to), size, (u64)(from))
#define read_kernel_text(to, size, from) \
	helper_read_kernel_string((void *)(to), size, (u64)(from))
#define read_user_text(to, size, from) \
	helper_read_user_string((void *)(to), size, (u64)(from))

/* If nothing tells whose memory an address is in: the kernel's addresses have the top bit. */
#define read_any(to, size, from) \
	((s64)(from) < 0 ? read_kernel(to, size, from) : read_user(to, size, from))
#define read_any_text(to, size, from) \
	((s64)(from) < 0 ? read_kernel_text(to, size, from) : read_user_text(to, size, from))

/* A word of the context, by an offset that is known: the verifier wants no other access. */
#define context_word(type, offset) \
	({ type _word; asm volatile("%0 = *(" #type " *)(%1 + " #offset ")" : "=r"(_word) : "r"(ctx)); _word; })

/* Zeros, or a copy: what the compiler would write out where it is short, else one call. A read of
 * address 0 fails, and leaves zeros. */
#define zero_bytes(to, size) \
	({ if ((size) <= 64) __builtin_memset((void *)(to), 0, size); else read_kernel(to, size, 0); })
#define copy_bytes(to, from, size) \
	({ if ((size) <= 64) __builtin_memcpy((void *)(to), (void *)(from), size); \
	   else read_kernel(to, size, (u64)(from)); })

/* A number that is at most "limit", as the verifier can see. */
#define AT_MOST(number, limit) \
	asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(number) : "i"(limit))

/* How many bytes a string has, by what the helper that read it gave: the NUL is not counted. */
#define text_length(given, most) \
	({ u64 _length = (u64)(given) - 1; KEEP(_length); if (_length > (most)) _length = 0; \
	   AT_MOST(_length, most); _length; })

BPF_PERCPU_ARRAY(losses, u64, LOSSES);

static inline void count_loss(u32 kind)
{
	u64 *lost = losses.lookup(&kind);

	if (lost)
		__sync_fetch_and_add(lost, 1);
}

#define RECORD_LOST 0

/*
 * The ring. What controls the reader (print, clear, exit) has a part of it for itself, so that
 * a flood of printf() can't crowd it out.
 */
#define CONTROL_BYTES 65536
#define WAKE_BYTES 65536
#define UNREAD_BYTES 0 /* BPF_RB_AVAIL_DATA */
#define RING_BYTES 1 /* BPF_RB_RING_SIZE */
#define NO_WAKEUP 1
#define FORCE_WAKEUP 2

struct event {
	u64 id;
	char data[8];
};
BPF_RINGBUF_OUTPUT(events, 1);
BPF_ARRAY(events_layout, struct event, 1);

/* bcc puts the map's address into this call alone: without a record it is a question. */
static inline s64 ring_call(void *ring, void *record, u64 size, u64 flags)
{
	if (!record)
		return helper_ring_query(ring, size);
	return helper_ring_output(ring, record, size, flags);
}
#define bpf_ringbuf_output ring_call

static inline void hand_over(char *record, u64 size)
{
	char *nothing = 0;
	u64 unread = events.ringbuf_output(nothing, UNREAD_BYTES, 0);
	u64 room = events.ringbuf_output(nothing, RING_BYTES, 0);

	if (unread + CONTROL_BYTES > room ||
	    events.ringbuf_output(record, size, unread > WAKE_BYTES ? FORCE_WAKEUP : NO_WAKEUP) < 0)
		count_loss(RECORD_LOST);
}

static inline void hand_over_control(char *record, u64 size)
{
	if (events.ringbuf_output(record, size, FORCE_WAKEUP) < 0)
		count_loss(RECORD_LOST);
}

/* Signed division by magnitudes: BPF had none before v6.6. */
static inline s64 divide(s64 a, s64 b)
{
	u64 quotient = (a < 0 ? -(u64)a : (u64)a) / (b < 0 ? -(u64)b : (u64)b);

	return (a < 0) != (b < 0) ? -quotient : quotient;
}

static inline s64 remainder(s64 a, s64 b)
{
	u64 rest = (a < 0 ? -(u64)a : (u64)a) % (b < 0 ? -(u64)b : (u64)b);

	return a < 0 ? -rest : rest;
}
