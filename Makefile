# make demo and make test do all the set-up themselves; see README.md.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out/demo

.PHONY: demo test check format lint types imports protos spelling gpu gpu-tests gpu-benchmarks gpu-slice clean

demo: $(VENV)/ready
	$(BIN)/dyncity demo --out $(OUT)

# One process more than there are cores, for many tests wait. They start hundreds of commands: what is compiled is kept.
# So is memory that was freed, up to 1 GiB a process: many tests spent a fifth of their time on fresh pages.
# A process that crashes fails its test and ends the run: xdist may wait for ever for one that was started in its place.
test: $(VENV)/ready
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= \
		MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 \
		$(BIN)/pytest -n $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

check: lint types imports protos spelling

$(VENV)/ready: pyproject.toml constraints.txt $(wildcard proto/dyncity/v1/*.proto) proto/hatch_build.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	touch $@

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/mypy

imports: $(VENV)/ready
	$(BIN)/lint-imports

protos: $(VENV)/ready
	$(BIN)/buf lint proto

spelling: $(VENV)/ready
	$(BIN)/codespell

# What a machine with a GPU is for: the tests that need one, how long chunks and training steps take there, and a slice
# of training that goes on from the bundled weights (CAPTURES: what configs/anchored/gpu/captures.sh made); with
# DISTIL_MINUTES=3, that many of the slice's MINUTES make few-step weights. Each of the three ends within nine minutes,
# for machines that are lent for so long: make gpu-slice, as often as there is one, goes on from SLICE. make -k goes on
# after a test that failed; make -o .venv/ready BIN=DIR takes an environment that was made otherwise.
CAPTURES ?= out/captures
SLICE ?= out/slice
MINUTES ?= 8
gpu: gpu-tests gpu-benchmarks gpu-slice

gpu-tests: $(VENV)/ready
	$(BIN)/pytest tests/gpu

gpu-benchmarks: $(VENV)/ready
	$(BIN)/python benchmarks/chunk.py
	$(BIN)/python benchmarks/chunk.py --option compile=true
	$(BIN)/python benchmarks/training.py --stages vae --batch 32 --seconds 3
	$(BIN)/python benchmarks/training.py --stages dit --batch 32 192 --seconds 3 --compile

gpu-slice: $(VENV)/ready
	@test -d $(CAPTURES) || { echo "CAPTURES: got $(CAPTURES), expected what configs/anchored/gpu/captures.sh made"; exit 1; }
	DYNCITY=$(BIN)/dyncity WEIGHTS=models/dyncity_models/weights/anchored \
		configs/anchored/gpu/slice.sh $(CAPTURES) $(SLICE) $(MINUTES)

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) out
