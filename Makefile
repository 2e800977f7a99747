# The few commands of this project. `make ci` is the whole gate.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

BUF_VERSION := v1.75.0
GOLANGCI_LINT_VERSION := v2.15.0
GRPCURL_VERSION := v1.9.4
BENCHSTAT_VERSION := v0.0.0-20260908200009-22c9c6c9d4da

TOOLS := $(CURDIR)/bin/tools
TESTFLAGS ?=
# A number of inputs, not a time: the go command may fail a run whose time ends within an input.
FUZZTIME ?= 50000x
# make bench BENCH=Forward BENCHCOUNT=8 > new.txt; bin/tools/benchstat old.txt new.txt
BENCH ?= .
BENCHTIME ?= 200ms
BENCHCOUNT ?= 1
# make bench-table TABLEFLAGS="--rows 20x100 --sizes constant --rounds 5 --duration 20s"
TABLEFLAGS ?=

.PHONY: build run setup test bench chaos bench-go bench-table gen gen-check lint fuzz tidy-check tools ci clean

build: ## all programs, to bin/
	go build -o bin/ ./cmd/...

run: build ## build and start everything for development
	@echo "voice channels: http://localhost:$${PORT:-8425}/ (open it in two tabs; Ctrl-C stops it)"
	@exec bin/supervisor

setup: ## what the tests need, when it is missing
	@e2e/setup

# Never from the cache: the go command does not see which programs e2e starts.
test: setup ## all tests, with the race detector
	go test -race -count=1 -parallel 4 -timeout 40m $(TESTFLAGS) ./...
	go test -count=1 -timeout 5m $(TESTFLAGS) -run '^TestManyUsers$$' ./e2e # at full size: no race detector

bench: bench-go bench-table ## all measurements, in about four minutes

bench-go: ## Go benchmarks, for benchstat
	@go test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) -count $(BENCHCOUNT) -timeout 30m \
		$$(grep -rl --include='*_test.go' '^func Benchmark' . | grep -v node_modules | xargs -n1 dirname | sort -u)

bench-table: build ## real processes under several loads, in turns with a bare sending loop
	@bin/loadgen table $(TABLEFLAGS)

# Some eight minutes. CHAOSFLAGS=--targets makes missed times failures, too.
chaos: build ## kill workers and supervisors of a call of 200 users, and report what they heard of it
	bin/chaos $(CHAOSFLAGS)

gen: $(TOOLS)/buf ## make all generated files again: protobuf code and the page's bundle
	$(TOOLS)/buf generate
	@e2e/setup
	npm run --silent --prefix supervisor/page build

gen-check: ## the generated files are those of their sources
	@before=$$(mktemp -d); trap 'rm -rf "$$before"' EXIT; \
	cp -r proto supervisor/page/dist "$$before"; \
	$(MAKE) --no-print-directory gen; \
	diff -r "$$before/proto" proto; diff -r "$$before/dist" supervisor/page/dist; \
	echo "generated files are up to date"

lint: $(TOOLS)/buf $(TOOLS)/golangci-lint ## all static checks
	$(TOOLS)/buf lint
	$(TOOLS)/buf format --diff --exit-code
	$(TOOLS)/golangci-lint fmt --diff
	go vet ./...
	$(TOOLS)/golangci-lint run
	@e2e/setup
	npm run --silent --prefix supervisor/page check

fuzz: ## every fuzz target for FUZZTIME inputs
	@for package in $$(grep -rl --include='*_test.go' '^func Fuzz' . | grep -v node_modules | xargs -n1 dirname | sort -u); do \
		for target in $$(grep -hoE '^func Fuzz\w+' "$$package"/*_test.go | cut -c6-); do \
			echo "fuzz $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$package"; \
		done; \
	done

tidy-check: ## go.mod and go.sum are those of the code
	go mod tidy -diff

tools: $(TOOLS)/buf $(TOOLS)/golangci-lint $(TOOLS)/grpcurl $(TOOLS)/benchstat ## pinned tools, to bin/tools

$(TOOLS)/buf: Makefile
	GOBIN=$(TOOLS) go install github.com/bufbuild/buf/cmd/buf@$(BUF_VERSION)
	@touch $@
$(TOOLS)/golangci-lint: Makefile
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@touch $@
$(TOOLS)/grpcurl: Makefile
	GOBIN=$(TOOLS) go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION)
	@touch $@
$(TOOLS)/benchstat: Makefile
	GOBIN=$(TOOLS) go install golang.org/x/perf/cmd/benchstat@$(BENCHSTAT_VERSION)
	@touch $@

ci: ## the whole gate
	$(MAKE) --no-print-directory build gen-check lint tidy-check
	$(MAKE) --no-print-directory test
	$(MAKE) --no-print-directory fuzz
	$(MAKE) --no-print-directory bench-go BENCHTIME=1x

clean:
	rm -rf bin
