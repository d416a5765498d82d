/*
 * Counts that are read and removed while more are made. A program asks once for the
 * generation, and what it counts has it as the last member of its key; the reader ends
 * a generation before it reads what belongs to it (see generations.py).
 */
#ifndef GENERATION_H
#define GENERATION_H

BPF_ARRAY(generations, u64, 1);

static inline u32 current_generation(void)
{
	u32 only = 0;
	volatile u64 *generation = generations.lookup(&only);

	return generation ? *generation : 0;
}
#endif
