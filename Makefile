# Commands for developers. Everything works on a fresh machine that has only Rust: what else is needed is installed
# on Debian and Ubuntu (apt, without asking), and named on other systems.

CARGO ?= cargo
# Tests mostly wait for servers, so more of them run in parallel than a small machine has cores. Not many more: nodes
# that get no CPU time flag each other as failed.
TEST_THREADS ?= 3
MATRIX_THREADS ?= 3

.DEFAULT_GOAL := help
.PHONY: help demo test test-matrix test-faults test-docker soak lint bench deb image doc tools servers matrix

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools servers ## creates, checks and removes a cluster of six local servers
	$(CARGO) build --release
	tests/demo.sh

test: tools servers ## unit, property and integration tests on the distribution's redis-server
	RUST_TEST_THREADS=$(TEST_THREADS) CARGO=$(CARGO) tests/run.sh

test-matrix: tools matrix ## the tests of the matrix on every server version
	RUST_TEST_THREADS=$(MATRIX_THREADS) REDIS_TRIB_MATRIX=1 CARGO=$(CARGO) tests/run.sh matrix

test-faults: tools matrix ## dying servers, cut connections, kill -9 at each command, on every server version
	REDIS_TRIB_FAULTS=1 $(CARGO) test --test it -- reshard_faults del_node

soak: tools matrix ## faults in random order for MINUTES=10; SEED=…, VERSION=valkey-8.1, REPLAY=FILE
	REDIS_TRIB_SOAK_MINUTES=$(or $(MINUTES),10) REDIS_TRIB_SOAK_SEED=$(SEED) REDIS_TRIB_SOAK_VERSION=$(VERSION) \
		REDIS_TRIB_SOAK_REPLAY=$(abspath $(REPLAY)) $(CARGO) test --test it -- --nocapture soak::for_as_long

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

deb: tools ## a Debian package with completions and man pages (installs cargo-deb with cargo)
	@$(CARGO) deb --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deb
	$(CARGO) build --release
	mkdir -p target/dist
	target/release/redis-trib completions bash > target/dist/redis-trib.bash
	target/release/redis-trib completions zsh > target/dist/_redis-trib
	target/release/redis-trib completions fish > target/dist/redis-trib.fish
	target/release/redis-trib man target/dist/man1
	$(CARGO) deb --no-build

IMAGE ?= redis-trib

image: tools ## a Docker image with redis-server and redis-trib (IMAGE=NAME, BASE=a Debian image)
	$(CARGO) build --release
	rm -rf target/image && mkdir -p target/image
	cp docker/Dockerfile docker/entrypoint.sh docker/login target/release/redis-trib target/image
	docker build $(if $(BASE),--build-arg BASE=$(BASE)) -t $(IMAGE) target/image

doc: tools ## the documentation, warnings denied
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --no-deps

# `ring` is partly C.
tools:
	@tests/servers.sh compiler

servers:
	@tests/servers.sh default

matrix:
	@tests/servers.sh matrix
