"""Values as text for people and as JSON lines, CSV, flame graphs for programs.

In: values and a description of their columns. Out: standard output, or a file."""
