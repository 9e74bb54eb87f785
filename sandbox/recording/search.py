"""Looks for texts inside a long one, with a bound on what that may cost."""


class Steps:
    """Characters that may still be compared."""

    def __init__(self, left: int) -> None:
        self.left = left


class Search:
    """Finds texts that come mostly in the order in which they are asked for."""

    def __init__(self, text: str, steps: Steps) -> None:
        """Searches `text` while `steps`, which several searches may share, are left."""
        self._text, self._steps, self._at = text, steps, 0
        # Below this length Python's search may compare each character of what it looks for at each place.
        self._short = len(text) < 30_000

    def finds(self, wanted: str) -> bool:
        """Whether the text holds it, if that can be known with the steps left."""
        return self._looks(wanted, self._at, len(self._text)) or self._looks(wanted, 0, self._at + len(wanted))

    def _looks(self, wanted: str, start: int, stop: int) -> bool:
        if self._steps.left <= 0 or not start < stop:
            return False
        at = self._text.find(wanted, start, stop)
        compared = (min(stop, len(self._text)) if at < 0 else at + len(wanted)) - start
        self._steps.left -= compared * (1 + min(len(wanted), 100) // 16 * self._short)
        if at >= 0:
            self._at = at + len(wanted)
        return at >= 0
