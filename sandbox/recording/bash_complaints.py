"""Bash's own error messages as a person would read them: our shell reads a pipe, and names it where it means itself."""

from bisect import bisect_right

PREFIX = "/dev/fd/10: "
"""Begins every complaint of our shell; a person would read `bash: `."""
_LONGEST = 4096
"""Characters of a complaint that is looked for in what the terminal showed."""
_MOST = 10_000
"""Complaints that are remembered."""


def strip_shell_prefix(written: str) -> str:
    """What bash wrote on its own account as a person reads it: `bash: `, without the pipe's name and the line's number;
    of a job that was killed, only `Killed`."""
    return "".join(map(_strip_line, written.splitlines(keepends=True)))


def _strip_line(line: str) -> str:
    if not line.startswith(PREFIX):
        return line
    text = line.rstrip("\n")
    newline = line[len(text) :]
    rest = text.removeprefix(PREFIX).removeprefix("eval: ")
    number, colon, said = rest.removeprefix("line ").partition(": ")
    if not (colon and rest.startswith("line ") and number.isdecimal()):
        return f"bash: {rest}{newline}"
    pid, _, job = said.strip().partition(" ")
    end, gap, _ = job.strip().partition("  ")
    if pid.isdecimal() and gap and end[:1].isupper():  # `12 Killed   sh -c x`
        return end + newline
    return f"bash: {said}{newline}"


class BashComplaints:
    """The complaints that our shell wrote in one session. Only these are given another form, wherever they turn up."""

    def __init__(self) -> None:
        self._read: dict[str, str] = {}
        self._longest = 0

    def add(self, written: str) -> None:
        """Remembers what bash wrote."""
        for line in written.splitlines():
            if line.startswith(PREFIX) and len(line) <= _LONGEST and len(self._read) < _MOST:
                self._read[line] = strip_shell_prefix(line)
                self._longest = max(self._longest, len(line))

    def reread(self, shown: str, places: list[int]) -> tuple[str, list[int]]:
        """What the terminal showed with these complaints as a person reads them; `places` in it move along."""
        pieces: list[str] = []
        ends, shifts = [0], [0]  # of each complaint; characters lost up to there
        at = done = 0
        while self._read and (at := shown.find(PREFIX, at)) >= 0:
            stop = shown.find("\n", at, at + self._longest + 2)
            line = shown[at : stop if stop >= 0 else at + self._longest + 1].rstrip("\r")
            said = self._read.get(line)
            if said is None:
                at += len(PREFIX)
                continue
            pieces += [shown[done:at], said]
            done = at = at + len(line)
            ends.append(done)
            shifts.append(shifts[-1] + len(line) - len(said))
        if not pieces:
            return shown, places
        text = "".join([*pieces, shown[done:]])
        moved = [place - shifts[bisect_right(ends, place) - 1] for place in places]
        return text, [min(place, len(text)) for place in moved]
