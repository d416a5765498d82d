"""Into the kernel: maps are created, programs are loaded and attached.

In: an image, numbers that are put in now. Out: a Program, with its maps."""
