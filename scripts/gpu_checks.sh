#!/bin/sh
# Checks and figures of this project on a GPU, each step with a time limit, none stopping the next.
#
#   sh gpu_checks.sh checks      the machine, GPU tests, `tiny` SFT -> DPO, GRPO and reward model, speed and memory
#   sh gpu_checks.sh smollm2     SmolLM2: SFT, then GRPO under the partial and the full view, each evaluated
#   sh gpu_checks.sh claims      the claims' jobs of rung `tiny` on the CPU cores (CLAIMS, WORKERS, BUDGET)
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
    timeout -k 5 "$limit" "$@" >"$runs/step.txt" 2>&1
    status=$?
    cat "$runs/step.txt" >>"$log"
    seconds=$(echo "$(date +%s.%N) $begin" | awk '{printf "%.1f", $1 - $2}')
    echo "{\"kind\": \"step\", \"name\": \"$name\", \"exit\": $status, \"seconds\": $seconds}" | tee -a "$results"
    grep -v '^ *$' "$runs/step.txt" | tail -n "${TAIL:-3}" | cut -c1-300
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

checks() {
    machine
    driver='driver-cuda-runfile*'
    step rollout 60 "$python" -m devnull rollout --agent mixture:honest=0.5,hiding=0.25,stopping=0.25 --tasks "$driver" \
        --episodes 128 --workers 14 --runtime "$runtime" --out "$runs/tiny"
    devnull label 30 "label $runs/tiny"
    TAIL=40 step speed 150 "$python" -m devnull.benchmarks.gpu --out "$results"
    TAIL=6 step tests 120 "$python" -m pytest -q -x -p no:cacheprovider -o filterwarnings= --timeout 100 tests/test_gpu.py
    devnull sft 60 "train sft $runs/tiny --model tiny --max-steps 48 --samples 0 --out $runs/sft"
    step feedback 60 "$python" -m devnull rollout --agent "hf:$runs/sft" --tasks "$driver" --episodes 64 --group 4 \
        --workers 14 --batch-size 64 --runtime "$runtime" --out "$runs/feedback"
    devnull label-2 30 "label $runs/feedback"
    devnull dpo 45 "train dpo $runs/feedback --model $runs/sft --max-steps 6 --samples 0 --out $runs/dpo"
    devnull reward 45 "train reward $runs/feedback --model $runs/sft --max-steps 6 --samples 0 --out $runs/reward"
    devnull grpo 60 "train grpo $runs/tiny --model $runs/sft --max-steps 4 --batch-size 32 --workers 14 --samples 0 \
        --runtime $runtime --out $runs/grpo"
}

smollm2() {
    driver='driver-cuda-runfile*' few="--split test --builds both --episodes ${EPISODES:-48} --batch-size 64 --workers 16"
    step demonstrations 60 "$python" -m devnull rollout --agent mixture:honest=0.65,hiding=0.25,verbose=0.05,stopping=0.05 \
        --tasks "$driver" --episodes 128 --workers 16 --p-hide 0.2 --runtime "$runtime" --out "$runs/run"
    devnull sft 150 "train sft $runs/run --model smollm2 --adaptation lora --epochs 2 --batch-size 8 --samples 0 --out $runs/sft"
    evaluated sft "$runs/sft"
    for view in terminal full; do
        printf 'sensors = "%s"\n[belief]\np_hide = 0.2\n' "$view" >"$runs/$view.toml"
        devnull "grpo-$view" 200 "train grpo $runs/run --model $runs/sft --evaluator $runs/$view.toml --adaptation lora \
            --max-steps ${STEPS:-6} --batch-size 32 --gradient-accumulation 2 --group 8 --workers 32 --kl-every 0 \
            --stratify-builds --samples 0 --runtime $runtime --out $runs/grpo-$view"
        evaluated "grpo-$view" "$runs/grpo-$view"
    done
    TAIL=40 step eval 60 "$python" -m devnull eval "$runs/run" --reference sft
}

evaluated() { # ARM MODEL: held-out tasks, both builds, into the same run
    # shellcheck disable=SC2086
    step "sample-$1" 60 "$python" -m devnull rollout --agent "hf:$2" --arm "$1" --tasks "$driver" $few --p-hide 0.2 \
        --runtime "$runtime" --out "$runs/run"
}

claims() {
    # shellcheck disable=SC2086
    CUDA_VISIBLE_DEVICES='' TAIL=40 step claims "${SECONDS_LIMIT:-560}" "$python" -m devnull claims run ${CLAIMS:-} --rung tiny \
        --workers "${WORKERS:-14}" --runtime "$runtime" --budget "${BUDGET:-8m}" --out "$runs/claims" \
        --ledger "$runs/ledger.jsonl"
}

case $part in checks | smollm2 | claims | machine) "$part" ;; *) sed -n '2,9s/^# \{0,1\}//p' "$0" && exit 2 ;; esac
# Weights stay there; what tells of the runs comes back.
(cd "$runs" && find . -type f -size -8M ! -name '*.safetensors' ! -name '*.pt' ! -name '*.bin' ! -name 'tokenizer*' \
    -print0 | tar --null -T - -c | xz -3 -T4 >"$out/files-$part.tar.xz")
rm -rf "$runs"
