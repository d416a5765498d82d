/*
 * bcc overrides LINUX_VERSION_CODE where it must; no template of ours asks.
 * The number is the oldest kernel that pytools supports: bcc uses it only to
 * choose between spellings of its own macros.
 */
#ifndef PYTOOLS_LINUX_VERSION_H
#define PYTOOLS_LINUX_VERSION_H

#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)

#endif
