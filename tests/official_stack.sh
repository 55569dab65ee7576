#!/usr/bin/env bash
# Runs the tests on OpenMMLab's own releases (requirements/official.txt) instead of the forks, in an
# environment of their own, .venv-official. Arguments go to pytest; Python 3.10 or 3.11: PYTHON=...
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv-official/bin/python
openmmlab() { "$python" -m pip freeze | grep -iE '^(onedl-)?mm(engine|cv|cv-lite|pretrain|segmentation)=='; }

[ -x "$python" ] || "${PYTHON:-python3.11}" -m venv .venv-official
"$python" -m pip install -r requirements/official.txt -r requirements/runtime.txt \
    -r requirements/tests.txt
before=$(openmmlab)
"$python" -m pip install --no-build-isolation -e .
if [ "$(openmmlab)" != "$before" ]; then
    echo "Installing mmebm changed OpenMMLab's packages, from:" "$before" "to:" "$(openmmlab)" >&2
    exit 1
fi
echo "$before"
OMP_NUM_THREADS=1 timeout 1h "$python" -m pytest -n 2 --dist loadfile "$@"
