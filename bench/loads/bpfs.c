/*
 * Ask bpf(2) for an element of a map that there is not, many times, pinned to a CPU:
 *
 *     bpfs COUNT CPU
 *
 * Prints the nanoseconds of each of the PARTS parts of the loop.
 */
#include "load.h"

#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ask(void *nothing)
{
	union bpf_attr attributes = { .map_fd = -1 };

	return syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &attributes, sizeof(attributes)) == 0;
}

int main(int argc, char **argv)
{
	return timed_alone(argc, argv, ask, NULL);
}
