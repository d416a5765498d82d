/* What the loads share: a clock, and the CPU that they run on. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <time.h>

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
