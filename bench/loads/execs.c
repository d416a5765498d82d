/*
 * Run a program that ends at once many times, one after the other, with ten
 * arguments, pinned to a CPU:
 *
 *     execs COUNT CPU
 *
 * Prints the nanoseconds of all of them.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
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
	char *run[] = { "/bin/true", "one", "two", "three", "four", "--five=5", "six", "seven",
			"/usr/share/eight", "nine", NULL };
	char *environment[] = { NULL };
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
	for (long i = 0; i < count; i++) {
		pid_t child = vfork();
		int status;

		if (!child) {
			execve(run[0], run, environment);
			_exit(1);
		}
		if (child < 0 || waitpid(child, &status, 0) < 0 || status)
			return 1;
	}
	printf("%lld\n", now() - begin);
	return 0;
}
