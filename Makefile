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

.PHONY: test
test: terraform lint ## run everything: linters, race detector, end-to-end and crash tests
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v -e /integration -e /runner/plan -e /runner/propose)
	@# What the end-to-end tests start are programs of their own, which the race
	@# detector does not see; on the simulated day it gives up; and two packages
	@# are pure.
	$(GO) test -timeout 20m ./integration ./runner ./runner/plan ./runner/propose

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

# A module of its own: Helm's libraries stay out of the product.
.PHONY: deploy
deploy: ## check what deploy/ has: image, Compose, systemd unit, Helm chart
	@# Without staticcheck: it would look at all of Kubernetes' packages first.
	cd deploy && $(GO) vet . && $(GO) test .
