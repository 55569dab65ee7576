#!/usr/bin/env bash
# One process per GPU: bash tools/dist_train.sh CONFIG GPUS [arguments of train.py]
# Several nodes, on each: NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 bash tools/dist_train.sh ...
# Without a GPU the processes run on the CPU.
set -euo pipefail

if (($# < 2)); then
    echo "usage: [NNODES= NODE_RANK= MASTER_ADDR= PORT=] $0 CONFIG GPUS_PER_NODE [train.py arguments]" >&2
    exit 2
fi
exec "${PYTHON:-python}" -m torch.distributed.run --nnodes="${NNODES:-1}" \
    --node-rank="${NODE_RANK:-0}" --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" --nproc-per-node="$2" \
    "$(dirname "$0")/train.py" "$1" --launcher pytorch "${@:3}"
