/*
 * Send itself segments over a TCP session, pinned to a CPU:
 *
 *     segments COUNT CPU
 *
 * Each has 100 bytes and is read at once by the other end, which sends the next one, so that
 * each carries the acknowledgement of the one before. Prints the nanoseconds of all of them.
 */
#include "load.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long count = argc == 3 ? atol(argv[1]) : 0;
	struct sockaddr_in place = { .sin_family = AF_INET };
	socklen_t size = sizeof(place);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int ends[2], at_once = 1;
	char data[100] = { 0 };
	long long begin;

	if (!count)
		return 2;
	place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (pin(argv[2]) || bind(listener, (struct sockaddr *)&place, size) ||
	    listen(listener, 1) || getsockname(listener, (struct sockaddr *)&place, &size))
		return 1;
	ends[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(ends[0], (struct sockaddr *)&place, size))
		return 1;
	ends[1] = accept(listener, NULL, NULL);
	for (int i = 0; i < 2; i++)
		setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof(at_once));
	begin = now();
	for (long i = 0; i < count; i++)
		if (send(ends[i & 1], data, sizeof(data), 0) != sizeof(data) ||
		    recv(ends[!(i & 1)], data, sizeof(data), MSG_WAITALL) != sizeof(data))
			return 1;
	printf("%lld\n", now() - begin);
	return 0;
}
