"""Results made visible: one SVG of a network, one self-contained HTML page of a run.

drawing.py  a Graph as SVG, folded by module      page.py  a run folder as report.html
curves.py   how the training of a supernet went
"""

from nasplat.graph.drawing import draw, draw_diff
from nasplat.reporting.page import write_report

__all__ = ["draw", "draw_diff", "write_report"]
