"""What fills the slot of the ending, in the conversations that a marginalised reward model scores."""

from typing import Literal

LearntEnding = Literal["rater", "mean", "truth"]
"""While a reward model learns: each comparison by the belief of the rater who made it; by the mean belief of all
raters (it is not known who made it); or the true ending (naive learning on states)."""

PaidEnding = Literal["truth", "believed"]
"""When the model pays a policy: the true ending, or the mean belief of the raters."""
