/*
 * Connect to itself over loopback many times, pinned to a CPU:
 *
 *     sessions COUNT CPU
 *
 * Each session is reset when it is closed, for the ports of those that end in order
 * are not free again for a minute. Prints the nanoseconds of all of them.
 */
#include "load.h"

#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long count = argc == 3 ? atol(argv[1]) : 0;
	struct sockaddr_in place = { .sin_family = AF_INET };
	struct linger reset = { .l_onoff = 1 };
	socklen_t size = sizeof(place);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	long long begin;

	if (!count)
		return 2;
	place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (pin(argv[2]) || bind(listener, (struct sockaddr *)&place, size) ||
	    listen(listener, 1) || getsockname(listener, (struct sockaddr *)&place, &size))
		return 1;
	begin = now();
	for (long i = 0; i < count; i++) {
		int near = socket(AF_INET, SOCK_STREAM, 0), far;

		if (connect(near, (struct sockaddr *)&place, size))
			return 1;
		far = accept(listener, NULL, NULL);
		setsockopt(near, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(near);
		close(far);
	}
	printf("%lld\n", now() - begin);
	return 0;
}
