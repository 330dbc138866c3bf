"""Labelled architectures and what is computed from labels.

table.py  rows of labels, read, written and split     metrics.py  agreement, error and coverage of predictions
"""

from nasplat.tables.table import Table, read_table

__all__ = ["Table", "read_table"]
