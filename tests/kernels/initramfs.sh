#!/bin/busybox sh
# First process of a test machine: finds the userland's disk and hands over to guest.sh.
# The initramfs holds this file, guest.sh, job.sh, a static busybox and the modules that the disks need.

/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

# Their names carry the order in which one needs the other.
for module in /modules/*; do
	[ -f "$module" ] && insmod "$module"
done

# Disks are found by their serial numbers: the order of vda, vdb, … is the kernel's affair.
disk() {
	for block in /sys/block/vd*; do
		[ "$(cat "$block/serial")" = "$1" ] && echo "/dev/${block##*/}"
	done
}

mount -t ext4 "$(disk userland)" /root || exit 1
mount -t tmpfs -o mode=755 run /root/run
cp /bin/busybox /guest.sh /job.sh /root/run/
for name in kernel checkout scratch; do
	ln -s "$(disk $name)" "/root/run/disk-$name"
done
umount /proc
mount --move /sys /root/sys
mount --move /dev /root/dev
exec switch_root /root /bin/sh /run/guest.sh
