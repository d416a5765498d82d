/*
 * Whether the reader of a ring buffer is woken up for an event (BPF_RB_NO_WAKEUP,
 * BPF_RB_FORCE_WAKEUP): it looks often enough by itself, unless they come in floods.
 */
#define NO_WAKEUP 1
#define FORCE_WAKEUP 2
