/*
 * Run a program that ends at once many times, one after the other, with ten
 * arguments, pinned to a CPU:
 *
 *     execs COUNT CPU
 *
 * Prints the nanoseconds of each of the PARTS parts of the loop.
 */
#include "load.h"

#include <sys/wait.h>
#include <unistd.h>

static int run(void *words)
{
	char *const *arguments = words, *environment[] = { NULL };
	pid_t child = vfork();
	int status;

	if (!child) {
		execve(arguments[0], arguments, environment);
		_exit(1);
	}
	return child < 0 || waitpid(child, &status, 0) < 0 || status;
}

int main(int argc, char **argv)
{
	char *words[] = { "/bin/true", "one", "two", "three", "four", "--five=5", "six",
			  "seven", "/usr/share/eight", "nine", NULL };

	return timed_alone(argc, argv, run, words);
}
