#!/bin/bash
# One run on several GPUs of a machine: torchrun shares each step's clips among them, so that the loss is that of one
# process with the same --batch-size.
#   GPUS=4 ./torchrun.sh --variant star-dagger --clip ViT-L-14 --fold 1 --seed 0
# Several machines: NODES=2 RENDEZVOUS=host:29500, the same command on each.
set -euo pipefail

: "${GPUS:=1}" "${NODES:=1}" "${TORCHRUN:=torchrun}" "${ROOT:=fclip-data}" "${DATASET:=dfew}"
place=(--standalone)
if [ "$NODES" -gt 1 ]; then
  place=(--nnodes "$NODES" --rdzv-backend c10d --rdzv-endpoint "${RENDEZVOUS:?host:port of the first machine}")
fi
# shellcheck disable=SC2086  TORCHRUN may be several words
exec $TORCHRUN "${place[@]}" --nproc-per-node "$GPUS" -m fclip train --root "$ROOT" --dataset "$DATASET" "$@"
