/*
 * Two processes on one CPU pass a byte to and fro through two pipes: each pass
 * wakes the other one up and switches to it. Prints "wall_ns".
 *
 *   switches COUNT CPU
 */
#include "load.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long rounds = argc == 3 ? atol(argv[1]) / 2 : 0;
	int to[2], from[2], status;
	long long wall;
	char c = 0;
	pid_t pid;

	if (!rounds)
		return 2;
	if (pin(argv[2]) || pipe(to) || pipe(from))
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
