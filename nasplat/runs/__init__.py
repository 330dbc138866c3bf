"""Run folders: what was asked, done, expected, repeated and shown.

page.py  a run folder as report.html     supernet_curves.py  how the training of a supernet went
"""

from nasplat.runs.page import write_report

__all__ = ["write_report"]
