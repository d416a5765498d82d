/*
 * Have the kernel check whether the process has CAP_SYS_ADMIN, again and again, pinned to a CPU:
 * for a host name whose length cannot be.
 *
 *     checks COUNT CPU
 *
 * Prints the nanoseconds of each of the PARTS parts of the loop.
 */
#include "load.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static int check(void *nothing)
{
	return syscall(SYS_sethostname, "", -1) != -1 || errno != EINVAL;
}

int main(int argc, char **argv)
{
	return timed_alone(argc, argv, check, NULL);
}
