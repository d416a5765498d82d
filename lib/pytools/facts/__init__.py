"""What there is to trace: types, tracepoints, functions, differences between kernels; programs'
files.

In: a kernel (running or recorded), an ELF file. Out: facts on it; nothing is changed."""
