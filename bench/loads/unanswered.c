/*
 * Connect over loopback to a listener whose queue is full, many times at once, pinned to a CPU, and
 * wait until each SYN has been sent again, a second later:
 *
 *     unanswered COUNT CPU
 *
 * Prints the nanoseconds of all of them.
 */
#include "load.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* How often the socket has sent its SYN again. */
static unsigned again(int end)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);

	return getsockopt(end, IPPROTO_TCP, TCP_INFO, &info, &size) ? 0 : info.tcpi_total_retrans;
}

int main(int argc, char **argv)
{
	long count = argc == 3 ? atol(argv[1]) : 0;
	struct sockaddr_in place = { .sin_family = AF_INET };
	struct rlimit files = { count + 100, count + 100 };
	socklen_t size = sizeof(place);
	int listener = socket(AF_INET, SOCK_STREAM, 0), *ends;
	long long begin;

	if (!count)
		return 2;
	ends = calloc(count, sizeof(*ends));
	place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (!ends || pin(argv[2]) || setrlimit(RLIMIT_NOFILE, &files) ||
	    bind(listener, (struct sockaddr *)&place, size) || listen(listener, 0) ||
	    getsockname(listener, (struct sockaddr *)&place, &size))
		return 1;
	if (connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&place, size))
		return 1;
	begin = now();
	for (long i = 0; i < count; i++) {
		ends[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (!connect(ends[i], (struct sockaddr *)&place, size) || errno != EINPROGRESS)
			return 1;
	}
	for (long i = 0; i < count; i++)
		while (!again(ends[i]))
			usleep(10000);
	printf("%lld\n", now() - begin);
	return 0;
}
