#!/usr/bin/env bash
# Collects what tools/gpu.py needs on a machine that reaches no package registry but has Python 3.12
# with torch, torchvision and timm:
#     tools/misc/offline_wheels.sh FOLDER     here, about 70 MB
#     python3 tools/gpu.py --wheels FOLDER    there
# OTHER=3.11 for another Python there; PYTHON=... to collect with.
set -euo pipefail
out=${1:?usage: [PYTHON=python3] [OTHER=3.12] $0 FOLDER}
python=${PYTHON:-python3}
version=${OTHER:-3.12}
mkdir -p "$out"
# published as source only; pure Python as long as torch cannot be imported where they are built
"$python" -m pip wheel -q --no-deps -w "$out" \
    onedl-mmcv==2.3.6 onedl-mmpretrain==1.3.6
platforms=(--platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64)
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version "$version" \
    --implementation cp "${platforms[@]}" -d "$out" \
    onedl-mmengine==0.10.12 addict yapf termcolor mat4py modelindex model-index ordered-set \
    importlib-metadata zipp ftfy prettytable wcwidth platformdirs click \
    rich markdown-it-py mdurl pygments torchmetrics lightning-utilities \
    scikit-image scikit-learn joblib threadpoolctl lazy-loader imageio tifffile scipy \
    opencv-python-headless matplotlib contourpy cycler fonttools kiwisolver pyparsing \
    python-dateutil six pytest pluggy iniconfig packaging
ls -l "$out"
