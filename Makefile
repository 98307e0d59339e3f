# Commands for developers. Everything works on a fresh machine that has only Rust: what else is needed is installed
# on Debian and Ubuntu (apt, without asking), and named on other systems.

CARGO ?= cargo
# Tests mostly wait for servers, so more of them run in parallel than a small machine has cores. Not many more: nodes
# that get no CPU time flag each other as failed.
TEST_THREADS ?= 6
MATRIX_THREADS ?= 6

# The optimized program that demo and manifests use. One that is named is not built: PROGRAM=target/…/redis-trib.
built := $(or $(CARGO_TARGET_DIR),target)/release/redis-trib
PROGRAM ?= $(built)
# The static program of packages and images. It starts on every Linux, whatever this machine is.
musl := $(shell uname -m)-unknown-linux-musl
static := $(or $(CARGO_TARGET_DIR),target)/$(musl)/release/redis-trib

.DEFAULT_GOAL := help
.PHONY: help demo test test-matrix servers-table test-repeat test-faults test-docker soak nightly lint bench dist test-dist manifests image image-tool doc docs pictures static program tools servers matrix

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: program servers ## creates, checks and removes a cluster of six local servers
	REDIS_TRIB=$(PROGRAM) tests/demo.sh

test: tools matrix ## unit, property and integration tests; most of them on the distribution's redis-server
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --no-fail-fast

test-matrix: tools matrix ## the tests of the matrix on every server version (MATRIX=others: on all but that of `make test`)
	RUST_TEST_THREADS=$(MATRIX_THREADS) REDIS_TRIB_MATRIX=$(or $(MATRIX),1) $(CARGO) test --no-fail-fast --test it matrix

servers-table: tools matrix ## docs/servers.md: which command ran on which server version, from the tests of the matrix
	rm -f target/ran
	RUST_TEST_THREADS=$(MATRIX_THREADS) REDIS_TRIB_MATRIX=1 REDIS_TRIB_RAN=$(CURDIR)/target/ran \
		$(CARGO) test --no-fail-fast --test it -- every_command_on_every_version reading_commands_on_scripted
	tests/servers_table.sh target/ran >docs/servers.md

test-repeat: tools matrix ## the suite N=10 times beside LOAD=2 busy loops; goes on where it stopped; tests/test-repeat.log
	RUST_TEST_THREADS=$(TEST_THREADS) CARGO=$(CARGO) tests/repeat.sh $(or $(N),10) $(or $(LOAD),2)

test-faults: tools matrix ## dying servers, cut connections, kill -9 at each command, on every server version
	REDIS_TRIB_FAULTS=1 $(CARGO) test --test it -- reshard_faults del_node

soak: tools matrix ## faults in random order for MINUTES=10; SEED=…, VERSION=valkey-8.1, REPLAY=FILE
	REDIS_TRIB_SOAK_MINUTES=$(or $(MINUTES),10) REDIS_TRIB_SOAK_SEED=$(SEED) REDIS_TRIB_SOAK_VERSION=$(VERSION) \
		REDIS_TRIB_SOAK_REPLAY=$(abspath $(REPLAY)) $(CARGO) test --test it -- --nocapture soak::for_as_long

nightly: tools matrix ## what takes too long for the gate: faults on every version, a soak of MINUTES=5 on each, the benches
	$(MAKE) test-faults
	for version in $$(tests/servers.sh list); do $(MAKE) soak MINUTES=$(or $(MINUTES),5) VERSION=$$version || exit 1; done
	$(MAKE) bench

test-docker: tools ## the walkthrough in Docker Swarm, on this machine (needs a Docker engine)
	tests/servers.sh docker
	$(MAKE) image IMAGE=redis-trib:test BASE=debian:bookworm-slim
	$(CARGO) test --test docker

lint: tools ## formatting and clippy, warnings denied (needs rustfmt and clippy)
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

bench: tools servers ## measures redis-trib and redis-cli in the same run
	$(CARGO) build --release
	benches/run.sh

dist: tools ## static program, archive, .deb, .rpm, SBOM and checksums in target/dist (TARGETS="TRIPLE…")
	dist/build.sh $(TARGETS)

test-dist: tools servers dist ## starts what `make dist` has made, and the images (needs a Docker engine)
	tests/servers.sh docker
	dist/check.sh

manifests: program ## validates docker/kubernetes.yml against the schemas of Kubernetes
	PYTHONPATH=$$(tests/servers.sh kubernetes) python3 tests/kubernetes.py docker/kubernetes.yml $(PROGRAM)

IMAGE ?= redis-trib

image: static ## a Docker image with redis-server and redis-trib (IMAGE=NAME, BASE=a Debian image, SERVER=valkey)
	docker/build.sh $(or $(SERVER),redis) $(IMAGE) $(static) $(BASE)

image-tool: IMAGE = redis-trib:tool
image-tool: static ## a Docker image with nothing but redis-trib (IMAGE=redis-trib:tool)
	docker/build.sh tool $(IMAGE) $(static)

docs: tools ## the pages of docs as a site with search, in target/book; checks generated parts, links and sentences
	$(CARGO) test --test docs
	$$(tests/servers.sh mdbook) build docs
	python3 tests/site_links.py target/book

pictures: tools servers ## draws docs/pictures anew, from what the program prints now
	$(CARGO) build --release
	fixtures/picture.sh docs/pictures

doc: tools ## the documentation of the code, warnings denied
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --no-deps

static: tools
	tests/servers.sh target $(musl)
	$(CARGO) build --release --locked --target $(musl)

program: tools
	$(if $(filter $(built),$(PROGRAM)),$(CARGO) build --release)

# `ring` is partly C.
tools:
	@tests/servers.sh compiler

servers:
	@tests/servers.sh default

matrix:
	@tests/servers.sh matrix
