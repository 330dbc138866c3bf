"""Graphs become numbers that predictors read.

arrays.py      one row per operation, and the spectrum of the graph
paths.py       what the ways through graphs add up to
statistics.py  named statistics of a whole graph
work.py        sums over what a runtime executes, by kind of operation
view.py        all of these, as a predictor sees one network
twins.py       which views show one network
views_on_disk.py  the views of many networks in one file
"""
