# make bench   install what is measured against, and hold the tools against it
# A part of it only: make bench PARTS='start opens'

PARTS ?=

.PHONY: bench
bench:
	packaging/install-packages run bench
	$(SUDO) bench/run $(PARTS)
