"""The stages of `devnull demo`, in order. Each leaves files in the run folder; a killed demo goes on from there."""

from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch

from devnull.agents.agent import Agent
from devnull.agents.local import LocalModel
from devnull.agents.scripted import find_scripted_agent, make_mixture
from devnull.cli.demo.figures import print_figures, write_figures
from devnull.cli.demo.parallel_arms import train_in_parallel
from devnull.cli.demo.settings import MIXTURE, SCRIPTED_ARMS, TRAINED_ARMS, DemoSettings
from devnull.cli.runs.box_choice import open_boxes
from devnull.cli.runs.json_lines import read_lines
from devnull.cli.runs.local_models import base_model, resolve_model
from devnull.cli.runs.policy_episodes import batch_metrics, episode_recorder
from devnull.cli.runs.rollouts import (
    EVALUATION_SEEDS,
    SEEDS_PER_RUN,
    TRAINING_SEEDS,
    choose_tasks,
    describe_silence,
    draw_instances,
    missing_instances,
    roll_out_missing,
)
from devnull.cli.runs.run_folder import RunFolder, open_run, read_header
from devnull.cli.runs.run_report import write_report
from devnull.cli.terminal.progress import print_progress, training_progress
from devnull.eval.scoring.score import Score, score
from devnull.rewards.belief.table import TableBelief
from devnull.rewards.evaluator import Evaluator
from devnull.rewards.evaluator_config import EvaluatorConfig
from devnull.rewards.feedback.comparisons import Preference, make_preferences
from devnull.rewards.views import FULL_SENSORS, TERMINAL_SENSORS
from devnull.sandbox.errors import InputError
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance, Task
from devnull.sandbox.tasks import load_tasks
from devnull.training.dpo import train_dpo
from devnull.training.grpo import train_grpo
from devnull.training.reward_functions import believed_return_reward
from devnull.training.settings import DPOSettings, GRPOSettings, SFTSettings
from devnull.training.sft import train_sft
from devnull.training.trl_run import StepCallback

_VIEWS = {"partial": TERMINAL_SENSORS, "full": FULL_SENSORS}
_GROUP = 4
"""Feedback episodes of each instance (dpo): compared with one another, so that the luck of the draw is the same."""
_MAX_NEW_TOKENS = 96
_SFT: dict[str, dict[str, Any]] = {"tiny": {"epochs": 24.0}, "real": {"epochs": 1.0, "batch_size": 4}}
_DPO: dict[str, dict[str, Any]] = {"tiny": {"epochs": 1.0}, "real": {"max_steps": 12, "batch_size": 2}}
GRPO_SETTINGS: dict[str, dict[str, Any]] = {
    "tiny": {
        "iterations": 4,
        "learning_rate": 3e-4,
        "stratify_builds": True,
        "train_report": "first",
        "kl_limit": 8.0,
    },
    "real": {"iterations": 2, "batch_size": 4, "gradient_accumulation": 4},
}
"""In containers a batch of episodes costs several times what a step of `tiny` does: it is used more than once. The
gradient of 16 episodes of SmolLM2 at once would take 16 GB."""


class Demo:
    """One demo: its settings, what its stages share, and the stages."""

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings

    def run_stages(self) -> None:
        """Runs every stage that the run folder does not hold yet, and prints the figures.

        Raises `InputError` for settings that cannot be, before anything is begun.
        """
        self._check_settings()
        settings = self.settings
        self.run: RunFolder = open_run(settings.out, "demo", settings.config(), settings.seed)
        if settings.model == "tiny":
            torch.set_num_threads(1)  # two threads get in each other's way over matrices this small
        stages = {
            "boxes": self._open_runtime,
            "demonstrations": self._roll_out_demonstrations,
            "warm start": self._train_warm_start,
            "feedback": self._collect_feedback,
            "fine-tuning": self._fine_tune,
            "evaluation": self._roll_out_evaluation,
            "report": self._report,
        }
        for name, stage in stages.items():  # the names are those of wall_seconds in run.json
            with self.run.stage(name, print_progress):
                stage()
        if settings.json:
            print((self.run.path / "metrics.json").read_text(), end="")
        else:
            print_progress(f"{self.run.header['wall_seconds']['total']:.0f} s in all")
            print_figures(self.run, self.headline, len(self._evaluation_instances()))

    def _check_settings(self) -> None:
        settings = self.settings
        for name in ("workers", "demonstrations", "feedback", "pairs", "grpo_batches", "evaluation"):
            if getattr(settings, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} is {getattr(settings, name)}; it must be at least 1")
        if not 0 <= settings.p_hide <= 1:
            raise InputError(f"--p-hide is {settings.p_hide}; a probability lies between 0 and 1")
        if not settings.tasks:
            raise InputError("--tasks names none; leave it out, or name a family, as driver-cuda-runfile*")
        for split in ("train", "test"):
            if not self._split(split):
                raise InputError(
                    f"--tasks {' '.join(settings.tasks)}: none of them is of the {split} split, and the demo needs both"
                )
        if settings.model != "tiny":
            resolve_model(settings.model)

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The demo's tasks with its hiding penalty, by name."""
        chosen = choose_tasks(self.settings.tasks, "all", load_tasks())
        return {task.name: task.with_hiding_penalty(self.settings.hiding_penalty) for task in chosen}

    def _split(self, name: str) -> list[Task]:
        return [task for task in self.tasks.values() if task.split == name]

    def _evaluator(self, arm: str) -> Evaluator:
        """The evaluator of an arm: the arms differ in what is seen, not in how it is believed."""
        belief = TableBelief(p_hide=self.settings.p_hide)
        return Evaluator(EvaluatorConfig(name=arm, sensors=_VIEWS[arm], belief=belief))

    def _instances(self, split: str, count: int, first: int, group: int = 1) -> list[Instance]:
        return draw_instances(self._split(split), count, first + self.settings.seed * SEEDS_PER_RUN, group=group)

    def _scripted_agent(self, name: str) -> Agent:
        return make_mixture(MIXTURE) if name == "mixture" else find_scripted_agent(name)

    def _open_runtime(self) -> None:
        self.runtime: Runtime = open_boxes(self.settings.runtime, self.settings, self.settings.out)
        self.run.note("boxes", self.runtime.name)
        print_progress(f"boxes: {self.runtime.name}")

    def _roll_out(self, arm: str, agent: Agent, instances: list[Instance]) -> None:
        roll_out_missing(self.run, arm, agent, instances, self.runtime, workers=self.settings.workers)
        if silence := describe_silence(agent.name, self.run.episodes(arm)):
            raise InputError(silence)

    def _roll_out_demonstrations(self) -> None:
        instances = self._instances("train", self.settings.demonstrations, TRAINING_SEEDS)
        self._roll_out("demonstrations", self._scripted_agent("mixture"), instances)

    def _train_warm_start(self) -> None:
        """SFT on the episodes of the scripted mixture."""
        out = self.run.checkpoint("sft")
        if out.exists():
            return
        episodes = self.run.episodes("demonstrations")
        finished = [episode for episode in episodes if episode.error is None]
        base = base_model(self.settings.model, self.run.checkpoint("base"), finished, self.settings.seed)
        settings = SFTSettings(seed=self.settings.seed, checkpoint_steps=50, **_SFT[self._size])
        with training_progress("sft") as on_step:
            facts = {"data": "scripted: " + ", ".join(f"{name} {share:g}" for name, share in MIXTURE.items())}
            train_sft(settings, episodes, base, out, card_facts=facts, on_step=on_step["sft"])

    @property
    def _size(self) -> Literal["tiny", "real"]:
        return "tiny" if self.settings.model == "tiny" else "real"

    def _policy(self, name: str) -> LocalModel:
        return LocalModel(self.run.checkpoint(name), max_new_tokens=_MAX_NEW_TOKENS)

    def _collect_feedback(self) -> None:
        """For dpo: rolls the warm start out and has each evaluator compare its episodes."""
        if self.settings.optimiser == "grpo":
            return
        instances = self._instances("train", self.settings.feedback, TRAINING_SEEDS + SEEDS_PER_RUN // 2, _GROUP)
        if missing_instances(self.run, "feedback", instances):
            self._roll_out("feedback", self._policy("sft"), instances)
        episodes = self.run.episodes("feedback")
        for arm in _VIEWS:
            if not self.run.preferences_path(arm).exists():
                pairs = make_preferences(
                    episodes, self._evaluator(arm), self.tasks, self.settings.seed, self.settings.pairs
                )
                self.run.write_preferences(arm, pairs)

    def _fine_tune(self) -> None:
        arms = [arm for arm in _VIEWS if not self.run.checkpoint(arm).exists()]
        with training_progress(*arms) as on_step:
            if self._size == "tiny" and arms:
                train_in_parallel(partial(_train_arm, self.settings), on_step)
            else:  # each takes all cores, or the GPU
                for arm in arms:
                    self.train_arm(arm, on_step[arm])

    def train_arm(self, arm: str, on_step: StepCallback) -> None:
        """Fine-tunes the warm start under the evaluator of one arm, `partial` or `full`."""
        out = self.run.checkpoint(arm)
        if self.settings.optimiser == "dpo":
            settings = DPOSettings(seed=self.settings.seed, checkpoint_steps=50, **_DPO[self._size])
            pairs = read_lines(self.run.preferences_path(arm), Preference)
            train_dpo(
                settings, pairs, self.run.checkpoint("sft"), out, card_facts=self._card_facts(arm), on_step=on_step
            )
        else:
            self._train_online(arm, out, on_step)

    def _card_facts(self, arm: str) -> dict[str, str]:
        """Lines of the model card."""
        belief = f"believes that what it does not see was hidden with probability {self.settings.p_hide:g}"
        return {"data": "its warm start's own episodes", "evaluator": belief, "view": _VIEWS[arm].name}

    def _train_online(self, arm: str, out: Path, on_step: StepCallback) -> None:
        """GRPO in boxes on the return that the evaluator of that arm believes in, without a KL term."""
        iterations = GRPO_SETTINGS[self._size]["iterations"]
        settings = GRPOSettings(
            seed=self.settings.seed,
            max_steps=self.settings.grpo_batches * iterations,
            checkpoint_steps=5 * iterations,
            **GRPO_SETTINGS[self._size],
        )
        episodes = settings.batch_size * settings.gradient_accumulation * self.settings.grpo_batches
        instances = self._instances("train", episodes, TRAINING_SEEDS)
        reward = believed_return_reward(self._evaluator(arm), self.tasks)
        train_grpo(
            settings,
            instances,
            reward,
            self.runtime,
            self.run.checkpoint("sft"),
            out,
            card_facts=self._card_facts(arm),
            on_step=on_step,
            on_episode=episode_recorder(out, self.run.path, self.settings.seed),
            measure=batch_metrics(self.run.path),
        )

    def _roll_out_evaluation(self) -> None:
        """Rolls every arm out on the same held-out instances."""
        instances = self._evaluation_instances()
        for name in SCRIPTED_ARMS:
            self._roll_out(name, self._scripted_agent(name), instances)
        for name in TRAINED_ARMS:
            if missing_instances(self.run, name, instances):
                self._roll_out(name, self._policy(name), instances)

    def _evaluation_instances(self) -> list[Instance]:
        first = EVALUATION_SEEDS + self.settings.seed * SEEDS_PER_RUN
        both_builds = self.settings.builds == "both"
        return draw_instances(self._split("test"), self.settings.evaluation, first, both_builds=both_builds)

    def _report(self) -> None:
        """Writes metrics.json and report.html."""
        report = write_report([self.run.path], self.run.path / "report.html")
        self.headline = report.headline
        write_figures(self.run, self._scores(), self.headline)

    def _scores(self) -> dict[str, list[Score]]:
        """Scores of every evaluated arm, all by the beliefs of the evaluator who sees only the terminal."""
        evaluator = self._evaluator("partial")
        arms: dict[str, list[Score]] = {name: [] for name in (*TRAINED_ARMS, *SCRIPTED_ARMS)}
        for episode in self.run.episodes():
            if episode.arm in arms:
                arms[episode.arm].append(score(episode, self.tasks[episode.task], evaluator))
        return arms


def _train_arm(settings: DemoSettings, arm: str, on_step: StepCallback) -> None:
    """Trains one arm in a process of its own."""
    torch.set_num_threads(1)
    demo = Demo(settings)
    demo.run = RunFolder(settings.out, read_header(settings.out))
    demo.runtime = open_boxes(settings.runtime, settings, settings.out, log=lambda line: None)  # it was said once
    demo.train_arm(arm, on_step)
