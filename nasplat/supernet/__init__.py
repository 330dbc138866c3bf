"""One store of the largest weights; every subnet is a plain module bound to slices of it.

store.py     largest shape of every parameter       slicing.py     which part of it a subnet takes
subnet.py    modules bound to slices                optimiser.py   AdamW that moves only what was sampled
strategy.py  which subnets a step trains            recalibrate.py BatchNorm statistics of one subnet
training.py  the loop, checkpoints, resume          teacher.py     from whom a subnet learns beside its targets
supernet.py  the public face
"""

from nasplat.supernet.supernet import Supernet
from nasplat.supernet.training import TrainConfig

__all__ = ["Supernet", "TrainConfig"]
