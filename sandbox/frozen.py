"""The base of every value that is written to disk."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A pydantic model that is immutable and refuses unknown keys; the strings below its fields describe them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
