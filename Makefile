# make test                    all tests; ARGS='tests/test_models -x' goes to pytest
# make test-fast               the same without those marked slow, for the time between two edits
# make test-official           the same on OpenMMLab's own releases, in .venv-official
# make quickstart              pretrain for a few minutes, look at the result
# make quickstart DATA=FOLDER  the same on your images
# make campaign                break runs on purpose, for half an hour (docs/reliability.md); SHARE=0.1 for a part
# make lint, make format       check the code, or put it into shape
# make clean                   remove the environment and what was built, not your work_dirs
#
# Each target first makes the environment .venv if it is not there: with PYTHON=... if given, else
# the first Python >= 3.10 found. It belongs to make, which replaces it when requirements/ change.
# Paths are relative, so that the checkout may lie anywhere.

PY := .venv/bin/python
# Written last, so that an interrupted set-up is not taken for a finished one. It holds what the
# environment was made for: a moved checkout needs another, since it is linked by absolute path.
STAMP := .venv/.complete
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): force
endif
ifneq ($(and $(PYTHON),$(wildcard $(STAMP))),)
ifneq ($(shell "$(PYTHON)" -c 'import sys; print(sys.version)'),$(shell $(PY) -c 'import sys; print(sys.version)'))
$(STAMP): force
endif
endif

.PHONY: test test-fast test-official campaign quickstart lint format clean force

# One thread per worker: several threads of torch in each only wait for each other. Three, since some
# tests wait for processes of their own.
# A file goes to one worker: what its tests share is made once.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test: $(STAMP)
	$(PYTEST) $(ARGS)

test-fast: $(STAMP)
	$(PYTEST) -m 'not slow' $(ARGS)

test-official:
	tests/official_stack.sh $(ARGS)

campaign: $(STAMP)
	CAMPAIGN=$(or $(SHARE),1) OMP_NUM_THREADS=1 $(PY) -m pytest -v tests/campaign $(ARGS)

quickstart: $(STAMP)
	$(PY) tools/quickstart.py $(if $(DATA),--data "$(DATA)")

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(STAMP)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf .venv .venv-official build dist mmebm.egg-info mmebm/.mim .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): setup.py $(wildcard requirements/*.txt)
	@set -eu; \
	for python in $(if $(PYTHON),"$(PYTHON)",python3.11 python3.12 python3.10 python3 python); do \
	    if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; \
	    then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	    echo "$(if $(PYTHON),$(PYTHON) is no,Found no) Python >= 3.10 with its venv module;" \
	        "name one: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	echo "Setting up .venv with $$("$$found" --version); this downloads some GB once."; \
	"$$found" -m venv --clear .venv; \
	if $(PY) -c 'import platform, sys; sys.exit((sys.version_info[:2], sys.platform, platform.machine()) != ((3, 11), "linux", "x86_64"))'; \
	then \
	    $(PY) -m pip install -r requirements/lock.txt; \
	else \
	    echo "requirements/lock.txt is for Python 3.11 on Linux x86-64: taking the newest versions" \
	        "within the ranges of requirements/ instead."; \
	    $(PY) -m pip install -r requirements/runtime.txt -r requirements/onedl.txt \
	        -r requirements/demo.txt -r requirements/tests.txt; \
	fi; \
	$(PY) -m pip install --no-deps --no-build-isolation -e .; \
	printf '%s\n' "$(CURDIR)" > $(STAMP)
