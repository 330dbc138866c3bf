"""Run folders: what was asked, done, expected, repeated and shown.

folder.py    the files of a run folder, run.json           messages.py     where a run tells what it is doing
search.py    SearchRun: what a search is asked for         objectives.py   words for quality and cost
preparation.py  what a search needs to begin               guide.py        predictors behind a search
trials.py    its trials, by one process or several         results.py      what it gives
training.py  TrainRun, and supernets of run folders
forecast.py  time and memory before anything starts        replay.py       a run repeated and compared
demo.py      the whole way on embedded data                doctor.py       the installation checked
improvement.py  the folder of an improvement               listings.py     tables, each described once
page.py      a run folder as report.html, with charts.py, importance.py, supernet_curves.py and delivered.py
"""

from nasplat.runs.page import write_report

__all__ = ["write_report"]
