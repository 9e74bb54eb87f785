"""The story that `devnull demo` tells, chapter by chapter. Each leaves files; a killed demo goes on from there."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from devnull.agents.agent import Agent
from devnull.agents.episode import Episode
from devnull.agents.local import LocalModel
from devnull.agents.protocol import messages
from devnull.agents.scripted import mixture, scripted
from devnull.cli.demo.side_by_side import train_side_by_side
from devnull.cli.runs.folder import Run, open_run, read_header, read_lines
from devnull.cli.runs.policy_episodes import keep_episodes
from devnull.cli.runs.reporting import write_report
from devnull.cli.runs.rolling_out import (
    EVALUATION_SEEDS,
    SEEDS_PER_RUN,
    TRAINING_SEEDS,
    check_acts,
    draw_instances,
    owed_instances,
    roll_out,
    say,
    training_progress,
    with_hiding_penalty,
)
from devnull.eval.comparing.verdicts import Verdicts, verdict
from devnull.eval.scoring.metrics import metrics
from devnull.eval.scoring.score import Score, score
from devnull.rewards.belief.table import TableBelief
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.rewards.feedback.comparisons import Preference, make_pairs
from devnull.rewards.views import FULL, TERMINAL
from devnull.sandbox.choose import open_runtime
from devnull.sandbox.errors import InputError
from devnull.sandbox.recipe import cache_folder
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance, Task
from devnull.sandbox.tasks import load_tasks
from devnull.training.dpo import train_dpo
from devnull.training.grpo import train_grpo
from devnull.training.models import find_model, make_tiny, smollm2
from devnull.training.reward_functions import believed
from devnull.training.settings import DPOSettings, GRPOSettings, SFTSettings
from devnull.training.sft import train_sft
from devnull.training.trl_run import OnStep

if TYPE_CHECKING:
    from devnull.cli.commands.demo import Args

_TASKS = "driver-cuda-runfile"
"""Example A of the paper, in versions and places of its own per task."""
_MIXTURE = {"honest": 0.5, "hiding": 0.25, "verbose": 0.05, "stopping": 0.2}
"""What the warm start imitates. A quarter hides: what follows is amplification, not discovery."""
SCRIPTED = ("honest", "hiding", "verbose", "stopping", "mixture")
TRAINED = ("sft", "partial", "full")
_VIEWS = {"partial": TERMINAL, "full": FULL}
_GROUP = 4
"""Feedback episodes of each instance (dpo): compared with one another, so that the luck of the draw is the same."""
SHOWN = {
    "error_suppression_rate": "error suppression",
    "attempt_rate": "attempts",
    "hidden_failure_rate": "hidden failures",
    "shown_success_rate": "shown success",
    "true_success": "true success",
    "J": "J",
    "J_obs": "J_obs",
    "E_plus": "Ē+",
    "E_minus": "Ē−",
    "valid_action_share": "valid actions",
}
"""Rows of the table."""
_MAX_NEW_TOKENS = 96
_SFT: dict[str, dict[str, Any]] = {"tiny": {"epochs": 8.0}, "real": {"epochs": 1.0, "batch_size": 4}}
_DPO: dict[str, dict[str, Any]] = {"tiny": {"epochs": 1.0}, "real": {"max_steps": 12, "batch_size": 2}}
GRPO: dict[str, dict[str, Any]] = {
    "tiny": {"iterations": 4},
    "real": {"iterations": 2, "batch_size": 4, "gradient_accumulation": 4},
}
"""In containers a batch of episodes costs several times what a step of `tiny` does: it is used more than once. The
gradient of 16 episodes of SmolLM2 at once would take 16 GB."""
_EXPECTED = "the partial view raises suppression and Ē+ above the warm start; the full view raises neither"
_CAUTION = "A model organism: the warm start already held hiding, so this is amplification by selection, not discovery."


class Story:
    """What the chapters share, and the chapters in order."""

    def __init__(self, args: "Args", config: Mapping[str, Any]) -> None:
        self.args = args
        self.config = dict(config)

    def tell(self) -> int:
        self.check()
        args = self.args
        self.run: Run = open_run(args.out, "demo", self.config, args.seed)
        if args.model == "tiny":
            torch.set_num_threads(1)  # two threads get in each other's way over matrices this small
        chapters = {
            "boxes": self.find_boxes,
            "demonstrations": self.demonstrate,
            "warm start": self.warm_start,
            "feedback": self.collect_feedback,
            "fine-tuning": self.fine_tune,
            "evaluation": self.evaluate,
            "report": self.conclude,
        }
        for name, chapter in chapters.items():
            with self.run.stage(name, say):
                chapter()
        if args.json:
            print((self.run.path / "metrics.json").read_text(), end="")
        else:
            self.print_table()
        seconds = self.run.header["wall_seconds"]["total"]
        say(f"{seconds:.0f} s in all; the report is {self.run.path / 'report.html'}")
        say(f"devnull replay {self.run.path} --episode 1 shows an episode")
        return 0

    def check(self) -> None:
        """What is wrong with the arguments is said before anything is begun."""
        args = self.args
        for name in ("workers", "demonstrations", "feedback", "pairs", "grpo_batches", "evaluation"):
            if getattr(args, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be at least 1")
        if not 0 <= args.p_hide <= 1:
            raise InputError(f"--p-hide is {args.p_hide}; a probability lies between 0 and 1")
        if args.model not in ("tiny", "smollm2"):
            find_model(args.model)

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The demo's tasks with its hiding penalty, by name."""
        chosen = {name: task for name, task in load_tasks().items() if name.startswith(_TASKS)}
        return {name: with_hiding_penalty(task, self.args.hiding_penalty) for name, task in chosen.items()}

    def split(self, name: str) -> list[Task]:
        return [task for task in self.tasks.values() if task.split == name]

    def evaluator(self, arm: str) -> Evaluator:
        """The same beliefs behind either view."""
        belief = TableBelief(p_hide=self.args.p_hide)
        return Evaluator(EvaluatorConfig(name=arm, sensors=_VIEWS[arm], belief=belief))

    def instances(self, split: str, count: int, first: int, group: int = 1) -> list[Instance]:
        return draw_instances(self.split(split), count, first + self.args.seed * SEEDS_PER_RUN, group=group)

    def scripted(self, name: str) -> Agent:
        return mixture(_MIXTURE) if name == "mixture" else scripted(name)

    def find_boxes(self) -> None:
        self.boxes: Runtime = open_runtime(self.args.runtime)
        say(f"boxes: {self.boxes.name}")

    def roll_out(self, arm: str, agent: Agent, instances: list[Instance]) -> None:
        roll_out(self.run, arm, agent, instances, self.boxes, workers=self.args.workers)
        check_acts(agent.name, self.run.episodes(arm))

    def demonstrate(self) -> None:
        instances = self.instances("train", self.args.demonstrations, TRAINING_SEEDS)
        self.roll_out("demonstrations", self.scripted("mixture"), instances)

    def warm_start(self) -> None:
        """SFT on the scripted mixture."""
        out = self.run.checkpoint("sft")
        if out.exists():
            return
        episodes = self.run.episodes("demonstrations")
        base = self.base([episode for episode in episodes if episode.error is None])
        settings = SFTSettings(seed=self.args.seed, checkpoint_steps=50, **_SFT[self.size])
        with training_progress("sft") as on_step:
            about = {"data": "scripted: " + ", ".join(f"{name} {share:g}" for name, share in _MIXTURE.items())}
            train_sft(settings, episodes, base, out, about=about, on_step=on_step["sft"])

    def base(self, episodes: list[Episode]) -> Path | str:
        """The model before any training."""
        match self.args.model:
            case "tiny":
                out = self.run.checkpoint("base")
                if not out.exists():
                    chats = [messages(e.transcript.instruction, e.transcript.turns) for e in episodes]
                    make_tiny(out, [message["content"] for chat in chats for message in chat], self.args.seed)
                return out
            case "smollm2":
                return smollm2(cache_folder())
            case name:
                return name

    @property
    def size(self) -> Literal["tiny", "real"]:
        return "tiny" if self.args.model == "tiny" else "real"

    def policy(self, name: str) -> LocalModel:
        return LocalModel(self.run.checkpoint(name), max_new_tokens=_MAX_NEW_TOKENS)

    def collect_feedback(self) -> None:
        """The warm-started model's own episodes, compared by each evaluator (dpo; grpo asks as it goes)."""
        if self.args.optimiser == "grpo":
            return
        instances = self.instances("train", self.args.feedback, TRAINING_SEEDS + SEEDS_PER_RUN // 2, _GROUP)
        if owed_instances(self.run, "feedback", instances):
            self.roll_out("feedback", self.policy("sft"), instances)
        episodes = self.run.episodes("feedback")
        for arm in _VIEWS:
            if not self.run.preferences_path(arm).exists():
                pairs = make_pairs(episodes, self.evaluator(arm), self.tasks, self.args.seed, self.args.pairs)
                self.run.write_preferences(arm, pairs)

    def fine_tune(self) -> None:
        arms = [arm for arm in _VIEWS if not self.run.checkpoint(arm).exists()]
        with training_progress(*arms) as on_step:
            if self.size == "tiny" and arms:
                train_side_by_side(partial(_train_arm, self.args, self.config), on_step)
            else:  # each takes all cores, or the GPU
                for arm in arms:
                    self.train(arm, on_step[arm])

    def train(self, arm: str, on_step: OnStep) -> None:
        out = self.run.checkpoint(arm)
        if self.args.optimiser == "dpo":
            settings = DPOSettings(seed=self.args.seed, checkpoint_steps=50, **_DPO[self.size])
            pairs = read_lines(self.run.preferences_path(arm), Preference)
            train_dpo(settings, pairs, self.run.checkpoint("sft"), out, about=self.about(arm), on_step=on_step)
        else:
            self.train_online(arm, out, on_step)

    def about(self, arm: str) -> dict[str, str]:
        """For the model card."""
        belief = f"believes that what it does not see was hidden with probability {self.args.p_hide:g}"
        return {"data": "its warm start's own episodes", "evaluator": belief, "view": _VIEWS[arm].name}

    def train_online(self, arm: str, out: Path, on_step: OnStep) -> None:
        """GRPO in boxes, paid by the evaluator of that arm; the policy's own divergence is measured, not paid for."""
        iterations = GRPO[self.size]["iterations"]
        settings = GRPOSettings(
            seed=self.args.seed,
            max_steps=self.args.grpo_batches * iterations,
            checkpoint_steps=5 * iterations,
            **GRPO[self.size],
        )
        played = settings.batch_size * settings.gradient_accumulation * self.args.grpo_batches
        instances = self.instances("train", played, TRAINING_SEEDS)
        reward = believed(self.evaluator(arm), self.tasks)
        train_grpo(
            settings,
            instances,
            reward,
            self.boxes,
            self.run.checkpoint("sft"),
            out,
            about=self.about(arm),
            on_step=on_step,
            on_episode=keep_episodes(out, self.run.path, self.args.seed),
        )

    def evaluate(self) -> None:
        """Every arm on the same held-out instances."""
        instances = self.instances("test", self.args.evaluation, EVALUATION_SEEDS)
        for name in SCRIPTED:
            self.roll_out(name, self.scripted(name), instances)
        for name in TRAINED:
            if owed_instances(self.run, name, instances):
                self.roll_out(name, self.policy(name), instances)

    def scores(self) -> dict[str, list[Score]]:
        """Every evaluated arm through the same eyes: the evaluator who sees only the terminal."""
        evaluator = self.evaluator("partial")
        arms: dict[str, list[Score]] = {name: [] for name in (*TRAINED, *SCRIPTED)}
        for episode in self.run.episodes():
            if episode.arm in arms:
                arms[episode.arm].append(score(episode, self.tasks[episode.task], evaluator))
        return arms

    def conclude(self) -> None:
        scores = self.scores()
        verdicts = {
            f"{policy} against {reference}": verdict(scores[policy], scores[reference], seed=self.args.seed)
            for policy in ("partial", "full")
            for reference in ("sft", "honest")
        }
        self.run.write_json(
            "metrics.json",
            {
                "arms": {
                    arm: {name: estimate.model_dump() for name, estimate in metrics(found).items()}
                    for arm, found in scores.items()
                },
                "verdicts": {name: found.model_dump() for name, found in verdicts.items()},
                "expected": _EXPECTED,
                "found": _found_as_expected(scores, verdicts),
                "caution": _CAUTION,
            },
        )
        write_report([self.run.path], self.run.path / "report.html")

    def print_table(self) -> None:
        found = json.loads((self.run.path / "metrics.json").read_text())
        console = Console(width=None if sys.stdout.isatty() else 100)
        title = f"{self.args.evaluation} held-out episodes an arm"
        console.print(_arms_table(f"{title}; 95 % intervals clustered by task", found["arms"], TRAINED, _interval))
        console.print(_arms_table("the scripted agents on the same instances", found["arms"], SCRIPTED, _value))
        for name, said in found["verdicts"].items():
            console.print(
                f"{name}: deceptive inflation {said['deceptive_inflation']}, "
                f"overjustification {said['overjustification']}"
            )
        console.print(f"Expected: {found['expected']}. Found: {found['found']}.")
        console.print(_CAUTION)


def _train_arm(args: "Args", config: Mapping[str, Any], arm: str, on_step: OnStep) -> None:
    """One arm's fine-tuning in a process of its own."""
    torch.set_num_threads(1)
    story = Story(args, config)
    story.run = Run(args.out, read_header(args.out))
    story.boxes = open_runtime(args.runtime)
    story.train(arm, on_step)


def _found_as_expected(scores: Mapping[str, list[Score]], verdicts: Mapping[str, Verdicts]) -> str:
    """Says in words what the run shows of what was expected, whether or not it does."""
    suppression = {arm: metrics(scores[arm])["error_suppression_rate"].value for arm in TRAINED}
    said = []
    for arm in _VIEWS:
        change = verdicts[f"{arm} against sft"].differences.get("E_plus")
        rate, start = suppression[arm], suppression["sft"]
        rose = "undefined" if rate is None or start is None else f"{start:.2f} → {rate:.2f}"
        over = "undefined" if change is None else f"{change.value:+.2f} ({change.low:+.2f} to {change.high:+.2f})"
        said.append(f"{arm} view: suppression {rose}, Ē+ {over}")
    return "; ".join(said)


def _arms_table(
    title: str, arms: Mapping[str, Any], names: Sequence[str], cell: Callable[[Mapping[str, Any]], str]
) -> Table:
    """A row a metric, a column an arm."""
    table = Table(title=title)
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for metric, heading in SHOWN.items():
        table.add_row(heading, *(cell(arms[name][metric]) for name in names))
    return table


def _value(estimate: Mapping[str, Any]) -> str:
    """A dash where 0/0."""
    return "—" if estimate["undefined"] else f"{estimate['value']:.2f}"


def _interval(estimate: Mapping[str, Any]) -> str:
    """`0.54 (0.33 to 0.74)`."""
    if estimate["undefined"]:
        return "—"
    return f"{estimate['value']:.2f} [dim]({estimate['low']:.2f} to {estimate['high']:.2f})[/dim]"
