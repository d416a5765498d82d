/*
 * Make one system call that does nothing many times, pinned to a CPU:
 *
 *     calls COUNT CPU
 *
 * Prints the nanoseconds of each of the PARTS parts of the loop.
 */
#include "load.h"

#include <sys/syscall.h>
#include <unistd.h>

static int call(void *nothing)
{
	return syscall(SYS_getppid) < 0;
}

int main(int argc, char **argv)
{
	long count = argc == 3 ? atol(argv[1]) : 0;

	if (!count)
		return 2;
	if (pin(argv[2]))
		return 1;
	return timed(count, call, NULL);
}
