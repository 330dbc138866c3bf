"""Hybrid: each block of a stage mixes places by convolution, by attention, or by several convolutions under a gate.

Sources: the meta-mobile block of EMO (Zhang et al., ICCV 2023, arXiv:2301.01146) with its attention switched on or off,
and multi-kernel convolutional attention after the idea of ConvFormer's MCA (Wei et al. 2022, arXiv:2209.07738):
expansion, depthwise convolutions of several sizes summed, an input-dependent gate, projection. MCA's kernels, its way
of combining them and its gate are
unpublished: the options here are ours, and no published network is reproduced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from nasplat import Pick, space
from nasplat.blocks import Classifier, ConvNormAct, MetaMobile, MultiKernel, PixelNorm, chain

MIXERS = ("convolution", "attention", "multi-kernel")
KERNELS = ("3", "3,5", "3,7", "3,5,7")
GATES = ("none", "channel", "spatial")


class Hybrid(nn.Module):
    """Stem, stages, normalisation, head."""

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], width: int, classes: int) -> None:
        """Join a stem and stages whose last has `width` channels."""
        super().__init__()
        self.stem = stem
        self.stages = chain([(f"stage{i}", stage) for i, stage in enumerate(stages)])
        self.norm = PixelNorm(width)
        self.head = Classifier(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to class scores (B, classes)."""
        return self.head(self.norm(self.stages(self.stem(x))))


@space(example_input=lambda image=224, channels=3, **presets: (1, channels, image, image))
def hybrid(
    pick: Pick,
    widths: Sequence[Sequence[int]] = ((32, 48), (64, 96), (128, 160, 192), (224, 288)),
    depths: Sequence[Sequence[int]] = ((1, 2), (1, 2, 3), (2, 4, 6, 8), (1, 2, 3)),
    expands: Sequence[float] = (1.0, 2.0, 4.0),
    head_dim: int = 16,
    stem_stride: int = 2,
    window: int = 7,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
) -> nn.Module:
    """Build a network whose blocks mix places by convolution, attention or gated convolutions, as picked.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        widths: Options for the channels, for each stage; our choice, near EMO's.
        depths: Options for the number of blocks, for each stage; our choice.
        expands: Options for the expansion of a block.
        head_dim: Channels of an attention head.
        stem_stride: Stride of the stem; 1 keeps small images large.
        window: Side of the attention's windows in places; EMO's 7.
        classes: Number of classes that the head tells apart; the default is ImageNet's.
        image: Side of the square input images in pixels; the default is ImageNet's usual crop.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    plans: list[tuple[int, list[dict[str, Any]]]] = []
    for i in range(len(widths)):
        width, rows = pick(f"stage{i}.width", tuple(widths[i])), []
        for j in range(pick(f"stage{i}.depth", tuple(depths[i]))):
            at = f"stage{i}.block{j}"
            row: dict[str, Any] = {"mixer": pick(f"{at}.mixer", MIXERS), "expand": pick(f"{at}.expand", tuple(expands))}
            if row["mixer"] == "multi-kernel":
                row |= {"kernels": pick(f"{at}.kernels", KERNELS), "gate": pick(f"{at}.gate", GATES)}
            else:
                row["kernel"] = pick(f"{at}.kernel", (3, 5))
            rows.append(row)
        plans.append((width, rows))
    stem = ConvNormAct(channels, plans[0][0] // 2, 3, stem_stride, activation=nn.SiLU)
    stages, last = [], plans[0][0] // 2
    for width, rows in plans:
        down = MetaMobile(last, width, last * 2, 3, 2, norm=nn.BatchNorm2d)
        blocks: list[tuple[str, nn.Module]] = [("down", down)]
        for j, row in enumerate(rows):
            hidden = int(width * row["expand"])
            if row["mixer"] == "multi-kernel":
                sizes = tuple(int(k) for k in row["kernels"].split(","))
                made: nn.Module = MultiKernel(width, hidden, sizes, row["gate"])
            else:
                heads = max(1, width // head_dim) if row["mixer"] == "attention" else 0
                made = MetaMobile(
                    width, width, hidden, row["kernel"], 1, heads=heads, window=window, norm=PixelNorm, act=nn.GELU
                )
            blocks.append((f"block{j}", made))
        stages.append(chain(blocks))
        last = width
    return Hybrid(stem, stages, last, classes)
