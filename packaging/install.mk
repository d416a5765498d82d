# make install    the collection into $(DESTDIR)$(PREFIX): make install DESTDIR=/tmp/root PREFIX=/usr

PREFIX := /usr
DESTDIR :=
SHARE := $(PREFIX)/share
COLLECTION := $(SHARE)/pytools
SBIN := $(PREFIX)/sbin
MAN8 := $(SHARE)/man/man8
BASH_COMPLETIONS := $(SHARE)/bash-completion/completions
ZSH_COMPLETIONS := $(SHARE)/zsh/site-functions
DOC := $(SHARE)/doc/pytools
CACHE := /var/cache/pytools
# no: a package's own scripts compile to bytecode what it installs
BYTECODE := yes

NAMES := $(notdir $(filter-out tools/pytools,$(wildcard tools/*)))
# Of these, those that are other names for a tool.
LINKS := $(notdir $(filter-out tools/pytools,$(shell find tools -type l)))
LIBRARY = $(shell cd lib && find pytools -type f ! -path '*/__pycache__/*')
# What an installed folder has may be from another version than this one.
INSTALLED = $(notdir $(shell find '$(DESTDIR)$(COLLECTION)' -maxdepth 1 ! -type d 2>/dev/null))
INSTALL := install -p
# Started with -B, Python writes no bytecode: below $(PREFIX) nothing changes at run time.
AS_INSTALLED := sed '1s|^\#!/usr/bin/python3$$|& -B|'

.PHONY: install uninstall

install:
	$(PYTHON) -B packaging/completions.py build/completions
	install -d '$(DESTDIR)$(COLLECTION)' '$(DESTDIR)$(SBIN)' '$(DESTDIR)$(MAN8)' \
		'$(DESTDIR)$(BASH_COMPLETIONS)' '$(DESTDIR)$(ZSH_COMPLETIONS)' '$(DESTDIR)$(DOC)'
	set -e; for file in $(LIBRARY); do \
		$(INSTALL) -D -m 644 lib/$$file '$(DESTDIR)$(COLLECTION)'/$$file; done
	set -e; for name in $(filter-out $(LINKS),$(NAMES)); do \
		$(AS_INSTALLED) tools/$$name >'$(DESTDIR)$(COLLECTION)'/$$name; \
		chmod 755 '$(DESTDIR)$(COLLECTION)'/$$name; done
	set -e; for name in $(LINKS); do cp -P --remove-destination tools/$$name '$(DESTDIR)$(COLLECTION)'; done
	$(AS_INSTALLED) sbin/pytools >'$(DESTDIR)$(SBIN)/pytools'
	chmod 755 '$(DESTDIR)$(SBIN)/pytools'
	$(INSTALL) -m 644 man/man8/*.8 '$(DESTDIR)$(MAN8)'
	$(INSTALL) -m 644 build/completions/pytools.bash '$(DESTDIR)$(BASH_COMPLETIONS)/pytools'
	for name in $(NAMES); do ln -sf pytools '$(DESTDIR)$(BASH_COMPLETIONS)'/$$name; done
	$(INSTALL) -m 644 build/completions/_pytools '$(DESTDIR)$(ZSH_COMPLETIONS)/_pytools'
	$(INSTALL) -m 644 README.md CHANGELOG.md LICENSE docs/*.md docs/*.svg '$(DESTDIR)$(DOC)'
ifeq ($(BYTECODE),yes)
	$(PYTHON) -I -m compileall -q -f --invalidation-mode checked-hash \
		-s '$(DESTDIR)' -p / '$(DESTDIR)$(COLLECTION)/pytools'
endif

# make uninstall  remove what install wrote there, and root's cache
uninstall:
	for name in $(INSTALLED) pytools; do \
		rm -f '$(DESTDIR)$(MAN8)'/$$name.8 '$(DESTDIR)$(MAN8)'/$$name.8.gz \
			'$(DESTDIR)$(BASH_COMPLETIONS)'/$$name; done
	rm -f '$(DESTDIR)$(ZSH_COMPLETIONS)/_pytools' '$(DESTDIR)$(SBIN)/pytools'
	rm -rf '$(DESTDIR)$(COLLECTION)' '$(DESTDIR)$(DOC)'
# A tool that still runs may put a file there at this moment.
	-rm -rf '$(DESTDIR)$(CACHE)'
