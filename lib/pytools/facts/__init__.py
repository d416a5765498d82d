"""What there is to trace: the kernel's types, tracepoints, functions and differences; programs' files.

In: a kernel (running or recorded), an ELF file. Out: facts on it; nothing is changed."""
