# make demo        train a detector on generated receipts and show its score
# make test        run all tests            make lint   ruff, mypy, import-linter
# make test-quick  run the quick ones       make docs   build the documentation
# make bench       measure speeds           make gpu    measure a GPU
# All of them set up .venv first, once. Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
PEERS  := paddleocr==2.7.3 python-doctr==1.1.0 openocr-python==0.1.5 mmocr==1.0.1 rapidocr==3.10.0 cleval==0.1.1 Polygon3 imgaug==0.4.0 \
	scikit-image anyascii colorlog lazy_loader packaging networkx six
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: demo test test-quick lint format bench bench-peers gpu soak docs clean
.DEFAULT_GOAL := help

help:
	@sed -n '1,5s/^# //p' Makefile

$(VENV)/runtime.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Try: make PYTHON=python3.11"; exit 1; }
	@echo "==> creating $(VENV) and installing ocrsdk (a few minutes the first time: PyTorch is large)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/runtime.stamp
	@echo "==> installing the tools for tests, lint and docs"
	@$(PIP) -e '.[dev]'
	@touch $@

demo: $(VENV)/runtime.stamp
	@echo "==> generating demo pages: receipts and rotated words with exact polygons"
	@$(BIN)/ocrsdk data synth demo-data --pages 160 --val-pages 40 --seed 1 --exist-ok
	@echo "==> training for at most 4 minutes"
	@rm -rf runs/demo
	@$(BIN)/ocrsdk train demo-data --max-time 4m --run-dir runs/demo
	@echo "==> evaluating the best checkpoint"
	@$(BIN)/ocrsdk evaluate runs/demo/checkpoints/best.ckpt demo-data

test: $(VENV)/dev.stamp
	@echo "==> running all tests, one process for each core (ten to fourteen minutes on two; the quick ones alone: make test-quick)"
	@$(PYTEST) $(ARGS)

test-quick: $(VENV)/dev.stamp
	@echo "==> running the quick tests, one process for each core (a minute and a half on two)"
	@$(PYTEST) -m "not slow" $(ARGS)

lint: $(VENV)/dev.stamp
	@echo "==> ruff, mypy, import-linter"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/dev.stamp
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/dev.stamp
	@echo "==> measuring; leave the machine alone meanwhile"
	@$(BIN)/python -m tests.bench $(ARGS)

bench-peers: $(VENV)/dev.stamp
	@echo "==> installing the peers into .peers, without what they depend on; measuring beside them"
	@test -d .peers || $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --target .peers $(PEERS)
	@$(BIN)/python -m tests.bench.peers $(ARGS)

gpu: $(VENV)/dev.stamp
	@echo "==> measuring the GPU, at most six minutes; figures go to gpu.json"
	@$(BIN)/python -m tests.gpu $(ARGS)

soak: $(VENV)/dev.stamp
	@echo "==> ending 200 commands at random, and damaging 10,000 images: half an hour"
	@OPENCV_LOG_LEVEL=SILENT $(BIN)/python -W ignore -m tests.soak $(ARGS)

docs: $(VENV)/dev.stamp
	@echo "==> building the documentation into site/"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) .peers site demo-data runs
