"""The user space of the documentation: ten lines, parts marked with `@nasplat.block`."""

from __future__ import annotations

from torch import nn

import nasplat


@nasplat.block
class Layer(nn.Sequential):
    """Convolution, normalisation, activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.BatchNorm2d(outputs), nn.ReLU())


@nasplat.space(example_input=(1, 3, 32, 32))
def ten_lines(pick: nasplat.Pick) -> nn.Module:
    depth, width = pick("depth", (4, 8, 12, 16)), pick("width", (16, 32, 64))
    kernels = [pick(f"layer{i}.kernel", (1, 3, 5)) for i in range(depth)]
    net = nn.Sequential()
    for i, kernel in enumerate(kernels):
        net.add_module(f"layer{i}", Layer(width if i else 3, width, kernel))
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flat", nn.Flatten())
    net.add_module("head", nn.Linear(width, 10))
    return net
