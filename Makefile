# Everything is built with Go alone. The tests also want OpenSSH's server and a few tools, see `deps`.

GO ?= go
export CGO_ENABLED ?= 0

.PHONY: all build test race lint deps generate bench release torture audit clean

all: build

# The binary that is daemon, client and agent. It is static, as it is sent to the machines.
build:
	$(GO) build -trimpath -ldflags "-s -w" -o jobserver .

# The tests as they have to pass before anything is committed.
test: deps lint
	CGO_ENABLED=1 GORACE=atexit_sleep_ms=0 $(GO) test -race -timeout 10m ./...

lint:
	.ci/lint

# Known faults in what the program is built from: checksums, vulnerabilities, licences.
audit:
	.ci/audit

# What the tests need beside Go; it is installed when it is missing and may be.
deps:
	.ci/deps

# The records of the state, from sched/statepb/state.proto; the manual and docs/cli.md, from the grammar.
generate:
	$(GO) generate ./...

# The figures of docs/benchmarks.md, measured beside the programs that people would use instead.
bench:
	bench/run

# Archives, packages and checksums for people to download, in dist: the same bytes for the same commit.
release:
	$(GO) run ./release dist

# The long tests: power cuts, kills, cut networks. DURATION says for how long.
DURATION ?= 20m
torture: deps
	.ci/torture $(DURATION)

clean:
	rm -rf jobserver slim/*.gz dist
