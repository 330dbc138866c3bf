"""What a network is trained and judged on.

task.py    data in three splits, loss, metric      digits.py   the embedded task      files.py   IDX and npz image files
derived.py other questions about a task's images   training.py a network trained for a few epochs
stereo.py  pairs of views, with pairs.py, scenes.py and pictures.py
"""

from nasplat.task.task import Split, Task

__all__ = ["Split", "Task"]
