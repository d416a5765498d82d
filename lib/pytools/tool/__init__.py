"""What every tool has: its declaration, options, filters, and the three steps start, collect, print.

In: a command line and a tool's template. Out: an attached program, what it has collected, an exit status."""
