"""Runs as values, and their folders: what was asked, done, expected, repeated and shown.

run.py       AbstractRun: to and from plain data, TOML, words            kinds.py       the five kinds of runs
fields.py    their fields and sentences, read without torch             folder.py      files of a run folder, run.json
reading.py   JSON and journals that may be altered or cut short
execute.py   execute, forecast, words and open_run of any run           found.py       what runs give
messages.py  where a run tells what it is doing
preparation.py  what a search needs to begin                            objectives.py  words for quality and cost
guide.py     predictors behind a search                                 trials.py      its trials, by processes
searching.py a search from its start to its report                      results.py     what it gives
training.py  supernets of run folders, trained and found again          labelling.py   the table of a labelling
improvement.py  the folder of an improvement                            demo.py        the whole way on embedded data
forecast.py  time and memory before anything starts                     replay.py      a run repeated and compared
timed_work.py  pieces of the work of a run, timed                    stopwatch.py  seconds of pieces, scaled up
doctor.py    the installation checked                                   listings.py    tables, each described once
page.py      a run folder as report.html, with charts.py, importance.py, supernet_curves.py and delivered.py

Nothing is imported here, so that the command line reads `fields` without torch.
"""
