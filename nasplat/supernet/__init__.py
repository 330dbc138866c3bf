"""One store of the largest weights; every subnet is a plain module bound to slices of it.

store.py     largest shape of every parameter        slicing.py     which part of it a subnet takes
survey.py    the walk that finds those shapes        extremes.py    largest networks, and what each choice changes
subnet.py    modules bound to slices                 optimiser.py   AdamW that moves only what was sampled
strategy.py  which subnets a step trains             recalibrate.py BatchNorm statistics of one subnet
config.py    settings of a training                  training.py    the loop over epochs, resume
updates.py   one step: lessons, gradients, update    checkpoint.py  weights and history in one file
history.py   what an epoch says of itself            health.py      how the subnets do, every epoch
teacher.py   from whom a subnet learns               own_teachers.py  subnets that teach, and who is appointed
ranks.py     where a subnet's cost stands            appointment.py  who teaches in a training
distillation.py losses of not answering alike
sorting.py   important channels first                adoption.py    weights of a network that was trained elsewhere
processes.py several processes, one reduction a step compiling.py   blocks compiled once for all widths
supernet.py  the public face
"""

from nasplat.supernet.config import TrainConfig
from nasplat.supernet.strategy import Lesson, Phase, Strategy
from nasplat.supernet.supernet import Supernet

__all__ = ["Lesson", "Phase", "Strategy", "Supernet", "TrainConfig"]
