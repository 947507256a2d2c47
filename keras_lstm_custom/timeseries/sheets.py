"""The cells of a CSV file as text, with the line each came from."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.timeseries.checks import names_shown, shown

#: What stands for no value, in small letters.
MISSING_CELLS = {"", "na", "n/a", "#n/a", "#na", "<na>", "n.a.", "nan", "null", "none", "-", "--", "?", ".", ".."}
#: What a shell passes where a tab is meant.
_TABS = {"\\t": "\t", "tab": "\t"}


class Kind(NamedTuple):
    """A kind of file that is no CSV."""

    what: str
    reader: str  #: of pandas


#: How files begin that are no text of cells.
_KINDS = {
    b"PK\x03\x04": Kind("an Excel file (or another ZIP archive)", "read_excel"),
    b"\xd0\xcf\x11\xe0": Kind("an old Excel file", "read_excel"),
    b"PAR1": Kind("a Parquet file", "read_parquet"),
    b"\x89HDF": Kind("an HDF5 file", "read_hdf"),
    b"\x1f\x8b": Kind("compressed by gzip", "read_csv"),
    b"[{": Kind("JSON", "read_json"),
    b"{": Kind("JSON", "read_json"),
}


def foreign(content: bytes) -> Kind | None:
    """Return what a file is that begins like this, None if it may be CSV."""
    return next((kind for start, kind in _KINDS.items() if content.startswith(start)), None)


class Sheet(NamedTuple):
    """The cells of a file as text; `lines[k]` is the line of the file on which row k ends."""

    name: str
    columns: dict[str, list[str]]
    lines: list[int]

    def wrong(self, column: str, rows: Sequence[int], what: str, *, expected: str, remedy: str) -> DataError:
        """Return the error about `rows` of `column`: it shows the first and counts the others."""
        first, others = rows[0], len(rows) - 1
        more = f" (and {others} more of this kind in the column)" if others else ""
        return DataError(
            f"{self.name}, line {self.lines[first]}, column {shown(column)}: {what}",
            expected=expected,
            received=shown(self.columns[column][first]) + more,
            remedy=remedy,
        )

    def check_present(self, column: str) -> None:
        """Raise DataError unless the file has this column."""
        if column not in self.columns:
            raise DataError(
                f"{self.name} has no column {shown(column)}.",
                expected=f"one of {names_shown(self.columns, column)}",
                received=shown(column),
                remedy="Check the spelling, capitals included.",
            )

    def rows(self, chosen: Sequence[int]) -> Sheet:
        """Return the sheet of some rows."""
        return Sheet(
            self.name,
            {name: [cells[k] for k in chosen] for name, cells in self.columns.items()},
            [self.lines[k] for k in chosen],
        )


def read_sheet(path: Path, separator: str = ",") -> Sheet:
    """Read all cells as text, and check that every row has as many as the header.

    Raises:
        ArgumentError: `separator` is not one character (or the two characters of an escaped tab).
        DataError: the file cannot be read, or is no table.
    """
    separator = _TABS.get(separator, separator)
    if len(separator) != 1 or separator in '"\r\n':
        raise ArgumentError(
            "The separator of the cells is not usable.",
            expected=r"one character, such as ',' or ';', or \t for a tab",
            received=shown(separator),
            remedy="Pass the character that stands between the cells.",
        )
    try:
        with path.open("rb") as file:
            kind = foreign(file.read(8))
        if kind is not None:
            raise DataError(
                f"{path.name} is not a CSV file.",
                expected="a text file in UTF-8, cells separated by a comma",
                received=kind.what,
                remedy=f"Read it with pandas.{kind.reader}, and write it with to_csv; or give the table itself.",
            )
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as a CSV file.",
            expected="a text file in UTF-8, cells separated by a comma",
            received=f"{type(error).__name__}: {str(error)[:200]}",
            remedy="Check the path, and save the table as CSV in UTF-8.",
        ) from error
    header = rows[0][1] if rows else []
    if len(header) < 2 or len(set(header)) < len(header) or "" in header:
        raise DataError(
            f"{path.name}, line 1: the header does not name the columns.",
            expected=f"at least two different names, separated by {separator!r}, the first for the time stamps",
            received=shown(separator.join(header)) if header else "an empty file",
            remedy="Write one line with a name for each column; with another separator, pass it as `separator`.",
        )
    if len(rows) < 4:
        raise DataError(
            f"{path.name} is too short to be a time series.",
            expected="a header and at least 3 rows",
            received=f"{max(len(rows) - 1, 0)} rows",
            remedy="Use a longer record; a forecast needs hundreds of rows.",
        )
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"{path.name}, line {line}: the row does not fit the header.",
                expected=f"{len(header)} cells, as in {shown(separator.join(header))}",
                received=f"{len(cells)} cells: {shown(separator.join(cells))}",
                remedy="Mend the line; a comma inside a number or a text needs quotes around the cell.",
            )
    columns = dict(zip(header, (list(c) for c in zip(*(cells for _, cells in rows[1:]), strict=True)), strict=True))
    return Sheet(path.name, columns, [line for line, _ in rows[1:]])
