"""What a network is trained and judged on: data, a loss and a metric.

task.py      data in three splits, loss, metric     settings.py  options checked by name, type and range
digits.py    the embedded task of digits            files.py     IDX and npz files, and folders of these
drawn.py     tasks drawn on the spot                variants.py  small, imbalanced and noisy versions
descriptor.py  a task in numbers, from its data
derived.py   other questions about the same images  training.py  a network trained from its initial values
arrays.py    whatever holds numbers as inputs       targets.py   labels as people keep them, as class numbers
judging.py   losses, metrics, what they refuse      pictures.py  folders of pictures
bundle.py    several inputs as one, as of graphs
tokens.py    sentences and texts, the next token of which is told
stereo.py    tasks of stereo pairs, with stereo_loss.py, stereo_pairs.py, stereo_scenes.py and stereo_pictures.py
"""

from nasplat.task.bundle import Bundle
from nasplat.task.task import Split, Task

__all__ = ["Bundle", "Split", "Task"]
