# The two commands are `make run` and `make test`; CONTRIBUTING.md has the others.
SHELL := /bin/bash
BIN := .venv/bin
ARGS ?=

.PHONY: install run test lint unit e2e conformance ship oldest image bundle sbom docs lock bench clean

install:
	@scripts/setup .venv requirements/dev.txt

run: install
	@$(BIN)/k8s-sdkms-plugin demo $(ARGS)

# E2E=later leaves the kube-apiserver tests to a `make e2e` of their own.
test: lint unit
	@if [[ "$(E2E)" == later ]]; then :; elif scripts/kube-apiserver path >/dev/null 2>&1; then $(MAKE) --no-print-directory e2e; \
	else echo "kube-apiserver is not built yet: make e2e builds it and runs its tests"; fi

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: install
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

e2e: install
	@scripts/e2e-setup
	E2E_REQUIRED=1 $(BIN)/pytest tests/e2e \
	  tests/unit/k8s_sdkms_plugin/render/test_systemd.py \
	  tests/contract/daemon/test_unit_sandbox.py

# The image and the host bundle: docs/image.md, docs/host-bundle.md. As root.
image: install
	@scripts/image

bundle: install
	@scripts/bundle

sbom: install
	@$(BIN)/python scripts/sbom.py

# The tests of the three.
ship: install
	$(BIN)/pytest tests/ship

# All 105 checks at full scale on our daemon; takes under ten minutes for each protection.
# Its reports, conformance-*.html and conformance-*.xml, go where REPORTS says.
REPORTS ?= .
conformance: install
	$(BIN)/k8s-sdkms-plugin conformance --self --protection local-kek --html $(REPORTS)/conformance-local-kek.html --junit $(REPORTS)/conformance-local-kek.xml
	$(BIN)/k8s-sdkms-plugin conformance --self --protection direct --html $(REPORTS)/conformance-direct.html --junit $(REPORTS)/conformance-direct.xml

# The oldest versions that pyproject.toml allows. That the kit catches bad plugins does
# not hang on them; that good ones pass it does, and is tested here as well.
oldest:
	@scripts/setup .venv-oldest requirements/oldest.txt
	.venv-oldest/bin/python -m pytest -q -k "not test_bad_plugin_is_caught"

docs: install
	$(BIN)/python scripts/generate_docs.py

lock: install
	scripts/lock

bench: install
	$(BIN)/python -m bench.daemon

clean:
	rm -rf .venv .venv-oldest .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache
