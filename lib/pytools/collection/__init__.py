"""The tools as a collection: which there are, what each needs, which of them work on this machine.

In: the folder of the tools. Out: their names, areas and sentences."""
