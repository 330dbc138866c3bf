"""`TrainConfig`: every setting of a supernet's training, checked in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nasplat.errors import SupernetError
from nasplat.supernet.strategy import STRATEGIES
from nasplat.task.settings import Check

OWN = "own:"
"""Stands before the name of a strategy that was passed as an object."""
TEACHERS = ("none", "largest", "sampled", "given")
PICKS = ("uniform", "matched", "best")
LOSSES = ("soft", "hard", "features")


@dataclass(frozen=True)
class TrainConfig:
    """How a supernet is trained; on a command line every field is an option, such as `--train.epochs=20`.

    Raises:
        SupernetError: a value is of the wrong type, not finite, or outside the range that its field states.

    Example:
        >>> TrainConfig(epochs=3, strategy="sandwich").lr
        0.003
    """

    epochs: int = 10
    """Passes over the training split (or as many fresh examples), at least 1. The default is seconds to minutes of work
    on the embedded tasks, and enough to rank their subnets."""
    strategy: str = "single-path"
    """Which subnets a step trains: single-path, sandwich, warm-sandwich, progressive, shrinking or ovo. The default
    takes the most steps for the compute; `Supernet.train` also accepts an object."""
    batch_size: int = 64
    """Examples per step, at least 1; every subnet of the step sees the same ones. The default suits a CPU; processes
    that train together share it."""
    lr: float = 3e-3
    """Peak learning rate of AdamW, above 0: linear warm-up over the first tenth of the run, then cosine to zero, unless
    the strategy has a schedule of its own. The default suits the embedded tasks; larger networks want less."""
    weight_decay: float = 0.01
    """Decoupled weight decay on matrices and kernels, at least 0, per step in units of the learning rate. The default
    is AdamW's usual one."""
    clip: float = 1.0
    """Largest global norm of a step's gradient, above 0; inf clips nothing. The default keeps steps of small subnets,
    whose gradients are large at first, from undoing those of others."""
    temperature: float = 1.0
    """Divides the outputs of teacher and student before their softmax, above 0; larger values say more about the less
    likely classes. The default compares the outputs as they are."""
    teacher: str = "sampled"
    """Who teaches in strategy ovo: none, largest or sampled (subnets of the same supernet), or given (see
    `Supernet.train`, which sets it). The default is the method of the paper."""
    joint: bool = True
    """True trains the teacher along on the targets, as the paper does; False leaves its weights as they are."""
    pick: str = "uniform"
    """Which sampled subnet teaches: uniform; matched, whose rank of MACs is near the student's; or best of `draws`, by
    the loss of the batch. Among these the default measured best at equal compute."""
    draws: int = 3
    """Subnets that pick=best compares, at least 1. Each costs one more forward pass a step, hence few."""
    distill: str = "soft"
    """What is learnt from the teacher: soft outputs, hard ones (its most likely class), or features (what its last
    linear layer reads). The default needs no further weights."""
    distill_weight: float = 0.5
    """Share of the teacher in the student's loss, from 0 to 1; features are added to the loss of the targets with this
    weight. 0 leaves out the teacher of strategy progressive, and that of sandwiches of networks that answer maps."""
    dense: bool = False
    """True lets decay and momentum move all of a touched weight, as Once-for-All does; by default only the sampled
    slice moves."""
    bf16: bool = False
    """True computes forward passes under bfloat16 autocast, losses still in float32. Meant for GPUs, hence off."""
    channels_last: bool = False
    """True keeps images and convolution weights with channels innermost in memory. Meant for GPUs with bf16, hence
    off."""
    compile: bool = False
    """True runs repeated blocks through torch.compile, with widths as symbols. Meant for GPUs: on CPUs steps measured
    slower."""
    watch: bool = True
    """True evaluates the smallest, the largest and eight random subnets on a part of the decide split after every
    epoch, so that a training that goes wrong is seen early."""

    def __post_init__(self) -> None:
        """Refuse values of the wrong type or outside their range, by the name of the option."""
        check = Check(self, SupernetError, "train").types()
        check.within("epochs", "batch_size", "draws", least=1)
        check.within("lr", above=0, advice="Use for instance 3e-3: otherwise nothing would move.")
        check.within("weight_decay", least=0).within("clip", above=0, most=math.inf).within("temperature", above=0)
        check.within("distill_weight", least=0, most=1)
        if not self.strategy.startswith(OWN):
            check.among("strategy", STRATEGIES)
        check.among("teacher", TEACHERS).among("pick", PICKS).among("distill", LOSSES)
