#!/usr/bin/env bash
# Runs the tests on OpenMMLab's own releases (requirements/official.txt) instead of the forks, in an
# environment of their own, .venv-official. Arguments go to pytest; Python 3.10 or 3.11: PYTHON=...;
# workers: WORKERS=... A run of all tests that came to its end is recorded in
# tests/data/official_stack.txt, which is committed and shown by every other run of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv-official/bin/python
openmmlab() { "$python" -m pip freeze | grep -iE '^(onedl-)?mm(engine|cv|cv-lite|pretrain|segmentation)=='; }

[ -x "$python" ] || "${PYTHON:-python3.11}" -m venv .venv-official
"$python" -m pip install -r requirements/official.txt -r requirements/runtime.txt \
    -r requirements/demo.txt -r requirements/tests.txt
before=$(openmmlab)
"$python" -m pip install --no-build-isolation -e .
if [ "$(openmmlab)" != "$before" ]; then
    echo "Installing mmebm changed OpenMMLab's packages, from:" "$before" "to:" "$(openmmlab)" >&2
    exit 1
fi
echo "$before"
# The record of the run before may be of other pins.
old=tests/test_compat.py::test_official_releases_were_run_with_what_is_pinned
log=.venv-official/tests.log status=0
OMP_NUM_THREADS=1 timeout 3h "$python" -m pytest -n "${WORKERS:-2}" --dist loadfile --deselect $old "$@" |
    tee "$log" || status=$?
if [ $# = 0 ] && [ $status -le 1 ]; then # all of them, passed or failed; above 1: interrupted
    pinned=$(sed -nE 's/^([a-z-]+)==.*/\1/p' requirements/official.txt | paste -sd '|')
    { echo "$(date +%F), $("$python" --version): $(tail -n 1 "$log")"
        "$python" -m pip freeze --all | grep -E "^($pinned)=="; } > tests/data/official_stack.txt
fi
exit $status
