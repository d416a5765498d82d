# make deb        build/deb/pytools_VERSION_all.deb
# make rpm        build/rpm/pytools-VERSION-1.noarch.rpm
.PHONY: deb rpm test-packages

deb rpm:
	packaging/install-packages package
	packaging/package $@

# make test-packages  install both in clean Debian roots (SUITES='bookworm sid'), run, upgrade, remove
test-packages:
	packaging/install-packages run package kernels
	$(SUDO) $(PYTHON) tests/packages/in_roots.py $(SUITES)

# make session    record docs/session.svg anew, the picture of the README
.PHONY: session
session:
	$(SUDO) $(PYTHON) -B packaging/session.py
