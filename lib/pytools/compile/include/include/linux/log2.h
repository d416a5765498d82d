/* For the size that bcc gives a stack map: a constant. */
#ifndef PYTOOLS_LINUX_LOG2_H
#define PYTOOLS_LINUX_LOG2_H

#define roundup_pow_of_two(n) ((n) <= 1 ? 1 : 1 << (32 - __builtin_clz((n) - 1)))

#endif
