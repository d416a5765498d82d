"""What every tool has: its declaration, options and filters, and the steps start, collect, print.

In: a command line, a template. Out: an attached program, what it collected, an exit status."""
