# The entry points for people. Each installs what it needs and is missing, on Debian and Ubuntu with Swift and nothing else.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-all build lint size tsan fuzz airflow-test simulate search compare-guard chaos test-deploy image

# Linked with Swift's own libraries, so that the binary runs where there is no Swift.
RELEASE := -c release -Xswiftc -static-stdlib
LIMIT_MB := 20

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name what; do printf '  make %-14s%s\n' "$$name" "$$what"; done

demo: ## Show a takeover on this machine (CHILD="any command", AIRFLOW_VERSION=2.10.5, DATABASE_URL=postgresql://...)
	@scripts/demo

# What a contributor waits for: a quarter of an hour on two cores, builds and all.
TEST := lint build size unit simulation guardmodel corpus endtoend
# The same, with more worlds and new inputs for the fuzzers, and what takes long, root, containers or PyPI.
TEST_ALL := lint build size unit worlds guardmodel endtoend probe fuzz airflow deploy chaos tsan

test: ## Test a change: lint, unit tests, simulation, guard model, fuzzers' corpus, fault matrix (STEPS="unit endtoend" for less)
	@scripts/install-deps build postgres tests tools
	@scripts/test $(or $(STEPS),$(TEST))

test-all: ## Test everything: that, long fuzzing, real Airflow, containers, chaos, ThreadSanitizer (an hour)
	@scripts/install-deps build postgres tests tools
	@FUZZ_SECONDS=$(or $(SECONDS),60) scripts/test $(TEST_ALL)

build: ## Build the release binary, .build/sidecar
	@scripts/install-deps build
	swift build $(RELEASE) --product sidecar
	@strip -o .build/sidecar.new "$$(swift build $(RELEASE) --show-bin-path)/sidecar"
	@mv -f .build/sidecar.new .build/sidecar

lint: ## Check layout and house rules
	@scripts/install-deps build tools
	@scripts/lint

size: build ## Fail when the release binary is over 20 MB
	@size=$$(stat -c %s .build/sidecar); echo ".build/sidecar: $$((size / 1000)) kB"; \
	((size <= $(LIMIT_MB) * 1000000)) || { echo "over $(LIMIT_MB) MB" >&2; exit 1; }

simulate: ## Simulate worlds of faults, then break every rule (SEEDS=1000000, OPTIONS="--seed 7" to replay one)
	@scripts/install-deps build
	@scripts/simulate $(if $(SEEDS),--seeds $(SEEDS)) $(OPTIONS)

search: ## Search every interleaving of a small world (FAULTS=2, OPTIONS="--broken marginZero" for one broken rule)
	@scripts/install-deps build
	@scripts/search $(if $(FAULTS),--faults $(FAULTS)) $(OPTIONS)

compare-guard: ## Compare the simulation's guard with real ones (SCHEDULES=10000, OPTIONS="--replay 7" for one)
	@scripts/install-deps build
	@scripts/compare-guard $(if $(SCHEDULES),--schedules $(SCHEDULES)) $(OPTIONS)

tsan: ## Run the unit tests under ThreadSanitizer
	@scripts/install-deps build postgres tests tools
	@scripts/test tsan

fuzz: ## Fuzz what is parsed, each target for a minute (SECONDS=600, TARGETS="database wire")
	@scripts/install-deps build
	@FUZZ_SECONDS=$(or $(SECONDS),60) scripts/fuzz $(TARGETS)

airflow-test: build ## Prove fail-over with real Airflow (AIRFLOW_VERSIONS="2.10.5 3.3.2")
	@Tests/Airflow/run $(AIRFLOW_VERSIONS)

image: ## Build the container image sidecar:VERSION (or sidecar-airflow: TARGET=airflow ARGS="--build-arg AIRFLOW_VERSION=2.10.5", ENGINE=docker)
	@version=$$(sed -n 's/.*current = "\(.*\)"/\1/p' Sources/Text/Version.swift | head -n 1); \
	$(or $(ENGINE),$(shell command -v podman docker | head -n 1)) build --target $(or $(TARGET),sidecar) \
		--build-arg "VERSION=$$version" --build-arg "REVISION=$$(git rev-parse HEAD)" \
		--build-arg "SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct)" --tag "sidecar$(addprefix -,$(filter-out sidecar,$(TARGET))):$$version" $(ARGS) .

test-deploy: build ## Run what ships in containers: image, compose, charts, unit (PARTS="image chart")
	@scripts/install-deps deploy postgres
	@Tests/Deploy/run $(PARTS)

chaos: build ## Random faults against real sidecars, as root (FAULTS=1000 or FOR=600, SEED=..., STAGE=replicated|patroni|pgbouncer)
	@scripts/install-deps build postgres tests tools chaos
	swift build
	SIDECAR_BINARY=.build/sidecar .build/debug/chaos $(if $(FAULTS),--faults $(FAULTS)) $(if $(FOR),--seconds $(FOR)) \
		$(if $(SEED),--seed $(SEED)) $(if $(STAGE),--stage $(STAGE))
