"""What bpftrace's programs print: values as text and as JSON, formats, maps with their graphs.

In: bytes of records and maps, and the plan's types. Out: bpftrace's text, or its JSON lines."""
