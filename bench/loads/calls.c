/*
 * Make one system call that does nothing many times, pinned to a CPU:
 *
 *     calls COUNT CPU
 *
 * Prints the nanoseconds of all of them.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv)
{
	long count = argc == 3 ? atol(argv[1]) : 0;
	long long begin;
	cpu_set_t cpus;

	if (!count)
		return 2;
	CPU_ZERO(&cpus);
	CPU_SET(atoi(argv[2]), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		return 1;
	begin = now();
	for (long i = 0; i < count; i++)
		syscall(SYS_getppid);
	printf("%lld\n", now() - begin);
	return 0;
}
