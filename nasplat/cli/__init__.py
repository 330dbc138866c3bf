"""The command line: parses words, calls the library, prints what it returns; what verbs do lies in the rooms below.

group.py    the group of all verbs, and the entry point        options.py  shared options, fields of runs
failures.py what ended a command as one paragraph
words.py    words of a command become values                   show.py     values become tables, JSON and progress bars
score.py inspect.py spaces.py measure.py fit.py train.py search.py label.py improve.py export.py runs.py  the verbs

Heavy imports happen inside the verbs, so that `nasplat --help` is immediate.
"""

from nasplat.cli.group import cli, main

__all__ = ["cli", "main"]
