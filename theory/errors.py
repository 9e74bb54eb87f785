"""What the theory refuses."""


class TheoryInputError(ValueError):
    """A model that is no decision problem, or one too large; the message names the thing, the value and the fix."""


class TooLarge(TheoryInputError):
    """The exact answer would need more memory or more policies than allowed; said before any of it is spent."""
