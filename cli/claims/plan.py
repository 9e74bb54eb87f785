"""The jobs that a claim wants: ordinary `devnull` commands, each identified by what it runs and what it builds on.

Two jobs of one digest are one job, whichever claims and arms want it, so that a warm start is trained once.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import devnull
from devnull.cli.claims.job_settings import FilePlace, PlacedSettings, evaluation_settings, job_settings
from devnull.cli.terminal.console import config_flags
from devnull.eval.claims.claim_file import JobCommand, Setting
from devnull.eval.claims.claim_reader import LoadedClaim
from devnull.eval.claims.dials import fill_deep
from devnull.eval.claims.recipe import LoadedRecipe

_REFERENCE = re.compile(r"(?:^|(?<=:))@([\w.+-]+)")
"""`@sft` and `hf:@sft`, but not the address in `openai:MODEL@URL`."""
_DIGEST_LENGTH = 16
_DEFAULT_SECONDS = 60.0
_EVALUATORS = Path(devnull.__file__).parent / "examples" / "evaluators"


@dataclass(frozen=True)
class Job:
    """One `devnull` command of a claim."""

    digest: str
    """Of the command, its settings, and the digests of what it builds on."""
    command: JobCommand
    settings: Mapping[str, Setting]
    """In which `@DIGEST` is what the job of that digest makes."""
    needs: tuple[str, ...]
    """Digests of the jobs that it builds on."""
    seconds: float
    """What it takes on one quiet core, roughly."""

    def folder(self, root: Path) -> Path:
        """Where its log, its files and what it makes lie."""
        return root / "jobs" / self.digest

    def product(self, root: Path) -> str:
        """What others get of it: a run folder, a model's folder, or the name of feedback."""
        match self.command:
            case "rollout":
                return str(self.folder(root) / "run")
            case "label":
                return self.digest
            case _ if (rounds := self.settings.get("rounds", 1)) != 1:  # one model a round, and the last is it
                return f"{self._model(root)}/round-{rounds}"
            case _:
                return self._model(root)

    def _model(self, root: Path) -> str:
        """What a trainer is told to write."""
        return str(self.folder(root) / "model")

    def words(self, root: Path, products: Mapping[str, str], boxes: Sequence[str] = ()) -> list[str]:
        """The command line after `devnull`.

        Args:
            products: Digest to product, of the jobs that it builds on.
            boxes: The options of a command that say what makes its boxes.
        """
        settings = {key: _with_products(value, products) for key, value in self.settings.items()}
        run = settings.pop("run", None)
        words = [*self.command.split(), *([] if run is None else [str(run)])]
        if isinstance(settings.get("evaluator"), dict):
            settings["evaluator"] = str(self.evaluator_path(root))
        words += config_flags(settings, f"job {self.digest}")
        if self.command == "label":
            return [*words, "--name", self.product(root)]
        return [*words, "--out", self.product(root) if self.command == "rollout" else self._model(root), *boxes]

    def evaluator_path(self, root: Path) -> Path:
        """Where the evaluator lies that the settings spell out."""
        return self.folder(root) / "evaluator.toml"

    def write_inputs(self, root: Path) -> None:
        """Makes the folder, and in it the evaluator's file."""
        self.folder(root).mkdir(parents=True, exist_ok=True)
        evaluator = self.settings.get("evaluator")
        if isinstance(evaluator, dict):
            lines = [f"{json.dumps(key)} = {_toml(value)}\n" for key, value in evaluator.items()]
            self.evaluator_path(root).write_text("".join(lines))


@dataclass
class Plan:
    """Every job of a claim on a rung, in an order in which each comes after what it builds on."""

    claim: LoadedClaim
    recipe: LoadedRecipe
    seeds: tuple[int, ...]
    jobs: dict[str, Job] = field(default_factory=dict)
    """By digest."""
    names: dict[str, str] = field(default_factory=dict)
    """`seed-0/partial` to digest; the evaluation of an arm is `seed-0/partial.evaluation`."""
    evaluations: dict[str, list[str]] = field(default_factory=dict)
    """Arm to the digest of its evaluation, seed by seed."""
    policies: dict[str, list[str]] = field(default_factory=dict)
    """Arm to the digest of the job that trained it; none for an arm that is no trained policy."""
    sources: dict[str, PlacedSettings] = field(default_factory=dict)
    """By the keys of `names`: the settings as the files have them, and where."""

    @property
    def seconds(self) -> float:
        """All jobs together on one quiet core, roughly."""
        return sum(job.seconds for job in self.jobs.values())

    def chain(self, digest: str) -> dict[str, Job]:
        """A job and all that it builds on."""
        job = self.jobs[digest]
        found: dict[str, Job] = {}
        for need in job.needs:
            found |= self.chain(need)
        return {**found, digest: job}


def plan_claim(claim: LoadedClaim, recipe: LoadedRecipe, seeds: Sequence[int]) -> Plan:
    """The jobs of a claim. Raises `InputError` with file and line where a job is not there, or builds on itself."""
    plan = Plan(claim, recipe, tuple(seeds))
    for seed in seeds:
        _SeedPlan(plan, seed).add_arms()
    return plan


class _SeedPlan:
    """The part of a plan that is of one training seed."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan, self.recipe, self.seed = plan, plan.recipe.file, seed
        claim = plan.claim.file
        self.values: dict[str, Any] = {
            "seed": seed,
            "model": self.recipe.model,
            **{key: getattr(claim, key) for key in ("family", "episodes", "p_hide", "hiding_penalty")},
            "verbosity_cost": claim.verbosity_cost,
        }
        self.pending: list[str] = []

    def add_arms(self) -> None:
        claim, recipe = self.plan.claim, self.plan.recipe
        for arm, each in claim.file.arms.items():
            if "agent" not in each.settings:
                digest = self.job(each.policy or arm, FilePlace(claim, ("arms", arm)))
                self.plan.policies.setdefault(arm, []).append(digest)
            digest = self.add(f"{arm}.evaluation", "rollout", evaluation_settings(claim, recipe, arm))
            self.plan.evaluations.setdefault(arm, []).append(digest)
        for number, gate in enumerate(claim.file.gates.jobs):
            for name in gate.jobs:
                self.job(name, FilePlace(claim, ("gates", "jobs", number, "jobs")))

    def job(self, name: str, wanted_by: FilePlace) -> str:
        """The digest of the job of that name, which is planned if it was not."""
        full = f"seed-{self.seed}/{name}"
        if full in self.plan.names:
            return self.plan.names[full]
        if name in self.pending:
            raise wanted_by.error(f"job {name!r} builds on itself: {' → '.join([*self.pending, name])}")
        command, settings = job_settings(self.plan.claim, self.plan.recipe, name, wanted_by)
        self.pending.append(name)
        digest = self.add(name, command, settings)
        self.pending.pop()
        return digest

    def add(self, name: str, command: JobCommand, settings: PlacedSettings) -> str:
        filled = fill_deep(settings.values, self.values)
        needs: dict[str, None] = {}

        def resolve(value: Setting, place: FilePlace) -> Any:
            def refer(match: re.Match[str]) -> str:
                digest = self.job(match[1], place)
                needs[digest] = None
                return f"@{digest}"

            return _map_strings(value, lambda text: _REFERENCE.sub(refer, text))

        resolved = {key: resolve(value, settings.places[key]) for key, value in filled.items() if value is not None}
        content = json.dumps([command, resolved, _evaluator_text(resolved.get("evaluator"))], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:_DIGEST_LENGTH]
        seconds = self.recipe.seconds.get(command, _DEFAULT_SECONDS)
        self.plan.jobs.setdefault(digest, Job(digest, command, resolved, tuple(needs), seconds))
        self.plan.names[f"seed-{self.seed}/{name}"] = digest
        self.plan.sources[f"seed-{self.seed}/{name}"] = settings
        return digest


def _evaluator_text(evaluator: object) -> str:
    """What an evaluator that is named, not spelled out, says today."""
    path = evaluator_file(evaluator) if isinstance(evaluator, str) else None
    return "" if path is None else path.read_text()


def evaluator_file(name: str) -> Path | None:
    """The file of an evaluator, or of one that comes with the package, if it is there."""
    return next((path for path in (Path(name), _EVALUATORS / f"{name}.toml") if path.is_file()), None)


def _map_strings(value: Any, change: Any) -> Any:
    match value:
        case str():
            return change(value)
        case list():
            return [_map_strings(each, change) for each in value]
        case dict():
            return {key: _map_strings(each, change) for key, each in value.items()}
    return value


def _with_products(value: Any, products: Mapping[str, str]) -> Any:
    return _map_strings(value, lambda text: _REFERENCE.sub(lambda match: products.get(match[1], match[0]), text))


def _toml(value: object) -> str:
    """A value as it stands in a TOML file, on one line."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()) + " }"
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case str():
            return json.dumps(value, ensure_ascii=False)
    return repr(value)


def merge_jobs(plans: Sequence[Plan]) -> dict[str, Job]:
    """The jobs of several plans by digest, each once, in an order in which each comes after what it builds on."""
    return {digest: job for plan in plans for digest, job in plan.jobs.items()}


def describe_jobs(plan: Plan, root: Path, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Name and command line of each job of one training seed."""
    products = {digest: job.product(root) for digest, job in plan.jobs.items()}
    for name, digest in plan.names.items():
        if name.startswith(f"seed-{seed}/"):
            yield name, plan.jobs[digest].words(root, products)
