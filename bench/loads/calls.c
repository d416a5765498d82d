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
	return timed_alone(argc, argv, call, NULL);
}
