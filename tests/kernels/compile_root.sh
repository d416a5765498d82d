#!/bin/sh
# Starts compile_server.py or bytecode.py on the host, in a machine's userland, with its checkout:
#
#   unshare --mount compile_root.sh USERLAND KERNEL CHECKOUT DIRECTORY SCRIPT
#
# USERLAND and KERNEL are disk images, CHECKOUT is a tar file, DIRECTORY an empty one. What is
# mounted here is gone with the process.
set -eu
userland=$1 kernel=$2 checkout=$3 root=$4/root script=$5

mount -t tmpfs -o mode=755 tmpfs "$4"
mkdir "$4/userland" "$4/kernel" "$4/upper" "$4/work" "$root"
mount -o loop,ro "$userland" "$4/userland"
mount -o loop,ro "$kernel" "$4/kernel"
mount -t overlay -o "lowerdir=$4/userland,upperdir=$4/upper,workdir=$4/work" overlay "$root"

# Where bcc looks for the headers of the running kernel, which here is the host's.
modules=$root/lib/modules/$(uname -r)
mkdir -p "$modules" "$root/usr/src" "$root/pytools"
mount --bind "$4/kernel/lib/modules/"* "$modules"
[ ! -d "$4/kernel/usr/src" ] || mount --bind "$4/kernel/usr/src" "$root/usr/src"

tar -C "$root/pytools" -xf "$checkout"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec chroot "$root" /usr/bin/python3 "/pytools/tests/kernels/$script"
