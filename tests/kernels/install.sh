#!/bin/sh
# First process in a userland whose packages are only unpacked (arm64.py): installs them, powers off.
# initramfs.sh starts it, as it starts guest.sh in a machine with tests.

# By a shell in memory: the one on the disk is replaced, and as long as somebody runs a file that is
# removed, the disk stays writable. To this shell, dpkg without a path is a part of busybox.
[ -n "$in_memory" ] || in_memory=1 exec /run/busybox sh "$0"

export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive
exec >/dev/console 2>&1
archives=/var/cache/apt/archives

mount -t proc proc /proc
mount -t tmpfs tmpfs /tmp
# Scripts must not start services.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
# base-passwd first: others look up users. Everything is unpacked, so that each script finds what it
# runs, in whatever order dpkg unpacks it again; it configures in the order of the dependencies.
dpkg="/usr/bin/dpkg --force-depends --force-unsafe-io"
if $dpkg --install $archives/base-passwd_*.deb && $dpkg --install $archives/*.deb &&
	audit=$($dpkg --audit) && [ -z "$audit" ]; then
	rm -f /usr/sbin/policy-rc.d $archives/*.deb
	umount /tmp
	sync
	mount -o remount,ro / && echo "install: done"
else
	echo "install: failed: $audit"
fi
exec /run/busybox poweroff -f
