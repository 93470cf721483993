# Everything happens in .venv here, caches too; the system's Python is only asked to make it.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell command -v $(p) 2>/dev/null)))
BIN := .venv/bin
# No __pycache__ in the tree. What is installed in .venv keeps its own.
export PYTHONDONTWRITEBYTECODE := 1
# The theme's advertisement in every build.
export NO_MKDOCS_2_WARNING := 1

# What `make quick` runs: a part of each layer that most changes would break, in seconds.
QUICK := tests/test_settings.py tests/test_floors.py tests/test_wishes.py tests/docs tests/data tests/networks/test_layers.py tests/rl \
	tests/diffusion/test_process.py tests/learning

# What does not wait for each other runs side by side: the checks, before the tests.
MAKEFLAGS += --jobs=2

.PHONY: demo test quick lint docs docs-check notebooks oldest newest bill clean

demo: .venv/ready
	$(BIN)/reverie demo

# Another way to compile fused operations, by which the compiler takes two thirds of the time; rounding is another as well.
COMPILED = XLA_FLAGS="$$XLA_FLAGS --xla_cpu_use_fusion_emitters=false"

# The files of the few tests that are compiled as outside of the tests.
BITS = $(shell grep --recursive --files-with-matches --include '*.py' pytest.mark.bits tests)

test: .venv/ready lint docs-check
	$(COMPILED) $(BIN)/python -m pytest -n 2 --dist loadfile -m 'not bits'
	$(BIN)/python -m pytest -n 2 --dist loadfile -m bits $(BITS)

quick: .venv/ready lint
	$(COMPILED) $(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow and not bits' $(QUICK)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Into site/, to be read there.
docs: .venv/ready
	$(BIN)/mkdocs build --quiet

# A link that leads nowhere, or a page that nothing leads to, fails.
docs-check: .venv/ready
	$(BIN)/mkdocs build --quiet --site-dir .venv/cache/site

# Run from top to bottom at their own size, some ten minutes, and written with their outputs. Tests run them smaller.
notebooks: .venv/ready
	$(BIN)/python -m docs.hooks.executing docs/notebooks/*.ipynb

# uv takes seconds where pip takes minutes, but knows nothing of pip's configuration: where it finds no packages, pip does.
WANTED := --constraint constraints.txt --editable '.[dev]'

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else f"Reverie needs Python 3.11 to 3.13, and this is {v.major}.{v.minor}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(WANTED) || $(BIN)/python -m pip install --quiet $(WANTED)
	touch $@

# The tests with the oldest and with the newest versions that pyproject.toml allows, each in an environment of its own;
# what pyproject.toml leaves open is chosen by uv. TESTS names the files, all if it is empty.
oldest newest: .venv/ready
	$(PYTHON) -m venv .venv/$@
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv/$@/bin/python --resolution $(RESOLUTION_$@) --editable '.[dev]'
	$(COMPILED) .venv/$@/bin/python -m pytest -n 2 --dist loadfile -m 'not bits' $(TESTS)

RESOLUTION_oldest := lowest-direct
RESOLUTION_newest := highest

# The bill of materials of .venv, with versions and licences, as CycloneDX.
bill: .venv/ready
	mkdir -p dist
	$(BIN)/uv tool run --quiet --from 'cyclonedx-bom>=7' cyclonedx-py environment --output-reproducible --pyproject pyproject.toml -o dist/bill.json $(BIN)/python

clean:
	rm -rf .venv site
