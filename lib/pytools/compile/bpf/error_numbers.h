/* The errno(3) that programs name: no header that they include has them, and BTF neither. */
#ifndef ERROR_NUMBERS_H
#define ERROR_NUMBERS_H
#define EINTR 4
#define EAGAIN 11
#define EADDRNOTAVAIL 99
#define ECONNABORTED 103
#define EISCONN 106
#define EALREADY 114
#define EINPROGRESS 115
#define ECANCELED 125
#define ERESTARTSYS 512 /* of the kernel's own, from here on: the call will be made again */
#endif
