# The entry points for people. Each installs what it needs and is missing, on Debian and Ubuntu with Swift and nothing else.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo build test lint tsan airflow-test size

# Linked with Swift's own libraries, so that the binary runs where there is no Swift.
RELEASE := -c release -Xswiftc -static-stdlib

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name what; do printf '  make %-14s%s\n' "$$name" "$$what"; done

demo: ## Show a takeover on this machine (CHILD="any command", AIRFLOW_VERSION=2.10.5, DATABASE_URL=postgresql://...)
	@scripts/demo

build: ## Build the release binary, .build/sidecar
	@scripts/install-deps build
	swift build $(RELEASE) --product sidecar
	@strip -o .build/sidecar.new "$$(swift build $(RELEASE) --show-bin-path)/sidecar"
	@mv -f .build/sidecar.new .build/sidecar
