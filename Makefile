# `make help` lists what there is.
SHELL := /bin/bash
GO ?= go
BIN := bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X main.version=$(VERSION)

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 14

.PHONY: build
build: ## build bin/holdfast (static, no C)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/holdfast ./cmd/holdfast

.PHONY: demo
demo: ## play the whole story on this machine and stay up (Ctrl-C ends it)
	$(GO) run ./cmd/holdfast demo

# What is tested with the race detector, which makes tests many times slower: what
# has goroutines of its own, and state that they share. The rest is pure, or waits
# for other programs, which the race detector does not see.
RACED := queue lock store store/sqlite runner/shim runner/terraform web vcs/git vcs/transport notify hook runner
# Tests among these in which one goroutine computes for long, or which have more
# goroutines than the race detector can count. They run without it.
SLOW := TestADayOfDrift|TestPastIsShort|TestManyStatuses|TestNotifyInOneMessage|TestDueSlotOverAYear|TestChangedPathsOfTreeBomb|TestStore/Queue/Model|TestMemoryQueue/Model
WITH_SLOW := ./runner ./store/sqlite ./queue ./vcs/git
# Compilers and linters that collect less garbage: memory is there, time is not.
GC := GOGC=400
# go test has -vet=off because lint vets, and both would do all dependencies.

.PHONY: test
test: terraform redis ## run everything: linters, race detector, real Redis, end-to-end, crash and chaos tests
	@# Two at a time: the end-to-end tests mostly wait, while the others compute.
	@# lint and deploy come later, and find compiled what they need.
	@./integration/with-redis.sh $(MAKE) --no-print-directory -j 2 $(filter --output-sync,$(.FEATURES:%=--%)) test-plain test-raced lint deploy

.PHONY: test-plain
test-plain:
	$(GC) $(GO) test -vet=off -timeout 20m $$($(GO) list ./... | grep -v -x $(RACED:%=-e holdfast/%))
	$(GC) $(GO) test -vet=off -timeout 20m -run '$(SLOW)' $(WITH_SLOW)

# GORACE: a process with the race detector would sleep a second at its end, also
# each shim and each provider that a test starts.
.PHONY: test-raced
test-raced: export GORACE = atexit_sleep_ms=10
test-raced:
	$(GC) $(GO) test -vet=off -race -timeout 20m -skip '$(SLOW)' $(RACED:%=./%)
	$(GC) $(GO) test -vet=off -race -timeout 20m -run 'TestServer|TestIdleWorker|TestClock|TestFailover' -skip Model ./store/redis

.PHONY: test-quick
test-quick: ## run what plain `go test ./...` runs
	$(GO) test ./...

.PHONY: lint
lint: ## check formatting, vet, and run staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }
	$(GC) $(GO) vet ./...
	$(GC) $(GO) tool staticcheck ./...

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (10s) each
	./integration/fuzz.sh $(or $(FUZZTIME),10s)

.PHONY: bench
bench: terraform ## measure the queue, also beside asynq, and a pull request beside plain Terraform
	$(GO) test -run '^$$' -bench . -benchtime 1s ./store/sqlite
	$(GO) test -run '^$$' -bench PullRequest -benchtime 1x ./integration
	cd bench && $(GO) run .

# The tests need a real Terraform.
.PHONY: terraform
terraform:
	@command -v terraform >/dev/null || { echo "terraform is not on PATH; install it (1.11 or newer) and try again"; exit 1; }

# The tests start it themselves.
.PHONY: redis
redis:
	@command -v redis-server >/dev/null || { echo "installing redis-server"; \
		if command -v apt-get >/dev/null; then \
			export DEBIAN_FRONTEND=noninteractive; sudo=$$([ $$(id -u) = 0 ] || echo sudo); \
			{ $$sudo apt-get update -q && $$sudo apt-get install -y -q --no-install-recommends redis-server; } >/dev/null; \
			$$sudo service redis-server stop >/dev/null 2>&1 || true; \
		else echo "redis-server is not on PATH; install it (7.0 or newer) and try again"; exit 1; fi; }

# A module of its own: Helm's libraries stay out of the product.
.PHONY: deploy
deploy: ## check what deploy/ has: image, Compose, systemd unit, Helm chart
	@# Without staticcheck: it would look at all of Kubernetes' packages first.
	@# Without optimising what Helm brings along, which would take longer than it saves.
	cd deploy && $(GC) $(GO) vet . && $(GC) $(GO) test -vet=off -gcflags=all=-N .
