/*
 * Make one system call that does nothing many times, pinned to a CPU:
 *
 *     calls COUNT CPU
 *
 * Prints the nanoseconds of all of them.
 */
#include "load.h"

#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long count = argc == 3 ? atol(argv[1]) : 0;
	long long begin;

	if (!count)
		return 2;
	if (pin(argv[2]))
		return 1;
	begin = now();
	for (long i = 0; i < count; i++)
		syscall(SYS_getppid);
	printf("%lld\n", now() - begin);
	return 0;
}
