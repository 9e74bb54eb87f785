"""Speed and memory of models of real shapes with random weights: tokens a second and kernels a token of the rollout's
decoder with the adapters as they are and merged, and the seconds and memory of a gradient with and without
checkpointing. No weights and no boxes are needed.

usage: python -m devnull.benchmarks.gpu [--shapes 0.5B 1.5B 8B] [--rows 16 64] [--new-tokens 64] [--out FILE.jsonl]
"""

import argparse
import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config

from devnull.agents.local import LocalModel
from devnull.training.models import LoadedPolicy
from devnull.training.settings import SFTSettings
from devnull.training.tiny import build_tiny_model

VOCABULARY = 151_936
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
MIB = 1 << 20


def shapes() -> dict[str, Any]:
    """Configurations by name: Qwen2.5's and Qwen3's shapes, and one for trying this on a CPU."""
    qwen2 = {"vocab_size": VOCABULARY, "tie_word_embeddings": True, "num_key_value_heads": 2}
    return {
        "toy": Qwen2Config(
            hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            **qwen2 | {"vocab_size": 2000},
        ),
        "0.5B": Qwen2Config(
            hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, **qwen2
        ),
        "1.5B": Qwen2Config(
            hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, **qwen2
        ),
        "8B": Qwen3Config(
            vocab_size=VOCABULARY, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36,
            num_attention_heads=32, num_key_value_heads=8, head_dim=128,
        ),
    }  # fmt: skip


def make_policy(config: Any) -> LoadedPolicy:
    """A model of that shape in bfloat16, with the adapters that training puts on it."""
    _, tokenizer = build_tiny_model(None, 0)
    config.max_position_embeddings = 32_768
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(DEVICE):
            model = AutoModelForCausalLM.from_config(config)
    finally:
        torch.set_default_dtype(torch.float32)
    policy = LoadedPolicy(model, tokenizer, "random", "lora", False)
    model.requires_grad_(False)
    return LoadedPolicy(
        get_peft_model(model, policy.adapter(SFTSettings(lora_rank=16))), tokenizer, "random", "lora", False
    )


def synchronize() -> float:
    """The time once the device is idle, in seconds."""
    if GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


def decoding(policy: LoadedPolicy, rows: int, new: int) -> Iterator[dict[str, Any]]:
    """Prompts of 300 tokens, `new` tokens each, through `LocalModel.generate`, once unmerged and once merged."""
    size = policy.model.config.vocab_size
    prompts = [torch.randint(5, size, (300,)).tolist() for _ in range(rows)]
    agent = LocalModel.from_model(policy.model, policy.tokenizer, name="random", max_new_tokens=new, batch_size=rows)
    for merged in (False, True):
        if merged:
            policy.model.merge_adapter()
        agent.generate(prompts[:2], [0, 1])
        if GPU:
            torch.cuda.reset_peak_memory_stats()
        begin = synchronize()
        made = agent.generate(prompts, range(rows))
        seconds, tokens = synchronize() - begin, sum(map(len, made))
        found = {"merged": merged, "rows": rows, "tokens_per_second": tokens / seconds, "seconds": seconds}
        found["milliseconds_a_token"] = 1000 * seconds / max(map(len, made))
        if GPU:
            found |= {"peak_mib": torch.cuda.max_memory_allocated() / MIB, "kernels_a_token": kernels(agent, prompts)}
        yield found
    policy.model.unmerge_adapter()


def kernels(agent: LocalModel, prompts: list[list[int]]) -> float:
    """GPU kernels that one more token of each row takes: of 12 tokens less those of 4."""
    counts = []
    for new in (4, 12):
        agent.max_new_tokens = new
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            agent.generate(prompts, range(len(prompts)))
            synchronize()
        counts.append(sum(1 for event in seen.events() if not event.name.startswith(("Memcpy", "Memset", "cuda"))))
    return (counts[1] - counts[0]) / 8


def gradient(policy: LoadedPolicy, rows: int, length: int) -> Iterator[dict[str, Any]]:
    """One forward and backward pass to the last hidden states, without and with checkpointing; memory over weights."""
    model = policy.model
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
        found: dict[str, Any] = {"rows": rows, "length": length, "checkpointing": checkpointing}
        ids = torch.randint(5, model.config.vocab_size, (rows, length), device=DEVICE)
        model.train()
        try:
            for _ in range(2):  # the first one warms up
                if GPU:
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                    before = torch.cuda.memory_allocated()
                begin = synchronize()
                with torch.autocast(DEVICE, dtype=torch.bfloat16):
                    last = model.get_base_model().model(input_ids=ids, use_cache=False).last_hidden_state
                last.float().mean().backward()
                found["seconds"] = synchronize() - begin
                if GPU:
                    peak = torch.cuda.max_memory_allocated()
                    found |= {"peak_mib": peak / MIB, "mib_a_token": (peak - before) / MIB / (rows * length)}
                model.zero_grad(set_to_none=True)
                del last
        except torch.OutOfMemoryError:
            found["out_of_memory"] = True
            model.zero_grad(set_to_none=True)
        yield found
    model.gradient_checkpointing_disable()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=shapes(), default=["0.5B", "1.5B", "8B"] if GPU else ["toy"])
    parser.add_argument("--rows", nargs="+", type=int, default=[16, 64] if GPU else [2])
    parser.add_argument("--new-tokens", type=int, default=64 if GPU else 4)
    parser.add_argument("--out", type=Path, help="a file to add lines of JSON to")
    args = parser.parse_args()
    card = torch.cuda.get_device_name() if GPU else "cpu"

    def tell(kind: str, shape: str, found: dict[str, Any]) -> None:
        line = json.dumps({"kind": kind, "shape": shape, "card": card} | found)
        print(line, flush=True)
        if args.out:
            with args.out.open("a") as file:
                file.write(f"{line}\n")

    for name in args.shapes:
        policy = make_policy(shapes()[name])
        for rows in args.rows:
            for found in decoding(policy, rows, args.new_tokens):
                tell("decode", name, found)
        for rows, length in ((16, 300), (1, 8192)) if GPU else ((1, 32),):
            for found in gradient(policy, rows, length):
                tell("gradient", name, found)
        del policy
        gc.collect()
        if GPU:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
