/*
 * stacks DEPTH MICROSECONDS: works in 2^DEPTH different stacks, for so long in
 * each, one after the other; then prints how many there were.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SEEN_IN_STACKS \
	__attribute__((noinline, noclone, \
		       optimize("no-omit-frame-pointer", "no-optimize-sibling-calls")))

static long nanoseconds;

static long cpu_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

static SEEN_IN_STACKS long work(void)
{
	long end = cpu_time() + nanoseconds, rounds = 0;
	volatile int i;

	while (cpu_time() < end)
		for (i = 0; i < 10000; i++)
			rounds++;
	return rounds;
}

static SEEN_IN_STACKS long left(int depth, long path);
static SEEN_IN_STACKS long right(int depth, long path);

static SEEN_IN_STACKS long down(int depth, long path)
{
	long done;

	if (!depth)
		done = work();
	else if (path & 1)
		done = left(depth - 1, path >> 1);
	else
		done = right(depth - 1, path >> 1);
	return done + 1;
}

static SEEN_IN_STACKS long left(int depth, long path)
{
	return down(depth, path) + 1;
}

static SEEN_IN_STACKS long right(int depth, long path)
{
	return down(depth, path) + 2;
}

int main(int argc, char **argv)
{
	int depth = argc == 3 ? atoi(argv[1]) : 0;
	long path, done = 0;

	if (depth < 1 || depth > 20)
		return 2;
	nanoseconds = 1000 * atol(argv[2]);
	for (path = 0; path < 1L << depth; path++)
		done += down(depth, path);
	if (done)
		printf("%ld\n", path);
	return 0;
}
