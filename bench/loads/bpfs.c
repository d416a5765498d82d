/*
 * Ask bpf(2) for an element of a map that there is not, many times, pinned to a CPU:
 *
 *     bpfs COUNT CPU
 *
 * Prints the nanoseconds of all of them.
 */
#include "load.h"

#include <linux/bpf.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long count = argc == 3 ? atol(argv[1]) : 0;
	union bpf_attr attributes = { .map_fd = -1 };
	long long begin;

	if (!count)
		return 2;
	if (pin(argv[2]))
		return 1;
	begin = now();
	for (long i = 0; i < count; i++)
		syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &attributes, sizeof(attributes));
	printf("%lld\n", now() - begin);
	return 0;
}
