"""What a network is trained and judged on.

task.py    data in three splits, loss, metric      digits.py   the embedded task      files.py   IDX and npz image files
registry.py tasks by name or path
"""

from nasplat.task.registry import load_task
from nasplat.task.task import Split, Task

__all__ = ["Split", "Task", "load_task"]
