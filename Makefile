# Every target does its own set-up: a virtual environment in .venv with the versions of constraints.txt.

PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: quickstart test test-fast test-faults test-system check format docs bench bench-smoke bench-gpu install install-dev clean

quickstart: $(VENV)/.installed
	$(BIN)/orchestrate study studies/quickstart.yaml $(ARGS)

# Two files of tests side by side, one thread each: more threads than cores only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test: $(VENV)/.installed-dev
	$(PYTEST) -m "not gpu and not system and not faults" $(ARGS)

# A quarter of an hour on two idle cores: every fault that docs/faults.md names and make test has no time for.
test-faults: $(VENV)/.installed-dev
	$(PYTEST) -m "faults and not gpu and not system" $(ARGS)

# On a machine with Slurm or PostgreSQL (Debian: slurm-wlm munge postgresql): some minutes; what is missing is skipped with a reason.
test-system: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m system $(ARGS)

test-fast: $(VENV)/.installed-dev
	$(PYTEST) -m "not gpu and not slow and not system and not faults" $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A quarter of an hour on two idle cores: trials an hour against other ways to run them. Data sets lie in DATA.
# With ARGS="--setting best --rounds 2", three quarters of an hour, and every figure has a spread.
DATA ?= $(or $(ORCHESTRATE_DATA),data)

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.throughput --data $(DATA) $(ARGS)

# Under a minute, on drawn images: that the benchmark runs, not what it would find.
bench-smoke: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.throughput --drawn --images 128 --only many peak help --trials 3 --rounds 1 \
		--setting 2,1,0 --peak-batch 4 $(ARGS)

bench-gpu: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.gpu --data $(DATA) $(ARGS)

# docs/losses.md and docs/study-file.md, from the code.
docs: $(VENV)/.installed
	$(BIN)/python docs/generate.py

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and was not found; name one: make PYTHON=/path/to/python3.12"; exit 2; }
	@echo "installing into $(VENV) with $(PYTHON): once, a few minutes (PyTorch is large)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info
