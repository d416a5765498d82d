/* What the loads share: a clock, the CPU that they run on, and parts of a loop. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* A loop is timed in so many parts: a busy spell of the machine hits few of them. */
enum { PARTS = 20 };

static inline long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Run on one CPU from now on; not 0 if that can't be. */
static inline int pin(const char *cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(atoi(cpu), &cpus);
	return sched_setaffinity(0, sizeof(cpus), &cpus);
}

/*
 * Call step(argument) count times, and print how many nanoseconds each of the PARTS
 * parts took; not 0 as soon as a step is not 0.
 */
static inline __attribute__((always_inline)) int
timed(long count, int (*step)(void *), void *argument)
{
	for (int part = 0; part < PARTS; part++) {
		long long begin = now();

		for (long i = 0; i < count / PARTS; i++)
			if (step(argument))
				return 1;
		printf("%lld\n", now() - begin);
	}
	return 0;
}

/* The main() of a load whose arguments are COUNT CPU: its exit status. */
static inline __attribute__((always_inline)) int
timed_alone(int argc, char **argv, int (*step)(void *), void *argument)
{
	long count = argc == 3 ? atol(argv[1]) : 0;

	if (!count)
		return 2;
	if (pin(argv[2]))
		return 1;
	return timed(count, step, argument);
}

/* The same of one whose arguments are PATH COUNT CPU. */
static inline __attribute__((always_inline)) int
timed_on_path(int argc, char **argv, int (*step)(void *))
{
	return argc == 4 ? timed_alone(argc - 1, argv + 1, step, argv[1]) : 2;
}
