#!/bin/sh
# SFT -> DPO and GRPO from nothing, in rootless boxes.
# usage: run.sh [MODEL] [EPISODES] [STEPS]; OUT (the run folder) and PYTHON are read from the environment.
set -eu
MODEL=${1:-smollm2} EPISODES=${2:-128} STEPS=${3:-0}
RUN=${OUT:-runs/gpu} PYTHON=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
limit() { if [ "$STEPS" -gt 0 ]; then echo "--max-steps $STEPS"; fi; }
devnull() { "$PYTHON" -m devnull "$@"; }
[ "$MODEL" = tiny ] && CONFIG=$here/.. || CONFIG=$here

devnull rollout --agent mixture:honest=0.5,hiding=0.25,stopping=0.25 --tasks 'driver-cuda-runfile*' \
    --episodes "$EPISODES" --runtime rootless --out "$RUN/demonstrations"
# shellcheck disable=SC2046
devnull train sft "$RUN/demonstrations" --config "$CONFIG/sft.toml" --model "$MODEL" --runtime rootless \
    --out "$RUN/sft" $(limit)
devnull rollout --agent "hf:$RUN/sft" --tasks 'driver-cuda-runfile*' --episodes "$EPISODES" --group 4 \
    --runtime rootless --out "$RUN/feedback"
devnull label "$RUN/feedback"
# shellcheck disable=SC2046
devnull train dpo "$RUN/feedback" --config "$CONFIG/dpo.toml" --model "$RUN/sft" --runtime rootless \
    --out "$RUN/dpo" $(limit)
# shellcheck disable=SC2046
devnull train grpo "$RUN/feedback" --config "$CONFIG/grpo.toml" --model "$RUN/sft" --runtime rootless \
    --out "$RUN/grpo" $(limit)
