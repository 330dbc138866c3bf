"""Labelled architectures, what is computed from labels, and how rows are kept and shown.

table.py    labelled rows, divided, joined and written   reading.py  tables from CSV and JSON files
metrics.py  agreement, error and coverage                splits.py   row numbers of parts and folds
rows.py     files that grow by whole rows                listing.py  a printed table in three formats
appending.py  a record is added to a file under a lock
spreadsheets.py  text, cells and numbers of what spreadsheets save
"""

from nasplat.tables.reading import read_table
from nasplat.tables.table import Table

__all__ = ["Table", "read_table"]
