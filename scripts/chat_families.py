"""Trains a tiny model of every family of chat templates through the command line, and prints a row for each.

    PYTHONPATH=. python scripts/chat_families.py [FAMILY ...]

Boxes are pretended. A row: seconds; whether a rollout's tokens are the template's; steps of SFT, DPO and GRPO; the
share of valid actions on held-out tasks after 40 steps of SFT on 160 demonstrations.
"""

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from transformers import AutoTokenizer

from devnull.agents.agent import Message
from tests.chat_families import FAMILIES, family_model, rollout_tokens, template_tokens
from tests.test_training_families import make_run, pretend_boxes, train
from tests.training_cases import chat, episodes, message_texts


def main(names: list[str]) -> int:
    print(f"{'family':<20} {'s':>4} {'history':>8} {'sft':>4} {'dpo':>4} {'grpo':>5} {'valid after 40':>15}")
    bad = 0
    for name in names or FAMILIES:
        begin = monotonic()
        with TemporaryDirectory() as made, pretend_boxes():
            folder = Path(made)
            run = make_run(folder / "run", 160)
            talk = (*chat(episodes(1)[0]), Message(role="user", content="Thanks."))
            model = family_model(name, folder / "base", message_texts(episodes(160)))
            two, said = ("--max-steps", "2", "--samples", "0"), StringIO()
            try:
                with redirect_stdout(said), redirect_stderr(said):
                    steps = [train("sft", run, model, folder / "sft", *two)["steps"]]
                    steps += [train("dpo", run, folder / "sft", folder / "dpo", *two)["steps"]]
                    steps += [train("grpo", run, folder / "dpo", folder / "grpo", *two)["steps"]]
                    many = ("--max-steps", "40", "--epochs", "40", "--batch-size", "8", "--samples", "48")
                    train("sft", run, model, folder / "forty", *many)
            except BaseException:
                print(said.getvalue(), file=sys.stderr)
                raise
            trained = AutoTokenizer.from_pretrained(folder / "grpo")
            ids = rollout_tokens(trained, talk)
            same = ids == template_tokens(name, trained, talk)[: len(ids)]
            valid = json.loads((folder / "forty" / "sampled.json").read_text())["valid_action_share"]["value"]
        bad += not same or steps != [2, 2, 2] or valid <= 0.3
        sft, dpo, grpo = steps
        row = f"{name:<20} {monotonic() - begin:>4.0f} {'equal' if same else 'DIFFERS':>8} {sft:>4} {dpo:>4} {grpo:>5}"
        print(f"{row} {valid:>15.2f}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
