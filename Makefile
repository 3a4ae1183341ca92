SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# One set of flags for building, testing and linting, so that each package is
# compiled once for all of them.
export GOFLAGS := $(shell go env GOFLAGS) -trimpath

BIN      := build/isthmus
TOOLS    := build/bin
LINT     := $(TOOLS)/golangci-lint
ENVOY    := $(TOOLS)/envoy-1.40.0
FUZZTIME ?= 30s
BENCH    ?= .
PKG      ?= ./...

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the one binary, build/isthmus
	CGO_ENABLED=0 go build -ldflags "-s -w" -o $(BIN) ./cmd/isthmus

.PHONY: demo
demo: build ## two datacenters behind mesh gateways on this machine, until Ctrl-C
	$(BIN) demo

.PHONY: dev
dev: build ## one node in development mode, until Ctrl-C
	$(BIN) agent -dev

.PHONY: test
test: build ## unit and cluster tests, the checks of the tree, the demo checking itself
	go test $(PKG)
	$(BIN) demo -exit

.PHONY: race
race: ## the same tests with the race detector; needs a C compiler
	go test -race $(PKG)

.PHONY: examples
examples: build envoy ## run every example, which ends by proving itself, with each kind of gateway
	for run in examples/*/run.sh; do for gateway in builtin envoy; do \
		ISTHMUS=$(CURDIR)/$(BIN) ENVOY=$(CURDIR)/$(ENVOY) GATEWAY=$$gateway "$$run"; \
	done; done

.PHONY: cover
cover: ## how much of the code the tests reach; build/cover.html
	@mkdir -p build
	go test -coverpkg=./api/...,./internal/... -coverprofile=build/cover.out $(PKG)
	go tool cover -html=build/cover.out -o build/cover.html
	go tool cover -func=build/cover.out | tail -n 1

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (30s); their seeds run in every test
	grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's|/[^/]*:func | |' | \
	while read -r dir target; do \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$dir" < /dev/null; \
	done

.PHONY: lint
lint: $(LINT) ## every linter that .golangci.yml does not switch off
	$(LINT) run

.PHONY: fmt
fmt: $(LINT) ## format the code
	$(LINT) fmt
	$(LINT) run --fix --enable-only tagalign

.PHONY: docs
docs: ## write the generated documents under docs/
	go test -count=1 -run '^TestGeneratedDocumentsAreCurrent$$' ./internal/order ./internal/wire -update

.PHONY: certs
certs: ## make the certificates in test/hostname anew
	go test -count=1 -run '^TestFixtures$$' ./test/hostname -update

.PHONY: resolved
resolved: build/resolved/lib/systemd/systemd-resolved ## unpack systemd-resolved for its test, from Debian's packages
build/resolved/lib/systemd/systemd-resolved:
	mkdir -p build/resolved && cd build/resolved && apt-get download -qq systemd-resolved libsystemd-shared && \
		for package in *.deb; do dpkg -x $$package .; done && rm *.deb && touch lib/systemd/systemd-resolved

.PHONY: clients
clients: build ## run clients that others wrote against one agent; needs Python, Node, a JDK, Maven
	ISTHMUS=$(CURDIR)/$(BIN) test/clients/run

.PHONY: bench
bench: ## ten runs of the benchmarks of PKG that match BENCH, into build/bench.txt
	@mkdir -p build
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count 10 $(PKG) | tee build/bench.txt

.PHONY: bench-diff
bench-diff: $(TOOLS)/benchstat ## compare two files that make bench wrote: OLD and NEW (build/bench.txt)
	$(TOOLS)/benchstat $(or $(OLD),$(error OLD names no file)) $(or $(NEW),build/bench.txt)

.PHONY: size
size: build ## bytes of the binary, and lines of code and of tests in each package
	@stat -c '%s bytes %n' $(BIN)
	@for dir in $$(go list -f '{{.Dir}}' ./...); do \
		printf '%6d %6d %s\n' \
			"$$(find "$$dir" -maxdepth 1 -name '*.go' ! -name '*_test.go' -exec cat {} + | wc -l)" \
			"$$(find "$$dir" -maxdepth 1 -name '*_test.go' -exec cat {} + | wc -l)" "$${dir#$(CURDIR)/}"; \
	done

# A run of the whole length leaves its report in the tree, a shorter one does not.
SOAK        ?= 30m
# builtin, envoy or mixed; the faults that are drawn, 0 for others each time
SOAK_GATEWAYS ?= builtin
SOAK_SEED     ?= 0
SOAK_REPORT   ?= $(if $(filter 30m,$(SOAK)),docs/reports/soak.md,build/soak.md)

.PHONY: soak
soak: build ## break a federation for SOAK (30m) while requests run across; needs root
	@mkdir -p $(dir $(SOAK_REPORT))
	ISTHMUS_BINARY=$(CURDIR)/$(BIN) ISTHMUS_MUST_SOAK=1 \
		go test ./internal/cli -run '^TestSoak$$' -count=1 -timeout 0 -v -soak $(SOAK) \
		-soak-gateways $(SOAK_GATEWAYS) -soak-seed $(SOAK_SEED) -soak-report $(CURDIR)/$(SOAK_REPORT)

.PHONY: check
check: test race lint examples ## all that a change must pass

.PHONY: tools
tools: $(LINT) $(TOOLS)/benchstat envoy ## build and install the tools at the versions pinned in tools/

$(LINT): tools/go.mod
	cd tools && GOBIN=$(CURDIR)/$(TOOLS) go install -ldflags "-s -w" github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

$(TOOLS)/benchstat: tools/go.mod
	cd tools && GOBIN=$(CURDIR)/$(TOOLS) go install -ldflags "-s -w" golang.org/x/perf/cmd/benchstat
	@touch $@

.PHONY: envoy
envoy: ## install the Envoys that tests run against; needs Python
	tools/envoy.sh $(TOOLS)
