"""What spreadsheets save becomes plain text, cells and numbers, or a sentence that says why it cannot.

Text is UTF-8, or UTF-16 behind a byte order mark; lines end as they like; cells stand between commas, semicolons or
tabs. A column of numbers is read in one style: with a decimal point, or with a decimal comma where only that fits.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence

from nasplat.errors import TableError

LEAST_LIMIT, RATIO = 2**28, 100
"""Bytes that a compressed file may always unpack to, and how many times its own size it may beyond that."""
DELIMITERS = (",", ";", "\t")
"""Characters that may stand between cells; the first one that fits the header wins."""
MISSING = ("", "na", "n/a", "#n/a", "null", "none", "-", "–", "—", "failed", "diverged", "oom", "timeout")
"""Cells, in small letters, that say that there is no number, beside those that Python reads as nan."""
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_GROUPS = "'’\u00a0\u202f\u2009 "
"""Characters beside comma and point that set off thousands."""
_STYLES = {
    ".": re.compile(rf"[+-]?(?:\d+|[1-9]\d{{0,2}}(?:[,{_GROUPS}]\d{{3}})+)?(?:\.\d*)?(?:[eE][+-]?\d+)?"),
    ",": re.compile(rf"[+-]?(?:\d+|[1-9]\d{{0,2}}(?:[.{_GROUPS}]\d{{3}})+)?(?:,\d*)?(?:[eE][+-]?\d+)?"),
}


def unpacked(raw: bytes) -> bytes:
    """Unpack gzip data, and nothing that grows beyond all measure.

    Args:
        raw: Content of a file; what is not gzip data comes back as it is.

    Returns:
        The content, at most `RATIO` times as long as the data, or `LEAST_LIMIT` bytes where that is more.

    Raises:
        OSError: the data is broken, or unpacks to more.

    Example:
        >>> unpacked(gzip.compress(b"arch,acc"))
        b'arch,acc'
    """
    if raw[:2] != b"\x1f\x8b":
        return raw
    limit, parts, size = max(LEAST_LIMIT, RATIO * len(raw)), list[bytes](), 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            while part := file.read(2**20):
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise gzip.BadGzipFile(f"{len(raw):,} bytes unpack to more than {limit:,}")
    except (EOFError, zlib.error) as err:
        raise gzip.BadGzipFile(f"broken gzip data: {err}") from err
    return b"".join(parts)


def decoded(raw: bytes) -> str:
    r"""Read text whose encoding its first bytes may tell.

    Args:
        raw: Content of a file that is no longer compressed.

    Returns:
        The text without a byte order mark.

    Raises:
        ValueError: the content is no text, or in another encoding than UTF-8 without a mark that says so.

    Example:
        >>> decoded("arch\tacc".encode("utf-16"))
        'arch\tacc'
    """
    if raw.startswith(_WORKBOOKS):
        raise ValueError("this is a workbook of a spreadsheet program: save its sheet as CSV UTF-8")
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as err:
        raise ValueError(f"no {encoding} text, {err.reason} at byte {err.start:,}: save it as CSV UTF-8") from err
    if "\0" in text:
        raise ValueError(f"it holds the character NUL at {text.index(chr(0)):,}: save it as CSV UTF-8")
    return text


class Cells:
    """Header and rows of a text of cells; rows and columns without any text are left out."""

    def __init__(self, text: str, wanted: Sequence[str]) -> None:
        """Find what stands between the cells, and read the header.

        Args:
            text: Whole text, with line ends of any kind.
            wanted: Columns that the header should name, which tell which character separates cells.

        Raises:
            ValueError: a line cannot be read, or two columns have one name.
        """
        stated = re.match(r'"?sep=(.)"?\r?\n?', text)  # what Excel writes, and reads, before the header
        self._text, self._skipped = (text[stated.end() :], 1) if stated else (text, 0)
        choices = [stated[1]] if stated else DELIMITERS
        headers = {d: self._header(d) for d in choices}
        self.delimiter = max(headers, key=lambda d: (len(set(wanted) & set(headers[d])), len(headers[d])))
        """Character between cells."""
        self.columns = headers[self.delimiter]
        """Names of the columns, without spaces around them; one that lacks a name gets its place as one."""
        for i, name in enumerate(self.columns):
            if name in self.columns[:i]:
                first = self.columns.index(name) + 1
                raise ValueError(f"column {name!r} stands twice, at {first} and {i + 1}: rename or remove one")

    def _header(self, delimiter: str) -> list[str]:
        """Names of the columns if this character separates them; empty ones at the end are left out."""
        for _, cells in self._lines(delimiter):
            names = [c.strip() for c in cells]
            while not names[-1]:
                names.pop()
            return [name or f"column {i}" for i, name in enumerate(names, start=1)]
        return []

    def _check_names(self) -> None:
        for i, name in enumerate(self.columns):
            if name in self.columns[:i]:
                which = f"column {name!r}" if name else "a column without a name"
                raise ValueError(
                    f"{which} stands twice, at {self.columns.index(name) + 1} and {i + 1}: rename or remove one"
                )

    def _lines(self, delimiter: str) -> Iterator[tuple[int, list[str]]]:
        """Numbers of lines and their cells, those without any text left out."""
        reader = csv.reader(io.StringIO(self._text, newline=""), delimiter=delimiter)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as err:
                raise ValueError(f"line {reader.line_num + self._skipped} cannot be read: {err}") from err
            if any(c.strip() for c in cells):
                yield reader.line_num + self._skipped, cells

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Read the rows below the header.

        Yields:
            Number of the line and its cells; empty ones beyond the last column are left out.

        Raises:
            ValueError: a line cannot be read.
        """
        lines = self._lines(self.delimiter)
        next(lines, None)
        for number, cells in lines:
            while len(cells) > len(self.columns) and not cells[-1].strip():
                cells = cells[:-1]
            yield number, cells


def numbers(cells: Sequence[tuple[int, str]], column: str, where: str, delimiter: str = ",") -> list[float]:
    """Read a column of numbers in one style.

    Args:
        cells: Number of the line and text of each cell.
        column: Name of the column, for messages.
        where: Name of the file, for messages.
        delimiter: Character between cells; a decimal comma is likelier where that is a semicolon.

    Returns:
        Value of each cell; nan where there is none.

    Raises:
        TableError: a cell is no number, or the column can be read with a decimal comma and with commas between
            thousands.

    Example:
        >>> numbers([(2, "93,2"), (3, "1.093,25"), (4, "")], "ms", "t.csv")
        [93.2, 1093.25, nan]
    """
    plain = [plain_number(text) for _, text in cells]
    if all(value is not None for value in plain):
        return [value for value in plain if value is not None]
    read = {style: [_styled(text, style) for _, text in cells] for style in _STYLES}
    fitting = [style for style, values in read.items() if all(v is not None for v in values)]
    if not fitting:
        number, text = next(
            (cell for cell, *found in zip(cells, *read.values(), strict=True) if found == [None, None]),
            next(cell for cell, value in zip(cells, plain, strict=True) if value is None),
        )
        formula = " Save values, not formulas." if text.strip().startswith(("=", "#")) else ""
        raise TableError(f"{where}:{number}: expected a number in {column!r}, got {text!r}.\n  Mend the cell.{formula}")
    unequal = [
        (cell, a, b)
        for cell, a, b in zip(cells, read["."], read[","], strict=True)
        if a != b and not (a != a and b != b)
    ]
    if len(fitting) == 2 and unequal and delimiter != ";":
        (number, text), with_point, with_comma = unequal[0]
        raise TableError(
            f"{where}:{number}: expected a number in {column!r}, got {text!r}, which can be {with_point:g} or "
            f"{with_comma:g}.\n  Write decimal points, and nothing between thousands."
        )
    chosen = "," if "," in fitting and (delimiter == ";" or len(fitting) == 1) else fitting[0]
    return [value for value in read[chosen] if value is not None]


def plain_number(text: str) -> float | None:
    """Read a number as Python writes it.

    Args:
        text: Text of a cell.

    Returns:
        The number, nan for a missing one; None for any other text.

    Example:
        >>> plain_number(" 93.2"), plain_number("n/a"), plain_number("93,2")
        (93.2, nan, None)
    """
    text = text.strip()
    if text.lower() in MISSING:
        return float("nan")
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _styled(text: str, style: str) -> float | None:
    """A number with this character before its decimals, nan for a missing one; None for any other text."""
    text = text.strip().replace("\u2212", "-")
    if style == "." or not any(c.isdigit() for c in text):
        plain = plain_number(text)
        if plain is not None:
            return plain
    if not _STYLES[style].fullmatch(text) or not any(c.isdigit() for c in text):
        return None
    return float(re.sub(rf"[{_GROUPS}{'.' if style == ',' else ','}]", "", text).replace(",", "."))
