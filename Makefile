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

# What has goroutines of its own, and state that they share. The rest is pure, or
# waits for other programs, which the race detector does not see.
RACED := queue lock store store/sqlite runner/shim runner/terraform web vcs/git vcs/transport notify hook runner

.PHONY: test
test: terraform redis lint ## run everything: linters, race detector, real Redis, end-to-end, crash and chaos tests
	@# Side by side: the end-to-end tests wait for engines most of the time. vet
	@# was done by lint.
	@./integration/with-redis.sh $(MAKE) --no-print-directory --output-sync=target -j 3 test-raced test-plain deploy

.PHONY: test-raced test-plain
test-raced:
	$(GO) test -vet=off -race -timeout 20m $(RACED:%=./%)
	$(GO) test -vet=off -race -timeout 20m -run 'TestServer|TestIdleWorker|TestClock|TestFailover' ./store/redis

# The race detector gives up on the runner's simulated day.
test-plain:
	$(GO) test -vet=off -timeout 20m -run TestADayOfDrift ./runner
	$(GO) test -vet=off -timeout 20m $$($(GO) list ./... | grep -v -x $(RACED:%=-e holdfast/%))

.PHONY: test-quick
test-quick: ## run what plain `go test ./...` runs
	$(GO) test ./...

.PHONY: lint
lint: ## check formatting, vet, and run staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

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
	cd deploy && $(GO) vet . && $(GO) test -vet=off -gcflags=all=-N .
