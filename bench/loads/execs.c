/*
 * Run a program that ends at once many times, one after the other, with ten
 * arguments, pinned to a CPU:
 *
 *     execs COUNT CPU
 *
 * Prints the nanoseconds of all of them.
 */
#include "load.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char *run[] = { "/bin/true", "one", "two", "three", "four", "--five=5", "six", "seven",
			"/usr/share/eight", "nine", NULL };
	char *environment[] = { NULL };
	long count = argc == 3 ? atol(argv[1]) : 0;
	long long begin;

	if (!count)
		return 2;
	if (pin(argv[2]))
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
