"""One store of the largest weights; every subnet is a plain module bound to slices of it.

store.py     largest shape of every parameter       slicing.py     which part of it a subnet takes
subnet.py    modules bound to slices                optimiser.py   AdamW that moves only what was sampled
strategy.py  which subnets a step trains            recalibrate.py BatchNorm statistics of one subnet
training.py  the loop, checkpoints, resume          teacher.py     from whom a subnet learns beside its targets
sorting.py   important channels first               processes.py   several processes, one reduction a step
health.py    how the subnets do, every epoch        compiling.py   blocks compiled once for all widths
sharing.py   one head for all bodies                supernet.py    the public face
"""

from nasplat.supernet.strategy import Lesson, Phase, Strategy
from nasplat.supernet.supernet import Supernet
from nasplat.supernet.training import TrainConfig
from nasplat.workflows.pseudo_labels import PseudoLabel, SharedHead

__all__ = ["Lesson", "Phase", "PseudoLabel", "SharedHead", "Strategy", "Supernet", "TrainConfig"]
