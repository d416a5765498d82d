# The tests on every supported kernel, in virtual machines: docs/kernels.md. Variables are read
# from the environment, where make puts those of its command line.

KERNELS_RUN := $(PYTHON) tests/kernels/run.py

.PHONY: test-kernels test-packages-kernels compare-kernels compare-here bench-kernels kernel-images vm

# make test-kernels  the tests on all kernels, or KERNELS=6.12,7.3; TESTS='opensnoop and not json'
test-kernels:
	@packaging/install-packages run test kernels
	@$(KERNELS_RUN) test

# make compare-kernels  bcc's own tools beside ours on each kernel: docs/compared-with-bcc.md
compare-kernels:
	@packaging/install-packages kernels
	@$(KERNELS_RUN) compare

# make compare-here  the same of tools that need no kernel functions, on this machine; BESIDE=memleak
compare-here:
	@packaging/install-packages run test bench
	@$(SUDO) $(PYTHON) -B tests/kernels/compare_here.py $(BESIDE)

# make bench-kernels KERNELS=6.12  what of the bench needs kernel functions; PARTS='functions starts'
bench-kernels:
	@packaging/install-packages kernels
	@$(KERNELS_RUN) bench

# make test-packages-kernels  the Debian package, installed and run on each kernel
test-packages-kernels:
	@packaging/install-packages package kernels
	@$(KERNELS_RUN) installed

# make kernel-images  build what test-kernels needs, and run nothing
kernel-images:
	@packaging/install-packages kernels
	@$(KERNELS_RUN) images

# make vm KERNEL=7.3  a shell on that kernel
vm:
	@packaging/install-packages kernels
	@$(KERNELS_RUN) shell
