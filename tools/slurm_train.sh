#!/usr/bin/env bash
# Train on a slurm cluster:
#   GPUS=16 GPUS_PER_NODE=8 bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [train.py arguments]
# SRUN_ARGS is passed to srun; CPUS_PER_TASK must leave room for the data-loading workers.
set -euo pipefail

if (($# < 4)); then
    echo "usage: [GPUS= GPUS_PER_NODE= CPUS_PER_TASK= SRUN_ARGS= PORT=] $0 PARTITION JOB_NAME CONFIG WORK_DIR [train.py arguments]" >&2
    exit 2
fi
gpus=${GPUS:-8}
per_node=$((gpus < ${GPUS_PER_NODE:-8} ? gpus : ${GPUS_PER_NODE:-8}))
export MASTER_PORT=${PORT:-29500}

# shellcheck disable=SC2086  # SRUN_ARGS holds several arguments
exec srun --partition="$1" --job-name="$2" --gres="gpu:$per_node" \
    --ntasks="$gpus" --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-8}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$3" \
    --work-dir "$4" --launcher slurm "${@:5}"
