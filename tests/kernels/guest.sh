#!/bin/sh
# First process in the userland of a test machine: sets up what the tests count on, runs them, hands
# the results over, powers off. job.sh, written for each run, says what to do: row, release, options,
# action (test, compare, bench, installed or shell), tests (bench: parts) and seconds (from the start),
# compiler (host, or none for the machine itself), rows and columns; of a test, the modules with the
# tests, the marks that select them, and the units that are proved and need not run (units.py).

. /run/job.sh
# The first process has its environment from the kernel's command line and from the initramfs.
unset COLUMNS LINES OLDPWD SHLVL
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=linux
export PYTOOLS_KERNEL="$row" PYTOOLS_SCRATCH=/scratch

end() {
	sync
	exec /run/busybox poweroff -f
}
# Told apart from a test's failure by the host: a machine that isn't what the table says must prove nothing.
broken() {
	echo "guest: $*" >/dev/console
	end
}

mount -t proc proc /proc
mkdir -p /dev/pts /dev/shm /scratch /pytools /run/kernel /run/lock /run/results
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
for link in fd:/proc/self/fd stdin:/proc/self/fd/0 stdout:/proc/self/fd/1 stderr:/proc/self/fd/2; do
	[ -e "/dev/${link%%:*}" ] || ln -s "${link#*:}" "/dev/${link%%:*}"
done

mount -t ext4 -o ro /run/disk-kernel /run/kernel || broken "cannot mount the kernel's disk"
for directory in lib/modules boot usr/src; do
	[ -d "/run/kernel/$directory" ] || continue
	mkdir -p "/$directory"
	mount --bind "/run/kernel/$directory" "/$directory"
done
case $(uname -r) in
"$release".*) ;;
*) broken "kernel $(uname -r) runs in the row $row" ;;
esac

mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs securityfs /sys/kernel/security
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for controller in cpu memory io pids; do
	echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
grep -qw cpu /sys/fs/cgroup/cgroup.subtree_control || broken "no cpu controller in cgroup v2"

case " $options " in
*" no-btf "*) mount -t tmpfs -o ro tmpfs /sys/kernel/btf ;;
*) [ -s /sys/kernel/btf/vmlinux ] || broken "no BTF" ;;
esac
case " $options " in
*" headers "*) [ -d "/lib/modules/$(uname -r)/build/include" ] || broken "no kernel headers" ;;
*) [ ! -e "/lib/modules/$(uname -r)/build/include" ] || broken "kernel headers in a row without them" ;;
esac
case " $options " in
*" real-time "*) [ "$(cat /sys/kernel/realtime 2>/dev/null)" = 1 ] || broken "no real-time kernel" ;;
esac

modprobe virtio_console 2>/dev/null # built in since 6.x
for module in veth loop; do
	modprobe $module || broken "no module $module"
done
ip link set lo up
hostname "pytools-$(echo "$row" | tr . -)"
mount -t ext4 /run/disk-scratch /scratch || broken "cannot mount the scratch disk"
tar -C /pytools -xf /run/disk-checkout || broken "cannot unpack the checkout"
cd /pytools || broken "no checkout"

# A port's name comes from QEMU some time after the port.
port() {
	for attempt in 1 2 3 4 5 6 7 8 9 10; do
		for entry in /sys/class/virtio-ports/*; do
			[ "$(cat "$entry/name" 2>/dev/null)" = "$1" ] && echo "/dev/${entry##*/}" && return
		done
		sleep 0.5
	done
	broken "no virtio port $1"
}

if [ "$action" = shell ]; then
	stty -F /dev/console rows "$rows" cols "$columns" 2>/dev/null
	echo "pytools: $(uname -r), $(. /etc/os-release; echo "$PRETTY_NAME"); the checkout is here, /scratch is a disk; leave with exit."
	# A controlling terminal, for Ctrl-C: the console itself can't be one.
	setsid -c -w bash -l </dev/ttyS0 >/dev/ttyS0 2>&1
	end
fi

if [ "$action" = compare ]; then
	set -- tests/kernels/compare.py /run/results/comparison.json
elif [ "$action" = bench ]; then
	# shellcheck disable=SC2086
	set -- bench/run --emulated --table /run/results/bench.txt $tests
elif [ "$action" = installed ]; then # a Debian package
	set -- -m pytest -v -p no:cacheprovider --junitxml=/run/results/junit.xml -o junit_family=xunit2
	set -- "$@" tests/packages/in_machine.py
else
	# -v: should the machine die, the last line names the test.
	set -- -m pytest -v --durations=40 -o cache_dir=/run/pytest -o faulthandler_timeout=300
	set -- "$@" -o junit_family=xunit2 -p tests.kernels.units
	# shellcheck disable=SC2086
	set -- "$@" $modules -m "$marks"
	[ -n "$tests" ] && set -- "$@" -k "$tests"
	echo "$proved" >/run/proved
	export PYTOOLS_PROVED=/run/proved
fi
if [ "${compiler:-}" = host ]; then
	ln -s "$(port compiler)" /run/compiler
	# Users without root compile, too.
	touch /run/compiler.lock
	chmod 666 /run/compiler.lock /run/compiler
	own=lib/pytools/compile/compiler_child.py
	mv $own "${own%.py}_here.py"
	cp tests/kernels/compile_client.py $own
fi
output=$(port output)
results=$(port results)
echo "guest: tests start" >/dev/console
# -u, and not PYTHONUNBUFFERED, which the tools would inherit.
# Interrupted in time, pytest still says what it knows.
in_time() {
	timeout --signal=INT --kill-after=30 $((seconds - $(cut -d. -f1 /proc/uptime))) \
		/usr/bin/python3 -u "$@" 2>&1 </dev/null
}
if [ "$action" = test ]; then
	# To have asserts tell their values, pytest rewrites each file: half of what it takes to read them all.
	in_time "$@" --junitxml=/run/results/junit.xml --assert=plain --showlocals
	status=$?
	# Emulated processors stand still now and then. What has failed runs once more, and the table tells.
	[ $status -ne 1 ] || in_time "$@" --junitxml=/run/results/again.xml --last-failed
else
	in_time "$@"
	status=$?
fi >"$output"
echo $status >/run/results/status
echo "guest: tests end" >/dev/console
tar -C /run/results -cf "$results" .
end
