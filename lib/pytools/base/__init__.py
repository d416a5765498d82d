"""What everything stands on: errors, system calls that Python lacks, text, the cache, children.

In: nothing of the other packages. Out: values and exceptions that all of them use."""
