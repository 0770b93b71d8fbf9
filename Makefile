# Everything below sets itself up; `make` alone lists it. What you need is make and Python 3.11 or newer (`client` needs Node.js, too).

VENV := .venv
READY := $(VENV)/.installed
TYPESCRIPT := examples/typescript
PYTHON_CLIENT := examples/python
UV ?= uv
# Tests wait for databases and processes more than they compute; each process has a PostgreSQL of its own.
PROCESSES ?= 4
# Python keeps what it compiled: more than a hundred processes that the tests start would compile all of Rosterlog anew.
unexport PYTHONDONTWRITEBYTECODE
PYTHONS := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3)

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r target text; do printf '  make %-8s %s\n' "$$target" "$$text"; done

.PHONY: setup
setup: $(READY) ## Make .venv from requirements.lock (PYTHON=/path/to/python to choose one)

.PHONY: run
run: $(READY) ## Start the service with its own PostgreSQL on http://127.0.0.1:8000 (settings: docs/operations.md)
	@$(VENV)/bin/rosterlog serve $(ARGS)

.PHONY: test
test: $(READY) ## Run the tests (ARGS='tests/domain -k archive' for some of them)
	@$(VENV)/bin/python -m pytest --numprocesses $(PROCESSES) --dist worksteal $(ARGS)

.PHONY: check
check: $(READY) ## Check format, lint, types and import contracts
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

.PHONY: bench
bench: $(READY) ## Measure: NAME=append, bulk, commands, reads, rebuild, lag, audit or soak (ARGS=--json for JSON)
	@$(VENV)/bin/python -m benchmarks $(NAME) $(ARGS)

.PHONY: client
client: $(READY) $(PYTHON_CLIENT)/.venv/.installed ## Generate TypeScript and Python clients from the OpenAPI document, check and run the examples
	@$(VENV)/bin/rosterlog openapi > $(TYPESCRIPT)/openapi.json
	cd $(TYPESCRIPT) && npm ci --silent && npm run --silent generate && npm run --silent check
	cd $(PYTHON_CLIENT) && .venv/bin/openapi-python-client generate --overwrite --meta none --config generator.yml \
		--path ../../$(TYPESCRIPT)/openapi.json --output-path rosterlog_client
	cd $(PYTHON_CLIENT) && .venv/bin/mypy --config-file= --strict --explicit-package-bases roster.py calling.py rosterlog_client
	@$(VENV)/bin/python -m tests.clients

$(PYTHON_CLIENT)/.venv/.installed: $(PYTHON_CLIENT)/requirements.txt $(READY)
	@$(VENV)/bin/python -m venv $(PYTHON_CLIENT)/.venv
	@$(PYTHON_CLIENT)/.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(PYTHON_CLIENT)/requirements.txt
	@touch $@

.PHONY: wheel
wheel: $(READY) ## Build the wheel into dist, install it into an empty environment and use it there
	@rm -rf build dist
	@$(VENV)/bin/python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir dist .
	@$(VENV)/bin/python -m tests.wheel dist/*.whl

.PHONY: lock
lock: ## Resolve requirements.lock anew; pins stay where they can (ARGS=--upgrade for the newest)
	@command -v $(UV) >/dev/null || { echo 'make lock needs uv: pip install uv, or UV=/path/to/uv' >&2; exit 1; }
	@$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet $(ARGS) --output-file requirements.lock
	@{ echo '# Every dependency, extras included, for Python 3.11 and newer; made with `make lock`.'; cat requirements.lock; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock

.PHONY: clean
clean: ## Remove all that is made here, but for the data directory
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf $(TYPESCRIPT)/node_modules $(TYPESCRIPT)/openapi.json $(TYPESCRIPT)/schema.d.ts $(TYPESCRIPT)/build
	rm -rf $(PYTHON_CLIENT)/.venv $(PYTHON_CLIENT)/rosterlog_client $(PYTHON_CLIENT)/.mypy_cache
	find . -path ./data -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	@for python in $(PYTHONS); do \
		$$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo 'Rosterlog needs Python 3.11 or newer with its venv module (on Debian and Ubuntu: apt install python3-venv).' >&2; \
		echo 'None of these is: $(PYTHONS). Name another: make setup PYTHON=/path/to/python3' >&2; \
		exit 1; \
	fi; \
	echo "Making $(VENV) with $$($$python --version)"; \
	$$python -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@mkdir -p $(VENV)/imports/rosterlog
	@for folder in domain projections api migrations examples; do \
		ln -sfn ../../../$$folder $(VENV)/imports/rosterlog/$$folder; \
	done
	@touch $(READY)
