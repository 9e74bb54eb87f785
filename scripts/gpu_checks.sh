#!/bin/sh
# Checks and figures of this project on a GPU, each step with a time limit, none stopping the next.
#
#   sh gpu_checks.sh checks      the machine, then speed, tests and training one after the other
#   sh gpu_checks.sh speed       speed and memory of models of real shapes, random weights (SHAPES)
#   sh gpu_checks.sh tests       the tests that need a GPU
#   sh gpu_checks.sh training    `tiny`: SFT -> DPO, reward model and GRPO
#   sh gpu_checks.sh smollm2     SmolLM2: SFT, then GRPO under the partial and the full view side by side, each evaluated
#                                (STEPS, EPISODES; MODEL=tiny tries the script on a CPU)
#   sh gpu_checks.sh claims      the claims' jobs (CLAIMS, SEEDS, WORKERS, BUDGET): rung `tiny` on the CPU cores, or on
#                                the card RUNG=smollm2-gpu
#
# Into OUT (default runs/gpu-checks): `log-PART.txt`, `results-PART.jsonl` (a line a step and a line a figure) and
# `files-PART.tar.xz`, the run folders without weights. PYTHON: default python3. RUNTIME: default rootless.
set -u
part=${1:-checks}
out=${OUT:-runs/gpu-checks} python=${PYTHON:-python3} runtime=${RUNTIME:-rootless}
mkdir -p "$out"
out=$(cd "$out" && pwd)
log=$out/log-$part.txt results=$out/results-$part.jsonl
runs=$(mktemp -d "${TMPDIR:-/tmp}/devnull-gpu-$part-XXXXXX")
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false PYTHONWARNINGS=ignore

step() { # NAME SECONDS COMMAND…: its output goes to the log, its last lines to the terminal
    name=$1 limit=$2 && shift 2
    begin=$(date +%s.%N)
    printf '\n===== %s: %s\n' "$name" "$*" >>"$log"
    timeout -k 5 "$limit" "$@" >"$runs/$name.txt" 2>&1
    status=$?
    cat "$runs/$name.txt" >>"$log"
    seconds=$(echo "$(date +%s.%N) $begin" | awk '{printf "%.1f", $1 - $2}')
    echo "{\"kind\": \"step\", \"name\": \"$name\", \"exit\": $status, \"seconds\": $seconds}" | tee -a "$results"
    grep -v '^ *$' "$runs/$name.txt" | tail -n "${TAIL:-3}" | cut -c1-300
    return "$status"
}
devnull() { step "$1" "$2" "$python" -m devnull $3; }

machine() {
    step machine 20 nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
    TAIL=20 step versions 60 "$python" -c '
import importlib.metadata as m, sys, os, torch
print(sys.version.split()[0], os.cpu_count(), "cores;", torch.__version__, "cuda", torch.cuda.is_available())
for name in "transformers trl peft accelerate datasets pyarrow bitsandbytes pydantic huggingface_hub numpy".split():
    print(name, m.version(name))
import datasets, trl, peft, docker, tree_sitter_bash
if tuple(map(int, m.version("pyarrow").split(".")[:1])) < (24,):
    print("pyarrow is older than datasets", m.version("datasets"), "wants (24)")'
    step namespaces 10 unshare --user --map-root-user --mount --pid --fork true
    # Where boxes cannot be made, everything that needs them says so in its own step.
    TAIL=6 step box 60 "$python" -m devnull exec --runtime "$runtime" --task driver-cuda-runfile 'id -u; uname -r; ls /nowhere 2>/dev/null'
}

checks() { machine; speed; tests; training; }

speed() {
    # shellcheck disable=SC2086
    TAIL=40 step speed 200 "$python" -m devnull.benchmarks.gpu --shapes ${SHAPES:-0.5B 1.5B 8B} --out "$results"
}

tests() {
    TAIL=6 step tests 120 "$python" -m pytest -q -x -p no:cacheprovider -o filterwarnings= --timeout 100 tests/test_gpu.py
}

training() {
    driver='driver-cuda-runfile*'
    step rollout 60 "$python" -m devnull rollout --agent mixture:honest=0.5,hiding=0.25,stopping=0.25 --tasks "$driver" \
        --episodes 128 --workers 14 --runtime "$runtime" --out "$runs/tiny"
    devnull label 30 "label $runs/tiny"
    devnull sft 60 "train sft $runs/tiny --model tiny --max-steps 48 --samples 0 --out $runs/sft"
    devnull grpo 180 "train grpo $runs/tiny --model $runs/sft --max-steps 4 --batch-size 32 --workers 14 --samples 0 \
        --runtime $runtime --out $runs/grpo" &
    step feedback 90 "$python" -m devnull rollout --agent "hf:$runs/sft" --tasks "$driver" --episodes 64 --group 4 \
        --workers 14 --batch-size 64 --runtime "$runtime" --out "$runs/feedback"
    devnull label-2 30 "label $runs/feedback"
    devnull dpo 45 "train dpo $runs/feedback --model $runs/sft --max-steps 6 --samples 0 --out $runs/dpo"
    devnull reward 45 "train reward $runs/feedback --model $runs/sft --max-steps 6 --samples 0 --out $runs/reward"
    wait
}

smollm2() {
    driver='driver-cuda-runfile*' few="--split test --builds both --episodes ${EPISODES:-96} --batch-size 64 --workers 64"
    step demonstrations 60 "$python" -m devnull rollout --agent mixture:honest=0.65,hiding=0.25,verbose=0.05,stopping=0.05 \
        --tasks "$driver" --episodes 128 --workers 16 --p-hide 0.2 --runtime "$runtime" --out "$runs/run"
    devnull sft 150 "train sft $runs/run --model ${MODEL:-smollm2} --adaptation lora --epochs 2 --batch-size 8 --samples 0 --out $runs/sft"
    evaluated sft "$runs/sft" &
    for view in terminal full; do
        printf 'sensors = "%s"\n[belief]\np_hide = 0.2\n' "$view" >"$runs/$view.toml"
        devnull "grpo-$view" "${GRPO_SECONDS:-240}" "train grpo $runs/run --model $runs/sft --evaluator $runs/$view.toml --adaptation lora \
            --max-steps ${STEPS:-6} --batch-size 32 --gradient-accumulation 2 --group 8 --workers 64 --kl-every 0 \
            --stratify-builds --samples 0 --runtime $runtime --out $runs/grpo-$view" &
    done
    wait
    for view in terminal full; do evaluated "grpo-$view" "$runs/grpo-$view" & done
    wait
    for view in terminal full; do
        TAIL=40 step "eval-$view" 60 "$python" -m devnull eval "$runs/held-out-grpo-$view" --reference "$runs/held-out-sft"
    done
}

evaluated() { # ARM MODEL: held-out tasks, both builds
    # shellcheck disable=SC2086
    step "sample-$1" 90 "$python" -m devnull rollout --agent "hf:$2" --arm "$1" --tasks "$driver" $few --p-hide 0.2 \
        --runtime "$runtime" --out "$runs/held-out-$1"
}

claims() {
    # shellcheck disable=SC2086
    [ "${RUNG:-tiny}" != tiny ] || export CUDA_VISIBLE_DEVICES=''
    # shellcheck disable=SC2086
    TAIL=40 step claims "${SECONDS_LIMIT:-560}" "$python" -m devnull claims run ${CLAIMS:-} --rung "${RUNG:-tiny}" \
        ${SEEDS:+--seeds "$SEEDS"} --workers "${WORKERS:-14}" --runtime "$runtime" --memory "$runs/world.jsonl" \
        --budget "${BUDGET:-8m}" --out "$runs/claims" --ledger "$runs/ledger.jsonl"
}

case $part in checks | machine | speed | tests | training | smollm2 | claims) "$part" ;; *) sed -n '2,14s/^# \{0,1\}//p' "$0" && exit 2 ;; esac
# Weights stay there; what tells of the runs comes back.
(cd "$runs" && find . -type f -size -8M ! -name '*.safetensors' ! -name '*.pt' ! -name '*.bin' ! -name 'tokenizer*' \
    -print0 | tar --null -T - -c | xz -3 -T4 >"$out/files-$part.tar.xz")
rm -rf "$runs"
