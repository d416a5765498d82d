/*
 * The work of long_run.py: one kind of it, at a steady rate.
 *
 *     long_run KIND RATE SECONDS [ARGUMENT]
 *
 * It says "ready", begins when it gets a line, and stops after RATE * SECONDS times, or after
 * SECONDS: where it cannot keep pace, it does less, and makes nothing good. Then it says how often
 * it did its work, how many system calls it made since the line (with the two of that moment and
 * the next), the nanoseconds that it took, and those of its CPU time, and ends with its input.
 *
 *     opens        of the file ARGUMENT
 *     execs        of the program ARGUMENT, by vfork()
 *     connections  with itself; each sends 100 bytes
 *     packets      of UDP to itself, each received; with ARGUMENT, to so many addresses by turns
 *     calls        getppid()
 *     reads        of 4 KiB of the disk ARGUMENT, which has 64 MiB, past the page cache
 *     switches     between two processes on one CPU; counted are both
 *     sessions     of TCP with itself, at the port ARGUMENT, that stay open until the input ends
 *     attempts     to connect, which nobody answers, for as long
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TICK 10000000LL /* nanoseconds between two looks at the clock */
#define MOST_LATE (10 * TICK) /* what it is behind, beyond that, is not done */
#define PORT 7777
#define BLOCK 4096
#define BLOCKS ((64 << 20) / BLOCK)

static long calls, addresses;
static char *argument;
static int listener, receiver, sender, disk, to[2], from[2];
static char *block, byte;
static struct sockaddr_in place = { .sin_family = AF_INET };

/* Every system call of the work goes through this. */
#define CALL(call)                                  \
	({                                          \
		long result_ = (call);              \
		calls++;                            \
		if (result_ < 0)                    \
			give_up(#call);             \
		result_;                            \
	})

static void give_up(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* 127.0.0.1 and those that follow, of which all are this machine's. */
static void to_address(long number)
{
	place.sin_addr.s_addr = htonl(0x7f000001 + number);
}

static void open_file(long number)
{
	CALL(close(CALL(open(argument, O_RDONLY))));
}

static void exec_program(long number)
{
	char *const argv[] = { argument, NULL };
	int status;
	pid_t pid = vfork();

	if (!pid) {
		execve(argument, argv, argv + 1);
		_exit(1);
	}
	calls++;
	if (pid < 0 || CALL(waitpid(pid, &status, 0)) != pid || status)
		give_up("vfork");
}

static void listen_here(int backlog)
{
	int yes = 1;

	listener = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(listener, (struct sockaddr *)&place, sizeof(place)) || listen(listener, backlog))
		give_up("listen");
}

static int connect_here(int *far)
{
	int near = CALL(socket(AF_INET, SOCK_STREAM, 0));

	CALL(connect(near, (struct sockaddr *)&place, sizeof(place)));
	*far = CALL(accept(listener, NULL, NULL));
	return near;
}

static void connection(long number)
{
	char data[100] = {};
	int near, far;

	/* Ports of connections that have ended in order are not free at once. */
	to_address(number % 64);
	near = connect_here(&far);
	CALL(send(near, data, sizeof(data), 0));
	CALL(recv(far, data, sizeof(data), MSG_WAITALL));
	CALL(close(near));
	CALL(close(far));
}

static void session(long number)
{
	int far;

	to_address(number % 64);
	connect_here(&far);
}

/* The queue of the listener is full: nobody answers. */
static void attempt(long number)
{
	int near = CALL(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));

	if (!connect(near, (struct sockaddr *)&place, sizeof(place)) || errno != EINPROGRESS)
		give_up("connect");
	calls++;
}

static void packet(long number)
{
	char data[100] = {};

	if (addresses)
		to_address(number % addresses);
	CALL(sendto(sender, data, sizeof(data), 0, (struct sockaddr *)&place, sizeof(place)));
	CALL(recv(receiver, data, sizeof(data), 0));
}

static void call(long number)
{
	CALL(syscall(SYS_getppid));
}

static void read_block(long number)
{
	CALL(pread(disk, block, BLOCK, number * 7919 % BLOCKS * BLOCK));
}

static void two_switches(long number)
{
	CALL(write(to[1], &byte, 1));
	CALL(read(from[0], &byte, 1));
}

/* The other process, which answers. */
static void answer(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	if (pipe(to) || pipe(from))
		give_up("pipe");
	if (fork())
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(to[0], &byte, 1) == 1)
		if (write(from[1], &byte, 1) != 1)
			break;
	_exit(0);
}

static void prepare(const char *kind)
{
	if (!strcmp(kind, "sessions") || !strcmp(kind, "attempts"))
		place.sin_port = htons(argument ? atoi(argument) : PORT);
	else
		place.sin_port = htons(PORT);
	if (!strcmp(kind, "connections") || !strcmp(kind, "sessions"))
		listen_here(64);
	if (!strcmp(kind, "attempts")) {
		listen_here(0);
		connect_here(&disk);
		/* This one is not accepted. */
		connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&place, sizeof(place));
	}
	if (!strcmp(kind, "packets")) {
		receiver = socket(AF_INET, SOCK_DGRAM, 0);
		sender = socket(AF_INET, SOCK_DGRAM, 0);
		if (bind(receiver, (struct sockaddr *)&place, sizeof(place)))
			give_up("bind");
		addresses = argument ? atol(argument) : 0;
		to_address(0);
	}
	if (!strcmp(kind, "reads")) {
		disk = open(argument, O_RDONLY | O_DIRECT);
		if (disk < 0 || posix_memalign((void **)&block, BLOCK, BLOCK))
			give_up(argument);
	}
	if (!strcmp(kind, "switches"))
		answer();
}

static const struct {
	const char *name;
	void (*once)(long);
	int counted;
} kinds[] = {
	{ "opens", open_file, 1 },	   { "execs", exec_program, 1 },
	{ "connections", connection, 1 },  { "packets", packet, 1 },
	{ "calls", call, 1 },		   { "reads", read_block, 1 },
	{ "switches", two_switches, 2 },   { "sessions", session, 1 },
	{ "attempts", attempt, 1 },
};

static void work(void (*once)(long), int counted, double rate, double seconds)
{
	long long begin = now(CLOCK_MONOTONIC), time = begin, paced = begin;
	long long end = begin + seconds * 1e9 + MOST_LATE;
	long long cpu = now(CLOCK_PROCESS_CPUTIME_ID);
	long total = rate * seconds, done = 0, since = 0, due;
	struct timespec next;
	char text[200];

	calls = 1; /* for the CPU time */
	while (done < total && time < end) {
		due = (time - paced) * rate / 1e9;
		if (due - since > MOST_LATE * rate / 1e9 + 1) {
			paced = time - MOST_LATE;
			since = 0;
			continue;
		}
		if (since < due && done < total) {
			once(done);
			done++;
			since++;
		} else {
			time += TICK;
			next.tv_sec = time / 1000000000;
			next.tv_nsec = time % 1000000000;
			CALL(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL));
			time = now(CLOCK_MONOTONIC);
			continue;
		}
		if (since == due || done % 64 == 0)
			time = now(CLOCK_MONOTONIC);
	}
	cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	calls += 3; /* for the CPU time, the line, and the wait for the end */
	snprintf(text, sizeof(text), "%ld %ld %lld %lld\n", done * counted, calls,
		 now(CLOCK_MONOTONIC) - begin, cpu);
	write(1, text, strlen(text));
}

int main(int argc, char **argv)
{
	argument = argc > 4 ? argv[4] : NULL;
	for (unsigned int i = 0; argc > 3 && i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strcmp(argv[1], kinds[i].name)) {
			prepare(argv[1]);
			write(1, "ready\n", 6);
			if (read(0, &byte, 1) != 1)
				return 1;
			work(kinds[i].once, kinds[i].counted, atof(argv[2]) / kinds[i].counted,
			     atof(argv[3]));
			while (read(0, &byte, 1) > 0)
				;
			return 0;
		}
	return 2;
}
