/*
 * Two processes on one CPU pass a byte to and fro through two pipes: each pass
 * wakes the other one up and switches to it. Prints "wall_ns".
 *
 *   switches COUNT CPU
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
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	long rounds = argc == 3 ? atol(argv[1]) / 2 : 0;
	int to[2], from[2], status;
	cpu_set_t cpus;
	long long wall;
	char c = 0;
	pid_t pid;

	if (!rounds)
		return 2;
	CPU_ZERO(&cpus);
	CPU_SET(atoi(argv[2]), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) || pipe(to) || pipe(from))
		return 1;
	pid = fork();
	if (pid < 0)
		return 1;
	if (!pid) {
		close(to[1]);
		while (read(to[0], &c, 1) == 1)
			if (write(from[1], &c, 1) != 1)
				_exit(1);
		_exit(0);
	}
	wall = now();
	for (long i = 0; i < rounds; i++)
		if (write(to[1], &c, 1) != 1 || read(from[0], &c, 1) != 1)
			return 1;
	wall = now() - wall;
	close(to[1]);
	waitpid(pid, &status, 0);
	printf("%lld\n", wall);
	return status != 0;
}
