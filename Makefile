# Two commands do everything on a fresh machine: `make bench` and `make test`.
PYTHON  ?= python3
VENV    ?= .venv
GRID    ?= demo
RESULTS ?= results/$(GRID)
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
# Each process of a grid or of the tests takes one core; threads on top of that only get in each other's way.
export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL := help
.PHONY: help install bench smoke test gpu lint format docs pictures speed wheel clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(READY) ## make .venv with the pinned versions

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("mmfuse needs Python 3.11 or newer; this is " + sys.version.split()[0] + " (make PYTHON=python3.11 ...)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

bench: $(READY) ## run a grid and print its table (GRID=demo; any of benchmarks/grids, or a file)
	@$(BIN)/mmfuse-bench --grid $(GRID) --results $(RESULTS)

smoke: $(READY) ## run the smallest grid, in under two minutes
	@$(BIN)/mmfuse-bench --grid smoke --results results/smoke

test: $(READY) ## run the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --quiet

gpu: $(READY) ## run the tests that need a GPU, one after the other
	$(BIN)/python -m pytest --numprocesses=0 --quiet -m gpu -rs tests/gpu

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## build the documentation into build/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

pictures: $(READY) ## make the pictures of the documentation anew, from a run of half an hour (needs chromium)
	@$(BIN)/python docs/making/pictures.py

speed: $(READY) ## measure how fast, against what (SPEED=--quick: two minutes; else some two hours)
	@$(BIN)/python benchmarks/speed $(SPEED)

wheel: $(READY) ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## remove the environment and what was built (results are kept)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache
