# A thin front: every target calls one script or one CMake preset. docs/HACKING.md explains them.
#
# The targets that build install missing Debian packages first (as root or through sudo);
# SPW_SKIP_BOOTSTRAP=1 leaves packages alone.

PREFIX ?= /usr/local
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
MODE ?= full

.DEFAULT_GOAL := help
.PHONY: help build demo check bench install format clean

help:
	@echo 'make build             install missing packages, configure and build into build/'
	@echo 'make demo              build, then show the main features on this machine'
	@echo 'make check             all checks that CI runs; MODE=fast leaves out the long ones'
	@echo 'make bench             build, then run the benchmarks'
	@echo 'make install PREFIX=/usr/local   build and install; DESTDIR= is honoured'
	@echo 'make format            rewrite the tracked C++ files with clang-format'
	@echo 'make clean             remove every build directory'

build:
	@tools/bootstrap build
	@tools/configure release
	@cmake --build build -j $(JOBS)

demo: build
	@tools/demo

check:
	@SPW_JOBS=$(JOBS) tools/check $(MODE)

bench: build
	@tools/bootstrap bench
	@cmake -S . -B build -DSPW_BENCH=ON >/dev/null
	@cmake --build build -j $(JOBS) --target slab_bench buddy_bench
	@build/bin/bench/slab_bench
	@build/bin/bench/buddy_bench
	@bench/mount_bench.py --quick
	@bench/run

install: build
	@DESTDIR="$(DESTDIR)" cmake --install build --prefix "$(PREFIX)"

format:
	@tools/check format-write

clean:
	@rm -rf build build-asan build-check build-clang build-dev build-fuzz build-tsan
