# mtask needs no building: copy the headers. This file runs demo, tests and benchmarks.
# Everything it makes lies in build/.

PREFIX ?= /usr/local
HEADERS := $(wildcard mtask*.h)
SOURCES := $(HEADERS) $(wildcard examples/*.[ch] tests/*.[ch] tests/*.cpp tests/bench/*.[ch])
VERSION = $(shell sed -n 's/^\# *define MTASK_VERSION_STRING *"\(.*\)"/\1/p' mtask.h)

.PHONY: help deps demo test check examples bench format format-check lint install clean
.NOTPARALLEL:

help: ## show this list
	@sed -n 's/^\([a-zA-Z%-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

deps: ## install the Debian packages that are missing (tests/packages.txt)
	@tests/deps.sh $(filter-out deps,$(MAKECMDGOALS))

demo: ## build all examples, and pack 200 MB with examples/pgzip.c, a parallel gzip
	@tests/demo.sh

test: ## run everything: all configurations, examples, lint; some minutes
	@tests/run.sh all

check: ## run the quick tests: gcc -O2 and the compile checks; under a minute
	@tests/run.sh quick

examples: ## build all examples and compare their output
	@tests/examples.sh

bench: ## run all benchmarks: build/bench.tsv and charts
	@tests/bench/run.sh

bench-%: ## run the benchmarks of one header: make bench-mtask
	@tests/bench/run.sh $*

format: ## format all C files
	clang-format -i $(SOURCES)

format-check: ## fail if a C file is not formatted
	clang-format --dry-run --Werror $(SOURCES)

lint: ## check the rules of this repository that no compiler checks
	@tests/lint.py

install: ## copy headers and mtask.pc below $(PREFIX)
	install -d '$(DESTDIR)$(PREFIX)/include' '$(DESTDIR)$(PREFIX)/lib/pkgconfig'
	install -m 644 $(HEADERS) '$(DESTDIR)$(PREFIX)/include'
	printf '%s\n' 'prefix=$(PREFIX)' 'Name: mtask' 'Version: $(VERSION)' \
	    'Description: concurrency for C in single headers' \
	    'Cflags: -I$${prefix}/include -pthread' 'Libs: -pthread' \
	    >'$(DESTDIR)$(PREFIX)/lib/pkgconfig/mtask.pc'

clean: ## delete build/
	rm -rf build
