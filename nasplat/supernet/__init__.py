"""One store of the largest weights; every subnet is a plain module bound to slices of it.

store.py        the largest weights, and how they are cut   slicing.py         which part of a weight a subnet takes
walks.py        what a walk found, kept on disk
survey.py       the walk that finds the largest shapes      extremes.py        largest networks, what a choice changes
subnet.py       modules bound to slices                     optimiser.py       AdamW that moves only what was sampled
strategy.py     which subnets a step trains                 recalibrate.py     running statistics of one subnet
config.py       settings of a training                      training.py        the loop over epochs, resume
updates.py      one step: lessons, gradients, update        checkpoint.py      weights and history in one file
history.py      what an epoch says of itself                health.py          how the subnets do, every epoch
teacher.py      from whom a subnet learns                   subnet_teachers.py subnets that teach other subnets
appointment.py  who teaches in a training                   distillation.py    losses of not answering like a teacher
ranks.py        where a subnet's cost stands in its space   sorting.py         important channels first
adoption.py     weights that were trained elsewhere         processes.py       several processes, one reduction a step
compiling.py    blocks compiled once for all widths         belonging.py       whose weights a checkpoint holds
supernet.py     the public face                             probing.py         what passes an unknown operation
following.py    which positions a narrower member takes     layouts.py         what an axis consists of, as a value
flow.py         weights' axes along a network's data        tracks.py          axes of the tensors of one pass
axis_rules.py   what operations do with axes                axes.py            axes that are one, factors, segments
running.py      buffers that training changes
"""

from nasplat.supernet.config import TrainConfig
from nasplat.supernet.strategy import Lesson, Phase, Strategy
from nasplat.supernet.supernet import Supernet

__all__ = ["Lesson", "Phase", "Strategy", "Supernet", "TrainConfig"]
