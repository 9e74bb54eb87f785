"""A terminal's screen with its scroll-back: rows of cells, a cursor, and what control sequences do to them.

It follows xterm. A row is a string, one character a cell, without the cells at its end that were never written. All
rows of the screen exist; those above `top` are scroll-back. An operation costs at most one screen, whatever number a
sequence asks for.
"""

from bisect import bisect_left, bisect_right, insort

from devnull.sandbox.terminal_cells import GAP, Cells, after, before, is_wide

_WRAPPED = "\0"
"""Stands behind the last cell of a row whose line goes on in the next one."""


class TerminalScreen:
    """The main and the alternate screen, of one size, and the scroll-back above the main one.

    Args:
        columns: Cells of a row.
        lines: Rows of the screen.
        scrollback: Characters of scroll-back; beyond it the oldest rows are lost.
    """

    def __init__(self, columns: int, lines: int, scrollback: int) -> None:
        self.columns, self.lines, self.scrollback = columns, lines, scrollback
        self.cells = Cells()
        self.reset()

    def reset(self) -> None:
        """RIS: an empty screen, no scroll-back."""
        self.rows, self.top, self.x, self.y = [""] * self.lines, 0, 0, 0
        """Cursor: `x` is `columns` once the last column was written; `y` counts from the first row of scroll-back."""
        self._last = " "
        self._scrolled = 0
        self._stops = list(range(8, self.columns, 8))
        self._main: tuple[list[str], int] | None = None
        """Rows and top of the main screen while the alternate one is shown."""
        self._alternate = [""] * self.lines
        self.reset_modes()

    def reset_modes(self) -> None:
        """DECSTR: margins and modes as at first; what stands on the screen stays."""
        self.first, self.final = 0, self.lines - 1
        self.autowrap, self.insert, self.origin = True, False, False

    def text(self) -> str:
        """What can be read: rows down to the cursor or the last that is not blank, wrapped ones as one line."""
        used = max((y for y in range(self.top, self.top + self.lines) if self.rows[y]), default=0)
        text = "\n".join(self.rows[: max(used, self.y) + 1])
        return self.cells.join(text.replace(_WRAPPED + "\n", "").replace(_WRAPPED, ""))

    @property
    def alternate(self) -> bool:
        """The alternate screen is shown."""
        return self._main is not None

    # Writing

    def write(self, text: str, concealed: bool = False) -> None:
        """Writes characters at the cursor, none of them a control; blanks in their place if they are concealed."""
        if not text.isascii():
            marks, text = self.cells.split(text)
            if marks and not concealed:
                self._accent(marks)
        if text:
            self._last = text[-2:]
            self._write_cells(" " * len(text) if concealed else text)

    def _write_cells(self, cells: str) -> None:
        at, wrapped = 0, False
        if not self.autowrap:
            self.settle()
            if len(cells) > self.columns - self.x:
                cells = before(cells, self.columns - self.x - 1) + after(cells, len(cells) - 1)
        while at < len(cells):
            room = self.columns - self.x
            if len(cells) - at <= room:
                self._put(cells[at:], wrapped)
                return
            if room < 1 + is_wide(cells[at]):
                self._wrap()
                room, wrapped = self.columns, True
            part = cells[at : at + room]
            if is_wide(part[-1]):
                part = part[:-1]
            self._put(part, wrapped)
            at += len(part)

    def _put(self, part: str, wrapped: bool) -> None:
        """Writes cells that fit into the row. `wrapped`: they go on with the line of the row above."""
        row, x = self.rows[self.y], self.x
        if not x and not wrapped:
            self._end_line(self.y - 1)
        if len(row) < x:
            row = row.ljust(x)
        self.x = x + len(part)
        if self.insert:
            self.rows[self.y] = before(row, x) + part + before(after(row, x), self.columns - self.x)
        else:
            self.rows[self.y] = before(row, x) + part + after(row, self.x)

    def _wrap(self) -> None:
        self.rows[self.y] = self.rows[self.y][: self.columns].ljust(self.columns, GAP) + _WRAPPED
        self.line_feed()
        self.x = 0
        self._end_line(self.y)  # below the margins there may be no next row

    def _end_line(self, y: int) -> None:
        """The line does not go on after this row."""
        if y >= 0 and len(self.rows[y]) > self.columns:
            self.rows[y] = self.rows[y][: self.columns]

    def _accent(self, marks: str) -> None:
        row, x = self.rows[self.y], self.x - 1
        if 0 < x < len(row) and is_wide(row[x - 1]):
            x -= 1
        if 0 <= x < len(row):
            self.rows[self.y] = row[:x] + self.cells.accent(row[x], marks) + row[x + 1 :]

    def write_lines(self, lines: list[str]) -> bool:
        """Writes whole lines at once, if nothing stands at or below the cursor and no mode is on; says whether."""
        plain = self.autowrap and not self.insert and self.final - self.first == self.lines - 1
        if not plain or self.x or self._main or any(self.rows[self.y :]):
            return False
        self._end_line(self.y - 1)
        del self.rows[self.y :]
        for line in lines:
            cells, at = (line, 0) if line.isascii() else (self.cells.split(line)[1], 0)
            while len(cells) - at > self.columns:
                row = cells[at : at + self.columns - is_wide(cells[at + self.columns - 1])]
                self.rows.append(row.ljust(self.columns, GAP) + _WRAPPED)
                at += len(row)
            self.rows.append(cells[at:])
        self.y = len(self.rows)
        top = max(self.top, self.y + 1 - self.lines)
        self._scrolled += sum(map(len, self.rows[self.top : top]))
        self.top = top
        self.rows += [""] * (top + self.lines - self.y)
        if self._scrolled > self.scrollback:
            self._forget()
        return True

    def repeat(self, n: int) -> None:
        """REP: the last character again, to the end of the row at most."""
        last = self._last if is_wide(self._last[0]) else self._last[-1]
        self._write_cells(last * min(n, max(1, (self.columns - self.x) // len(last))))

    # Moving

    def settle(self) -> None:
        """The cursor onto a column, where it stands behind the last one."""
        self.x = min(self.x, self.columns - 1)

    def to_column(self, x: int) -> None:
        """The cursor to a column, from 0, of its row."""
        self.x = max(0, min(x, self.columns - 1))

    def to_row(self, y: int) -> None:
        """The cursor to a row of the screen, from 0, or of the margins in origin mode."""
        low, high = (self.first, self.final) if self.origin else (0, self.lines - 1)
        self.y = self.top + max(low, min(y + low, high))
        self.settle()

    def move_rows(self, n: int) -> None:
        """The cursor down (up: negative), as far as the margin or the edge of the screen."""
        at = self.y - self.top
        low = self.first if at >= self.first else 0
        high = self.final if at <= self.final else self.lines - 1
        self.y = self.top + max(low, min(at + n, high))
        self.settle()

    def line_feed(self) -> None:
        """IND: down one row in the same column, scrolling at the bottom margin."""
        at = self.y - self.top
        if at == self.final:
            self.scroll_up(1)
        elif at < self.lines - 1:
            self.y += 1

    def reverse_line_feed(self) -> None:
        """RI: up one row, scrolling at the top margin."""
        if self.y - self.top == self.first:
            self.scroll_down(1)
        elif self.y > self.top:
            self.y -= 1

    def tab(self, n: int) -> None:
        """The cursor `n` tab stops on (back: negative)."""
        at = bisect_right(self._stops, self.x) + n - 1 if n > 0 else bisect_left(self._stops, self.x) + n
        self.x = 0 if at < 0 else self._stops[at] if at < len(self._stops) else self.columns - 1

    def set_tab(self) -> None:
        """HTS: a tab stop in this column."""
        if self.x < self.columns and self.x not in self._stops:
            insort(self._stops, self.x)

    def clear_tabs(self, every: bool) -> None:
        """TBC: no tab stop in this column, or in any."""
        self._stops = [] if every else [stop for stop in self._stops if stop != self.x]

    def set_margins(self, first: int, final: int) -> None:
        """DECSTBM: the rows, from 0, that scroll."""
        final = min(final, self.lines - 1)
        if first < final:
            self.first, self.final = first, final
            self.x = 0
            self.to_row(0)

    # Erasing, inserting, deleting, scrolling

    def erase_in_line(self, how: int) -> None:
        """EL: 0 from the cursor to the end of the row, 1 from its beginning to the cursor, 2 all of it."""
        self.settle()
        row = self.rows[self.y]
        if how:
            self._end_line(self.y - 1)
        if how == 0:
            self.rows[self.y] = before(row, self.x)
        elif how == 1:
            end = self.x + 1
            self.rows[self.y] = " " * end + after(row, end) if end < len(row) else ""
        elif how == 2:
            self.rows[self.y] = ""

    def erase_in_display(self, how: int) -> None:
        """ED: 0 from the cursor on, 1 up to the cursor, 2 the screen, 3 the scroll-back."""
        y, top = self.y, self.top
        if how in (0, 1):
            self.erase_in_line(how)
        if how == 0:
            self.rows[y + 1 :] = [""] * (top + self.lines - y - 1)
        elif how == 1:
            self._end_line(top - 1)
            self.rows[top:y] = [""] * (y - top)
        elif how == 2:
            self.settle()
            self._end_line(top - 1)
            self.rows[top:] = [""] * self.lines
        elif how == 3:
            self._drop_scrollback(self._main[1] if self._main else top)

    def erase_chars(self, n: int) -> None:
        """ECH: blanks from the cursor on."""
        self.settle()
        row, end = self.rows[self.y], self.x + n
        self.rows[self.y] = before(row, self.x) + (" " * n + after(row, end) if end < len(row) else "")

    def insert_chars(self, n: int) -> None:
        """ICH: blanks at the cursor; what stood there moves to the right, and off the screen."""
        self.settle()
        row = self.rows[self.y]
        if self.x < len(row):
            moved = " " * min(n, self.columns) + after(row, self.x)
            self.rows[self.y] = before(before(row, self.x) + moved, self.columns)

    def delete_chars(self, n: int) -> None:
        """DCH: what stands to the right of the deleted moves to the left."""
        self.settle()
        row = self.rows[self.y][: self.columns]
        self.rows[self.y] = before(row, self.x) + after(row, self.x + n)

    def insert_rows(self, n: int) -> None:
        """IL: blank rows at the cursor; what stood there moves down, and out of the margins."""
        if self.first <= self.y - self.top <= self.final:
            self._shift(self.y, self.top + self.final + 1, -n)
            self.x = 0

    def delete_rows(self, n: int) -> None:
        """DL: what stands below the deleted rows moves up."""
        if self.first <= self.y - self.top <= self.final:
            self._shift(self.y, self.top + self.final + 1, n)
            self.x = 0

    def scroll_up(self, n: int) -> None:
        """SU: the rows within the margins move up; from the top of the main screen they go into the scroll-back."""
        end = self.top + self.final + 1
        if self.first or self._main:
            self._shift(self.top + self.first, end, n, whole=False)
            return
        n = min(n, end - self.top)
        self.rows[end:end] = [""] * n
        self._scrolled += len(self.rows[self.top]) if n == 1 else sum(map(len, self.rows[self.top : self.top + n]))
        self.top += n
        self.y += n
        if self._scrolled > self.scrollback:
            self._forget()

    def scroll_down(self, n: int) -> None:
        """SD: the rows within the margins move down, and out of them."""
        self._shift(self.top + self.first, self.top + self.final + 1, -n)

    def _shift(self, begin: int, end: int, n: int, whole: bool = True) -> None:
        """Moves rows up by `n` (down: negative) within their range; `whole`: no line goes on over its edges."""
        if whole:
            self._end_line(begin - 1)
            self._end_line(end - 1)
        size = min(abs(n), end - begin)
        blank = [""] * size
        self.rows[begin:end] = self.rows[begin + size : end] + blank if n > 0 else blank + self.rows[begin : end - size]

    def _forget(self) -> None:
        """Drops the older half of the scroll-back."""
        self._drop_scrollback(self.top // 2 + 1)

    def _drop_scrollback(self, n: int) -> None:
        rows = self._main[0] if self._main else self.rows
        self._scrolled -= sum(map(len, rows[:n]))
        del rows[:n]
        if self._main:
            self._main = rows, self._main[1] - n
        else:
            self.top, self.y = self.top - n, self.y - n

    def align(self) -> None:
        """DECALN: a screen full of E."""
        self.first, self.final = 0, self.lines - 1
        self.rows[self.top :] = ["E" * self.columns] * self.lines
        self.x, self.y = 0, self.top

    def show_alternate(self, on: bool, clear: bool) -> None:
        """Shows the alternate screen, or the main one again; `clear`: the alternate one is emptied."""
        row = self.y - self.top
        if clear and (on or self._main):
            self._alternate = [""] * self.lines
            if self._main:
                self.rows = self._alternate
        if on and not self._main:
            self._main = self.rows, self.top
            self.rows, self.top = self._alternate, 0
        elif not on and self._main:
            self._alternate = self.rows
            (self.rows, self.top), self._main = self._main, None
        self.y = self.top + row
