"""A run folder from the episodes that lie beside the ledger: real trained policies, without training one.

`write_stored_run` is what the gallery shows and what the pages' commands are tried on.
"""

from pathlib import Path

from devnull.cli.claims.archive import read_archive
from devnull.cli.claims.ledger import DEFAULT_LEDGER, Ledger
from devnull.cli.runs.run_folder import open_run
from devnull.eval.claims.claim_reader import parse_claim

ROOT = Path(__file__).resolve().parent.parent
_ARMS = {"sft": "", "partial": "terminal", "full": "full"}
"""Name to the view of who rated it, where it was rated."""


def write_stored_run(
    folder: Path, claim: str = "K1@3", seed: int = 10, instances: int | None = None, rung: str = "tiny"
) -> Path:
    """Writes the warm start and both policies of one training seed of a claim as a run, and returns the folder.

    Args:
        instances: How many of the held-out instances, each under both builds; all by default.
    """
    path = ROOT / DEFAULT_LEDGER
    ledger = Ledger(path)
    line, frozen = ledger.result(claim, rung), ledger.frozen(claim, rung)
    assert line is not None and frozen is not None
    file = parse_claim(Path(f"{claim}.toml"), frozen.text).file
    config = {"agent": f"{claim}, training seed {seed}", "p_hide": file.p_hide, "hiding_penalty": file.hiding_penalty}
    run = open_run(folder, "rollout", config, seed)
    for arm, view in _ARMS.items():
        if view:
            run.checkpoint(arm).mkdir(exist_ok=True)
            run.write_json(f"checkpoints/{arm}/training.json", {"facts": {"view": view}})
        for number, episode in enumerate(read_archive(path, line.archives[f"seed-{seed}/{arm}"])):
            if instances is None or number < 2 * instances:
                run.append(episode.model_copy(update={"arm": arm}))
    return folder
