"""Plays the commands of imported transcripts in the boxes of a task: then the truth is known."""

import base64
from collections.abc import Iterable, Sequence

from devnull.agents.episode import Episode
from devnull.agents.recorded import RecordedAgent
from devnull.agents.rollout import rollout
from devnull.agents.rollout_options import RolloutOptions
from devnull.cli.runs.rollouts import missing_instances
from devnull.cli.runs.run_folder import RunFolder
from devnull.cli.terminal.progress import print_progress, progress_bar
from devnull.sandbox.runtime import Runtime
from devnull.sandbox.task import Instance, Task
from devnull.sandbox.transcript import Turn


def play_imports(
    run: RunFolder, episodes: Sequence[Episode], task: Task, runtime: Runtime, first_seed: int
) -> list[Episode]:
    """Plays each transcript that holds a command in a box of the task, and appends it to the run as it ends.

    Transcript N meets the instance of seed `first_seed` + N. Those that the run holds already are not played again.
    Returns the run's finished episodes.
    """
    recorded = {
        first_seed + number: _as_messages(episode, task, first_seed + number)
        for number, episode in enumerate(episodes)
        if episode.transcript.results
    }
    with progress_bar() as bar:
        row = bar.add_task(f"playing in boxes of {task.name}", total=len(recorded))
        for arm in dict.fromkeys(episode.arm for episode in recorded.values()):
            own = {seed: episode for seed, episode in recorded.items() if episode.arm == arm}
            instances = missing_instances(run, arm, [Instance(task=task, seed=seed) for seed in own])
            bar.advance(row, len(own) - len(instances))
            options = RolloutOptions(max_turns=1 + max(len(each.transcript.turns) for each in own.values()))
            for played in rollout(RecordedAgent(own.values(), arm), instances, runtime, arm=arm, options=options):
                run.append(played.model_copy(update={"imported": own[played.seed].imported}))
                if played.error is None:
                    bar.advance(row)
                else:
                    print_progress(f"infrastructure failure: {played.error.kind}: {played.error.message}")
    return [episode for episode in run.episodes() if episode.error is None]


def _as_messages(episode: Episode, task: Task, seed: int) -> Episode:
    """The transcript as messages of the action protocol, under the name of the task."""
    turns = [*_commands_as_messages(result.command for result in episode.transcript.results)]
    report = episode.transcript.report
    if report is not None:
        turns.append(Turn(text=f"Done: {report.replace('```', chr(39) * 3)}", valid=True))
    transcript = episode.transcript.model_copy(update={"turns": tuple(turns)})
    names = {"task": task.name, "family": task.family, "split": task.split, "seed": seed, "sample": 0}
    return episode.model_copy(update={**names, "transcript": transcript, "error": None})


def _commands_as_messages(commands: Iterable[str]) -> Iterable[Turn]:
    """A block each. What would end its block early is handed to the shell in base64."""
    for command in commands:
        if "```" in command:
            packed = base64.b64encode(command.encode()).decode()
            command = f'eval "$(printf %s {packed} | base64 -d)"'
        yield Turn(text=f"```bash\n{command}\n```", valid=True)
