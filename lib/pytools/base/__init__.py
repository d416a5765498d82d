"""What everything stands on: errors, system calls that Python lacks, text, files kept on disk, child processes.

In: nothing of the other packages. Out: values and exceptions that all of them use."""
