/*
 * Open and close a file in a loop at full speed, and print how many nanoseconds
 * each of the PARTS parts of the loop took.
 *
 *   opens PATH COUNT CPU
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { PARTS = 20 };

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	long count = argc == 4 ? atol(argv[2]) : 0;
	long long start;
	cpu_set_t cpus;

	if (!count)
		return 2;
	CPU_ZERO(&cpus);
	CPU_SET(atoi(argv[3]), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		return 1;
	for (int part = 0; part < PARTS; part++) {
		start = now();
		for (long i = 0; i < count / PARTS; i++) {
			int fd = open(argv[1], O_RDONLY);

			if (fd < 0)
				return 1;
			close(fd);
		}
		printf("%lld\n", now() - start);
	}
	return 0;
}
