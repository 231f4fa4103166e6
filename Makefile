# Each target sets up .venv when it is missing. CORES=8 uses more cores (reproduce, test), PYTHON=python3.12 another Python.
PYTHON ?= python3
CORES ?= 2
COVERAGE :=
# Exact versions that install without a GPU. For your GPU's build of torch: install it into .venv first and set
# CONSTRAINTS= to nothing (docs/installation.md).
CONSTRAINTS ?= --constraint constraints.txt

BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: reproduce reproduce-all test faults cluster coverage check bench clean

reproduce: .venv/ready
	snakemake --cores $(CORES)
	@echo "The report is results/report.html"

# Every pair that trains itself: GPT-2, BERT, Llama, and a GPT-2 beside a DistilBERT.
reproduce-all: .venv/ready
	sed -i.before 's/^pairs: .*/pairs: [mini, mini_bert, mini_llama, mini_mismatched]/' params.yaml && rm params.yaml.before
	@echo "params.yaml: pairs has all pairs that train themselves; git checkout params.yaml undoes it"
	snakemake --cores $(CORES)
	@echo "The report is results/report.html"

test: .venv/ready
	@# Files side by side, each in one process: its tests share what they made. The longest begin (tests/conftest.py).
	@# One process more than cores, for some wait for what they have started.
	HF_HUB_OFFLINE=1 python -m pytest --numprocesses $$(($(CORES) + 1)) --dist loadfile --no-loadscope-reorder $(COVERAGE)

# The same, and which lines of src/ were run: a third slower.
coverage: COVERAGE := --cov distilled_circuits --cov-report term-missing:skip-covered --cov-fail-under 90
coverage: test

# All rows of docs/reliability.md, half an hour: KILLS=100 SEED=7 for more kills at other moments.
faults: .venv/ready
	LONG=1 KILLS=$(or $(KILLS),30) SEED=$(or $(SEED),0) HF_HUB_OFFLINE=1 python -m pytest tests/test_faults.py tests/test_failures.py tests/test_agreement.py tests/test_rerun_matrix.py

# The whole graph through a Slurm of one node that the test starts, a quarter of an hour: apt-get install slurm-wlm munge
cluster: .venv/ready
	LONG=1 HF_HUB_OFFLINE=1 python -m pytest tests/test_slurm.py

check: .venv/ready
	ruff check .
	ruff format --check .
	@# Snakemake wants a conda environment for each rule; here .venv is the one environment (docs/decisions.md).
	! snakemake --lint 2>&1 | grep '^ *\* ' | grep --invert-match 'conda environment'

bench: .venv/ready
	HF_HUB_OFFLINE=1 python benchmarks/run.py

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "Installing into .venv: a few minutes the first time"
	$(BIN)/pip install --disable-pip-version-check --progress-bar off --quiet $(CONSTRAINTS) torch
	$(BIN)/pip install --disable-pip-version-check --progress-bar off --quiet $(CONSTRAINTS) --editable ".[dev]"
	touch .venv/ready

clean:
	rm -rf .venv .snakemake logs
