"""PiT: a vision transformer in three stages, pooled between them; width, MLP ratio, depths and heads chosen.

Sources: Heo et al., ICCV 2021, arXiv:2103.16302; Wei et al., AAAI 2024, arXiv:2312.09059 (Auto-Prox). 4,320 encodings:
4 widths of a head, 4 ratios, 27 depths (labels exist for 10 of them), 10 settings of heads. PiT-Ti, XS and S as
published have their 4.85, 10.62 and 23.46 M parameters here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from nasplat import Option, Pick, space
from nasplat.blocks import PositionTable, TransformerBlock

WIDTHS = (16, 24, 32, 40)
RATIOS = (2, 4, 6, 8)
DEPTHS = ((1, 2, 3), (4, 6, 8), (2, 4, 6))
HEADS = ("2,2,2", "2,2,4", "2,2,8", "2,4,4", "2,4,8", "2,8,8", "4,4,4", "4,4,8", "4,8,8", "8,8,8")


class Pool(nn.Module):
    """Halves the grid by a depthwise convolution and widens the class token by a linear layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Build the convolution of the grid and the linear layer of the class token."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 2, 1, groups=inputs)
        self.token = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, side: int) -> Tensor:
        """Map tokens (B, 1 + side², inputs) to (B, 1 + ⌈side / 2⌉², outputs)."""
        token, grid = x[:, :1], x[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        return torch.cat([self.token(token), self.conv(grid).flatten(2).transpose(1, 2)], 1)


class PoolingTransformer(nn.Module):
    """Patches, positions, a class token, three stages with pools between them, norm, linear head."""

    slicing: ClassVar = {"token": ("fixed", "fixed", "leading")}

    def __init__(
        self,
        width: int,
        ratio: float,
        depths: Sequence[int],
        heads: Sequence[int],
        image: int,
        patch: int,
        stride: int,
        channels: int,
        classes: int,
    ) -> None:
        """Build stages of `width` channels for each head."""
        super().__init__()
        self.side = (image - patch) // stride + 1
        dims = [width * h for h in heads]
        self.patches = nn.Conv2d(channels, dims[0], patch, stride)
        self.positions = PositionTable(self.side**2, dims[0])
        self.token = nn.Parameter(torch.zeros(1, 1, dims[0]))
        self.stages, self.pools = nn.ModuleList(), nn.ModuleList()
        for i, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            if i:
                self.pools.append(Pool(dims[i - 1], dim))
            stage = nn.Sequential()
            for j in range(depth):
                stage.add_module(f"block{j}", TransformerBlock(dim, heads[i], int(dim * ratio), width))
            self.stages.append(stage)
        self.norm = nn.LayerNorm(dims[-1])
        self.head = nn.Linear(dims[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to class scores (B, classes)."""
        x = self.positions(self.patches(x).flatten(2).transpose(1, 2))
        x, side = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1), self.side
        for i, stage in enumerate(self.stages):
            if i:
                x, side = self.pools[i - 1](x, side), -(-side // 2)
            x = stage(x)
        return self.head(self.norm(x[:, 0]))


@space(example_input=lambda image=224, channels=3, **presets: (1, channels, image, image))
def pit(
    pick: Pick,
    widths: Sequence[int] = WIDTHS,
    ratios: Sequence[int] = RATIOS,
    depths: Sequence[Sequence[int]] = DEPTHS,
    heads: Sequence[str] = HEADS,
    patch: int = 16,
    stride: int = 8,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
) -> nn.Module:
    """Build PiT with picked head width, MLP ratio, depths and heads.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        widths: Options for the channels of an attention head; Auto-Prox's.
        ratios: Options for the MLP's width over the embedding; Auto-Prox's.
        depths: Options for the number of blocks, for each stage; Auto-Prox's.
        heads: Options for the heads of the three stages, joined by commas; Auto-Prox's.
        patch: Side of a patch in pixels; the published 16.
        stride: Distance of the patches in pixels; the published 8 lets them overlap.
        classes: Number of classes that the head tells apart; the default is ImageNet's.
        image: Side of the square input images in pixels; the default is ImageNet's usual crop.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    width, ratio = pick("width", tuple(widths)), pick("ratio", tuple(ratios))
    chosen = [pick(f"stage{i}.depth", tuple(options)) for i, options in enumerate(depths)]
    counts = [int(h) for h in pick("heads", tuple(heads)).split(",")]
    return PoolingTransformer(width, ratio, chosen, counts, image, patch, stride, channels, classes)


@pit.json_parser
def parse(text: str, **presets: object) -> dict[str, Option] | None:
    """Read `{"base_dim": 32, "mlp_ratio": 4, "depth": [2, 6, 4], "num_heads": [2, 4, 8]}`, Auto-Prox's encoding."""
    data = json.loads(text)
    if "base_dim" not in data:
        return None
    found: dict[str, Option] = {"width": data["base_dim"], "ratio": data["mlp_ratio"]}
    found |= {f"stage{i}.depth": d for i, d in enumerate(data["depth"])}
    return found | {"heads": ",".join(map(str, data["num_heads"]))}


@pit.formatter
def format_json(choices: Mapping[str, Option]) -> str:
    """Write Auto-Prox's encoding."""
    depths = [choices[f"stage{i}.depth"] for i in range(3)]
    heads = [int(h) for h in str(choices["heads"]).split(",")]
    return json.dumps(
        {"base_dim": choices["width"], "mlp_ratio": choices["ratio"], "depth": depths, "num_heads": heads}
    )
