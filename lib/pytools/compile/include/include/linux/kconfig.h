/*
 * Read first in every program that bcc compiles. It stands for the kernel's
 * file of the same name: bcc wants to know only that bpf(2) exists.
 */
#ifndef PYTOOLS_LINUX_KCONFIG_H
#define PYTOOLS_LINUX_KCONFIG_H

#define CONFIG_BPF_SYSCALL 1

#include <linux/types.h>

#endif
