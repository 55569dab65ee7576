#!/usr/bin/env bash
# Train with one process per GPU: bash tools/dist_train.sh CONFIG GPUS [arguments of train.py]
# Several nodes, on each: NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 bash tools/dist_train.sh ...
# Without a GPU the processes train on the CPU.
set -euo pipefail

if (($# < 2)); then
    echo "usage: [NNODES= NODE_RANK= MASTER_ADDR= PORT=] $0 CONFIG GPUS_PER_NODE [train.py arguments]" >&2
    exit 2
fi
config=$1
gpus=$2
shift 2

exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node-rank="${NODE_RANK:-0}" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" \
    --nproc-per-node="$gpus" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
