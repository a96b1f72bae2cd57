#!/bin/bash
# Five folds x three seeds of a variant as a SLURM array of single-GPU jobs:
#   sbatch --array=0-14 slurm-array.sh                     star-dagger
#   VARIANT=base sbatch --array=0-14 slurm-array.sh
# The stages before share their shards in the same way:
#   STAGE=face-analyze sbatch --array=0-7 slurm-array.sh   --backend mediapipe
# A job that was cut off goes on where it stopped when it is submitted again.
#SBATCH --job-name=fclip
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --output=fclip-%A-%a.log
set -euo pipefail

: "${FCLIP:=fclip}" "${ROOT:=fclip-data}" "${DATASET:=dfew}" "${VARIANT:=star-dagger}" "${STAGE:=train}"
: "${SLURM_ARRAY_TASK_ID:=0}" "${SLURM_ARRAY_TASK_COUNT:=1}" "${FOLDS:=5}"

if [ "$STAGE" = train ]; then
  fold=$((SLURM_ARRAY_TASK_ID % FOLDS + 1))
  seed=$((SLURM_ARRAY_TASK_ID / FOLDS))
  # shellcheck disable=SC2086  FCLIP may be several words
  exec $FCLIP train --root "$ROOT" --dataset "$DATASET" --variant "$VARIANT" --fold "$fold" --seed "$seed" --workers 7 "$@"
fi
# shellcheck disable=SC2086
exec $FCLIP "$STAGE" --root "$ROOT" --dataset "$DATASET" \
  --shard-index "$SLURM_ARRAY_TASK_ID" --num-shards "$SLURM_ARRAY_TASK_COUNT" "$@"
