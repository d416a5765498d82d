/*
 * Connect over loopback to a port that is closed, many times, pinned to a CPU:
 *
 *     refused COUNT CPU
 *
 * Each SYN is dropped, and so is the RST that answers it. Prints how many nanoseconds each part of
 * them took.
 */
#include "load.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static int refused(void *place)
{
	int near = socket(AF_INET, SOCK_STREAM, 0);
	int went = connect(near, place, sizeof(struct sockaddr_in));

	close(near);
	return !went || errno != ECONNREFUSED;
}

int main(int argc, char **argv)
{
	struct sockaddr_in place = { .sin_family = AF_INET };
	socklen_t size = sizeof(place);
	int other = socket(AF_INET, SOCK_STREAM, 0);

	place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	/* A port that is taken, at which nobody listens. */
	if (bind(other, (struct sockaddr *)&place, size) ||
	    getsockname(other, (struct sockaddr *)&place, &size))
		return 1;
	return timed_alone(argc, argv, refused, &place);
}
