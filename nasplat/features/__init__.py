"""Graphs become numbers that predictors read.

view.py        all of them, as arrays of one network    views_on_disk.py  views of many networks in one file
arrays.py      columns per operation                   statistics.py     named statistics of a whole graph
work.py        multiplications and bytes that a runtime executes
"""
