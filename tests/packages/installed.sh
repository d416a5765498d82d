#!/bin/sh
# What must hold where pytools is installed. Runs as root on a clean system: by chroot
# (make test-packages), or in a machine of its own. Nothing of the repository is needed.
set -eu
export LC_ALL=C.UTF-8
collection=/usr/share/pytools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail()
{
	echo "installed: $*" >&2
	exit 1
}

state()
{
	find /usr -printf '%p %s %T@\n' | sort | cksum
}

[ "$(command -v gcc cc clang || true)" = '' ] || fail 'there is a compiler'
[ ! -e "/lib/modules/$(uname -r)/build/include" ] || fail 'there are kernel headers'
before=$(state)

# Estimated milliseconds at each length: all CPUs' seconds, less what an idle one skips.
$collection/runqlen -m 1 1 >"$work/out" 2>"$work/err" || fail "runqlen: $(cat "$work/err")"
total=$(awk '$2 == ":" && $3 ~ /^[0-9]+$/ { sum += $3 } END { print sum + 0 }' "$work/out")
most=$(($(getconf _NPROCESSORS_ONLN) * 1500))
[ "$total" -gt 0 ] && [ "$total" -le "$most" ] || fail "runqlen: $total ms on all CPUs in 1 s"

# Some opens for it to see, until it has ended.
while :; do : <"$work/out"; sleep 0.01; done &
opener=$!
$collection/opensnoop -d 2 2>"$work/err" | head -5 >"$work/out" || fail 'opensnoop'
kill $opener
[ "$(wc -l <"$work/out")" -eq 5 ] || fail "opensnoop: $(cat "$work/out" "$work/err")"
[ "$(head -1 "$work/out" | awk '{ print $1 }')" = PID ] || fail 'opensnoop: no heading'
[ ! -s "$work/err" ] || fail "opensnoop | head: $(cat "$work/err")"

# The opens of one process, every one: it waits until opensnoop has attached.
mkfifo "$work/go"
echo content >"$work/known"
sh -c 'read -r line <"$0/go"; for i in 1 2 3 4 5 6 7; do : <"$0/known"; done' "$work" &
known=$!
$collection/opensnoop -v --json -p $known >"$work/out" 2>"$work/err" &
snoop=$!
until grep -q 'Ctrl-C' "$work/err"; do
	kill -0 $snoop || fail "opensnoop: $(cat "$work/err")"
	sleep 0.1
done
echo go >"$work/go"
wait $known
kill -INT $snoop 2>/dev/null || kill -TERM $snoop
wait $snoop || fail 'opensnoop ended with an error'
[ "$(grep -c "\"$work/known\"" "$work/out")" -eq 7 ] || fail "opensnoop: $(cat "$work/out")"

# A second start finds the first one's image.
$collection/runqlen -v -d 0 2>&1 | grep -q 'image .* from /var/cache/pytools' || fail 'cache'

pytools >"$work/out"
for name in runqlen opensnoop filelife; do
	grep -q "^  $name " "$work/out" || fail "pytools does not list $name"
done
pytools runqlen --version | grep -q "^$(pytools --version)\$" || fail 'pytools runqlen'
pytools doctor >"$work/out" 2>"$work/err" || true
grep -Eq '^runqlen +yes' "$work/out" || fail "pytools doctor: $(cat "$work/out" "$work/err")"
[ ! -s "$work/err" ] || fail "pytools doctor: $(cat "$work/err")"

if command -v man >/dev/null; then
	for page in runqlat pytools; do
		# Bytes are what awk counts.
		LC_ALL=C MANWIDTH=80 man -P cat $page >"$work/out" 2>"$work/err" || fail "man $page"
		grep -q '^NAME' "$work/out" || fail "man $page"
		[ "$(awk 'length > widest { widest = length } END { print widest }' "$work/out")" -le 80 ] ||
			fail "man $page is wider than 80 columns"
	done
fi

# As after Tab: what completes any command loads what completes this one.
if [ -e /usr/share/bash-completion/bash_completion ]; then
	cat >"$work/complete" <<-'END'
		. /usr/share/bash-completion/bash_completion
		loader=$(complete -p -D | sed 's/.*-F \([^ ]*\).*/\1/')
		$loader "$1" || [ $? -eq 124 ] || exit
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
		_pytools
		echo "${COMPREPLY[@]}"
	END
	for command in runqlat $collection/runqlat; do
		found=$(bash "$work/complete" "$command" --milli)
		[ "$found" = --milliseconds ] || fail "completion of $command: $found"
	done
	[ "$(bash "$work/complete" pytools opensn)" = opensnoop ] || fail 'completion of pytools'
fi

[ "$(state)" = "$before" ] || fail 'something below /usr has changed'
