"""Out of the kernel: records of ring buffers, counters, histograms, stacks, names of functions.

In: the maps of a loaded program. Out: Python values."""
