#ifndef VERIFIER_H
#define VERIFIER_H
/* Else clang compares a copy of it, from which the verifier learns nothing. */
#define KEEP(variable) asm volatile("" : "+r"(variable))

/*
 * Leaves a number as it is, but the verifier knows nothing of it any more: else it
 * goes through a loop again for each range that the number may have there, which
 * took seconds. (Another number, of which it knows nothing, is put in and out.)
 */
#define FORGET(number, unknown) \
	asm volatile("%0 ^= %1\n\t%0 ^= %1" : "+r"(number) : "r"(unknown))
#endif
