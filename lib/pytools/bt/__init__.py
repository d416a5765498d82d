"""bpftrace's language: a program's text becomes C, and a plan of what is to be done with what the C
sees.

In: a text, its parameters, a kernel. Out: an attached program, and what it prints.

Each stage is a value, and no stage knows the one after it: ``parse`` makes a tree of the text,
``expand`` takes macros and parameters out of it, ``check`` gives every node a type, ``emit`` makes
C and a plan of it, ``run`` loads, attaches and reads, ``show`` prints. A warm start begins with the
plan, which is ``kept`` with the image."""
