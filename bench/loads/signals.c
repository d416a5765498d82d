/*
 * Send a signal that is ignored to oneself many times, pinned to a CPU:
 *
 *     signals COUNT CPU
 *
 * Prints the nanoseconds of each of the PARTS parts of the loop.
 */
#include "load.h"

#include <signal.h>
#include <unistd.h>

static int send(void *nothing)
{
	return kill(getpid(), SIGUSR1);
}

int main(int argc, char **argv)
{
	signal(SIGUSR1, SIG_IGN);
	return timed_alone(argc, argv, send, NULL);
}
