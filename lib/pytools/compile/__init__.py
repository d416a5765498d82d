"""From a tool's template to an image.

In: a template, what its placeholders stand for, the facts on a kernel. Out: C for that kernel, and
the image that bcc makes of it in a child process."""
