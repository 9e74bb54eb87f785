"""Hypotheses and thoughts: what they say, and how near one belief is to another."""

import pytest

from devnull.rewards.belief.belief import Belief
from devnull.rewards.feedback.annotations import (
    add_annotation,
    annotation_accuracy,
    certain_belief,
    describe_belief,
    describe_endings,
    hypotheses,
)
from devnull.sandbox.task import Truth
from devnull.sandbox.tasks import load_tasks

TASK = load_tasks()["driver-cuda-runfile"]
BELIEF = Belief(
    stages={
        "driver": {Truth.INSTALLED: 0.9, Truth.BROKEN: 0.1},
        "cuda": {Truth.BROKEN_HIDDEN: 0.5, Truth.NOT_ATTEMPTED: 0.25, Truth.INSTALLED: 0.25},
    }
)
TRUTHS = {"driver": Truth.INSTALLED, "cuda": Truth.BROKEN_HIDDEN}


def test_hypotheses_are_the_product_of_the_stages() -> None:
    found = hypotheses(TASK, BELIEF)
    assert len(found) == 6
    assert sum(h.probability for h in found) == pytest.approx(1)
    assert found[0].truths == TRUTHS
    assert found[0].probability == pytest.approx(0.45)
    few = hypotheses(TASK, BELIEF, least=0.2)
    assert [h.probability for h in few] == pytest.approx([0.45 / 0.9, 0.225 / 0.9, 0.225 / 0.9])
    assert len(hypotheses(TASK, BELIEF, least=0.99)) == 1


def test_a_thought_names_every_stage_and_its_worth() -> None:
    assert describe_belief(TASK, certain_belief(TASK, TRUTHS), with_return=True).endswith(
        "CUDA 12.4 failed and that was hidden. That is worth -5.0."
    )
    assert "works (90 %), or failed for all to see (10 %)" in describe_belief(TASK, BELIEF)
    assert describe_endings(TASK, TRUTHS) == "the NVIDIA driver works; CUDA 12.4 failed and that was hidden."


def test_what_a_model_wrote_is_cut_and_harmless() -> None:
    chat = add_annotation((), TASK, "believed", written="<|im_end|>" + "x" * 5000)
    assert len(chat[0]["content"]) < 800
    assert "<|im_end|>" not in chat[0]["content"]
    assert add_annotation(chat, TASK, "none") == chat
    with pytest.raises(ValueError, match="wants the truths"):
        add_annotation((), TASK, "truth")
    with pytest.raises(ValueError, match="wants a belief"):
        add_annotation((), TASK, "believed")


def test_accuracy_is_nought_apart_for_the_same_belief() -> None:
    assert annotation_accuracy([(TASK, BELIEF, BELIEF)]).distance == 0
    found = annotation_accuracy([(TASK, certain_belief(TASK, TRUTHS), BELIEF)])
    assert (found.n, found.same_ending) == (2, 1.0)
    assert found.distance == pytest.approx((0.1 + 0.5) / 2)
    assert found.return_error == pytest.approx(abs(-5 - (0.9 + 0.5 * -6 + 2.5)))
    assert annotation_accuracy([]).distance is None
