# Everything here does its own set-up on a fresh Debian 12 (root, Go).
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
GO ?= go
VERSION ?=
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS := -s -w $(if $(VERSION),-X sysbox/shim/version.Version=$(VERSION)) -X sysbox/shim/version.Revision=$(REVISION)
SHIM := bin/containerd-shim-sysbox-v1
GOFUMPT := mvdan.cc/gofumpt@v0.12.0
LINT_VERSION := v2.15.0
LINT := .cache/golangci-lint-$(LINT_VERSION)

.PHONY: help install build cross check unit test fuzz test-upstream test-vm test-vm-all test-vm-6.1 test-vm-6.12 test-vm-newest test-vm-selinux vm-ready compatibility demo bench clean

# What follows "##@" is a heading of help, and what follows "##" says what a target does.
help: ## show this
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z0-9.-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ To try it (root; each does all its own set-up)

demo: install build ## boot systemd and run Docker in a system container (SHELL_IN=1: stay in it)
	$(GO) run ./tests/demo

test: install check build ## all that CI runs
	@.ci/install qemu-system-x86 e2fsprogs
	$(GO) test -json -p 2 -timeout 50m ./... | $(GO) run ./tests/summary

##@ To build it

build: ## the static binary, in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(SHIM) ./cmd/containerd-shim-sysbox-v1

cross: ## compile and vet for arm64
	GOARCH=arm64 CGO_ENABLED=0 $(GO) build ./...
	GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./...

install: ## install the packages that the other targets need
	@.ci/install

clean: ## remove bin/ and .cache/
	rm -rf bin .cache

##@ While you work on it

$(LINT):
	@mkdir -p .cache/lint
	cd /tmp && GOBIN=$(CURDIR)/.cache/lint CGO_ENABLED=0 $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv .cache/lint/golangci-lint $@

check: cross $(LINT) ## format, vet, lint (.golangci.yml has the reasons of its bans)
	@out=$$(cd /tmp && $(GO) run $(GOFUMPT) -l $(CURDIR)); test -z "$$out" || { echo "not in gofumpt's form:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(LINT) run --allow-parallel-runners ./...

unit: ## the tests that need neither root nor a network, as an ordinary user; a minute or so
	@test "$$(id -u)" != 0 || { echo "make unit is for an ordinary user: as root, tests make containers; make test runs all"; exit 1; }
	$(GO) test -short ./...

FUZZTIME ?= 1m

fuzz: ## every fuzz test in turn, for FUZZTIME each (FUZZ=pattern); make test runs their seeds
	$(GO) run ./tests/fuzz -time $(FUZZTIME) -run '$(FUZZ)'

test-upstream: install build ## the client and CRI suites of containerd alone (TEST_UPSTREAM=pattern)
	$(GO) test -count=1 -v -timeout 20m ./tests/upstream

##@ On other kernels, in a virtual machine (root)

KERNEL ?= newest
VMTESTS := ./uidmap ./runtime ./runtime/cgroup ./runtime/feature ./runtime/hooks ./runtime/image ./runtime/kill ./runtime/mount \
	./runtime/namespace ./runtime/netdev ./runtime/process ./runtime/program ./runtime/rootfs ./runtime/seccomp ./runtime/sys \
	./runtime/terminal ./runtime/trap ./shim ./shim/admin ./tests/conformance

# The machine is some ten times slower. It leaves out the end-to-end tests of inner software
# and of callers' versions, those with many containers, and those with faults at every call.
VMSKIP ?= ^(TestInner|TestDockerAsCaller|TestUpgrade|TestTwoHundredAtOnce|TestThousandInARow|TestManyAtOnce|TestOneByOne|TestCrashAmid|TestKilledShimInEveryState|TestEndWhileAway|TestFullState|TestUnwritableState)$$

test-vm: vm-ready ## the tests in a virtual machine (KERNEL=6.1, 6.12 or newest; AGAIN=pattern for some); an hour
	@$(vm-run)

test-vm-all: ## the same on all kernels, then compatibility (make -j2: two at a time)
	@$(MAKE) vm-ready && { $(MAKE) -k test-vm-6.1 test-vm-6.12 test-vm-newest; failed=$$?; $(MAKE) compatibility && exit $$failed; }

test-vm-6.1: KERNEL = 6.1
test-vm-6.12: KERNEL = 6.12
test-vm-newest: KERNEL = newest
test-vm-6.1 test-vm-6.12 test-vm-newest: vm-ready
	@$(vm-run)

SELINUXTESTS ?= ^(TestSELinux|TestTable|TestOverlay.*|TestKeyring.*|TestTreeIsLocked|TestStorage.*)$$

test-vm-selinux: vm-ready ## the tests of SELinux labels, in a machine with SELinux; some ten minutes
	$(GO) run ./tests/vm -lsm selinux -kernel $(KERNEL) -timeout 60m -test -run '$(SELINUXTESTS)' \
		./runtime/rootfs ./runtime/mount ./runtime/process ./tests/conformance ./tests/e2e | $(GO) run ./tests/summary -machine

define vm-run
mkdir -p .cache/runs; \
(failed=0; for p in "$(VMTESTS)" ./tests/e2e; do \
	skip=; test "$$p" != ./tests/e2e || skip='$(VMSKIP)'; \
	$(GO) run ./tests/vm -kernel $(KERNEL) -timeout 120m -test -run '$(AGAIN)' -skip "$$skip" $$p || failed=1; done; exit $$failed) | \
	tee .cache/runs/$(KERNEL)$(if $(AGAIN),-again).json | $(GO) run ./tests/summary -machine | sed -u 's/^/$(KERNEL): /'
endef

vm-ready: install build
	@.ci/install qemu-system-x86 e2fsprogs
	$(GO) test -timeout 60m -run '^$$' ./tests/e2e

compatibility: build ## write the tables of docs/compatibility.md from the last runs of test-vm
	$(GO) run ./tests/compatibility .cache/runs/*.json

##@ Speed

bench: install build ## compare with runc and crun (ARGS="-rounds 30"), and time trapped calls
	$(GO) run ./tests/bench $(ARGS)
	$(GO) test ./runtime/trap -run '^$$' -bench Traps -benchtime 1x
