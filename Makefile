# make test is all there is to know; the rest are its parts and the long checks.
GO       ?= go
GOLANGCI  = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0
PACKAGES  = ./...

.PHONY: test build fmt-check vet lint race allocs deps bench chaos fuzz fuzz-wire cluster-test slow

test: deps fmt-check vet lint race allocs fuzz-wire ## everything a change must pass

build: ## ./drover
	CGO_ENABLED=0 $(GO) build -trimpath -o drover ./cmd/drover

deps: ## what the integration tests need, where it can be installed
	@scripts/install-test-deps

fmt-check:
	@out=$$(gofmt -l . | grep -v node_modules || true); if [ -n "$$out" ]; then echo "not formatted (gofmt -w):"; echo "$$out"; exit 1; fi

vet:
	$(GO) vet $(PACKAGES)
	GOOS=darwin $(GO) build -o /dev/null ./cmd/drover # developers' machines

lint:
	$(GO) run $(GOLANGCI) run

race: ## all tests with the race detector, in random order; those that run side by side mostly wait
	$(GO) test -race -shuffle=on -parallel 4 -timeout 14m $(PACKAGES)

allocs: ## tests that count allocations, which the race detector would falsify
	$(GO) test -run 'Alloc' $(PACKAGES)

fuzz: ## each fuzzer for FUZZTIME (default 1m)
	@scripts/fuzz $${FUZZTIME:-1m}

fuzz-wire: ## those of what clients and servers send, for FUZZTIME (default 20s)
	@scripts/fuzz $${FUZZTIME:-20s} ./proxy/front/... ./transport

bench: ## one of three servers goes bad: drover beside nginx, HAProxy and Caddy
	$(GO) run ./bench/faults -out bench/FAULTS.md

chaos: ## kill, add, drain, reload and re-register under load, for CHAOSTIME (default 2m)
	TEST_CHAOS=$${CHAOSTIME:-2m} $(GO) test -count=1 -timeout 30m -run TestNothingFails ./cmd/drover

cluster-test: ## ZooKeeper's own tests, repeated
	$(GO) test -race -count=5 -timeout 30m ./discovery/zookeeper/...

slow: deps ## slowhttptest with 1,000 connections in its four modes, each for SLOWTIME (default 60s)
	TEST_SLOW=$${SLOWTIME:-60s} $(GO) test -count=1 -v -timeout 30m -run TestSlowClients ./cmd/drover
