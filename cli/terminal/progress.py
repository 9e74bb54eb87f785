"""Progress of long work: a bar on a terminal, plain lines elsewhere, both on stderr."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from devnull.training.trl_run import StepCallback


def print_progress(message: str) -> None:
    """A plain line on stderr, flushed at once. Where nobody reads stderr any more, the work goes on without it."""
    with suppress(BrokenPipeError):
        print(message, file=sys.stderr, flush=True)


def progress_bar() -> Progress:
    """A progress bar on a terminal; elsewhere it shows nothing, and the command prints plain lines itself."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not sys.stderr.isatty(),
        transient=False,
    )


@contextmanager
def training_progress(*names: str) -> "Iterator[dict[str, StepCallback]]":
    """Shows optimiser steps and the loss of one training per name.

    Yields a callback per name, to be passed to its trainer as `on_step`. On a terminal each has a bar; elsewhere
    each prints a line for every tenth of its steps.
    """
    with progress_bar() as bar:

        def step_callback(name: str) -> "StepCallback":
            row = bar.add_task(f"training: {name}", total=None)

            equal = False

            def on_step(step: int, steps: int, logged: Mapping[str, float]) -> None:
                nonlocal equal
                before, equal = equal, logged.get("share/equal_groups") == 1
                if equal and not before:
                    print_progress(f"training: {name}: step {step}: every group's rewards are equal, nothing is learnt")
                loss = f" (loss {logged['loss']:.3f})" if "loss" in logged else ""
                bar.update(row, completed=step, total=steps, description=f"training: {name}{loss}")
                if not sys.stderr.isatty() and step * 10 // steps > (step - 1) * 10 // steps:
                    print_progress(f"training: {name}: step {step} of {steps}{loss}")

            return on_step

        yield {name: step_callback(name) for name in names}
