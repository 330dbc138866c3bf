"""Two-Path: two parallel paths of two to four blocks, each of one to three operations (about 1.7e27 networks).

Source: Mills et al., AAAI 2023, arXiv:2211.17226 (GENNAPE), families made public with it. In each path exactly two
blocks halve the size and double the width. A block has at least one operation of the first kind and at most one of the
second: 1,624 blocks. Bottlenecks have normalisation but no activation, as in the published graphs (the authors' PyTorch
classes have ReLU6). The published best network has 1.780 M parameters and 116.2 M FLOPs here too. The authors' sampler
draws an operation of the second kind with probability 5/13; a draw here is uniform per choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from nasplat import Option, Pick, SpaceError, block, space
from nasplat.blocks import ConvNormAct, Separable, chain

MAIN = (
    "conv3x3",
    "double3x3",
    "conv5x5",
    "bottleneck-r2-k3",
    "bottleneck-r4-k3",
    "bottleneck-e2-k3",
    "inception_s3x3",
    "inception_s5x5",
)
"""Operations that may change size and width; the first of a block does."""
EXTRA = ("conv1x1", "bottleneck-r2-k1", "bottleneck-e2-k1", "avgpool3x3", "maxpool3x3")
PATTERNS = ("m", "mm", "me", "em", "mmm", "mme", "mem", "emm")
"""Orders of main and extra operations."""

BlockPlan = tuple[tuple[str, ...], bool]
"""Operations, and whether the block halves the size."""


def operation(name: str, inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build an operation by its name in `MAIN` or `EXTRA`."""
    if name.startswith("bottleneck"):
        _, factor, kernel = name.split("-")
        hidden = inputs // int(factor[1]) if factor[0] == "r" else inputs * int(factor[1])
        k = int(kernel[1])
        return chain(
            [
                ("first", ConvNormAct(inputs, hidden, k, stride, activation=None)),
                ("second", ConvNormAct(hidden, outputs, k, activation=None)),
            ]
        )
    k = int(name[-1])
    if name.startswith("double"):
        return chain(
            [
                ("first", ConvNormAct(inputs, inputs, k, stride, activation=nn.ReLU6)),
                ("second", ConvNormAct(inputs, outputs, k, activation=nn.ReLU6)),
            ]
        )
    if name.startswith("inception"):
        return Separable(inputs, outputs, k, stride)
    if name.endswith("pool3x3"):
        pool = nn.MaxPool2d(k, 1, k // 2) if name.startswith("max") else nn.AvgPool2d(k, 1, k // 2)
        return chain([("pool", pool), ("norm", nn.BatchNorm2d(inputs))])
    return ConvNormAct(inputs, outputs, k, stride, activation=nn.ReLU6)


@block
class Block(nn.Module):
    """Operations one after another; a shortcut where size and width stay."""

    def __init__(self, ops: tuple[str, ...], inputs: int, halves: bool) -> None:
        """Build the operations; the first main one halves the size and doubles the width where `halves` is set."""
        super().__init__()
        outputs, stride, last = inputs * 2 if halves else inputs, 2 if halves else 1, inputs
        self.body = nn.Sequential()
        for i, name in enumerate(ops):
            if name in EXTRA:
                self.body.add_module(f"op{i}", operation(name, last, last, 1))
                continue
            self.body.add_module(f"op{i}", operation(name, last, outputs, stride))
            last, stride = outputs, 1
        self.has_shortcut = not halves

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to the same shape, or to (B, 2 · inputs, H / 2, W / 2)."""
        y = self.body(x)
        return x + y if self.has_shortcut else y


class TwoPaths(nn.Module):
    """Stem, two paths side by side, one convolution over both, linear head."""

    def __init__(self, paths: list[list[BlockPlan]], width: int, stem_stride: int, classes: int, channels: int) -> None:
        """Build both paths from their plans."""
        super().__init__()
        self.stem = chain(
            [
                ("first", ConvNormAct(channels, width, 3, activation=nn.ReLU6)),
                ("second", ConvNormAct(width, width, 3, stem_stride, activation=nn.ReLU6)),
            ]
        )
        made: list[nn.Module] = []
        for plan in paths:
            path, last = nn.Sequential(), width
            for i, (ops, halves) in enumerate(plan):
                path.add_module(f"block{i}", Block(ops, last, halves))
                last = last * 2 if halves else last
            made.append(path)
        self.path0, self.path1 = made
        self.last = ConvNormAct(8 * width, 16 * width, 3, activation=nn.ReLU6)
        self.dropout = nn.Dropout(0.0)
        self.fc = nn.Linear(16 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to class scores (B, classes)."""
        x = self.stem(x)
        x = self.last(torch.cat([self.path0(x), self.path1(x)], 1))
        return self.fc(self.dropout(x.mean((2, 3))))


@space(example_input=lambda width=32, stem_stride=2, classes=10, image=32, channels=3: (1, channels, image, image))
def two_path(
    pick: Pick, width: int = 32, stem_stride: int = 2, classes: int = 10, image: int = 32, channels: int = 3
) -> nn.Module:
    """Build the Two-Path network with picked blocks of both paths.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        width: Channels of the stem; the published 32.
        stem_stride: Stride of the stem's second convolution; the published 2.
        classes: Number of classes that the head tells apart; the default is CIFAR-10's.
        image: Side of the square input images in pixels; the default is CIFAR-10's.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    paths = []
    for p in range(2):
        n = pick(f"path{p}.blocks", (2, 3, 4))
        places = [",".join(map(str, pair)) for pair in combinations(range(n), 2)]
        halving = pick(f"path{p}.halving_of_{n}", tuple(places)) if n > 2 else places[0]
        plan: list[BlockPlan] = []
        for i in range(n):
            pattern = pick(f"path{p}.block{i}.pattern", PATTERNS)
            ops = tuple(
                pick(f"path{p}.block{i}.{'main' if kind == 'm' else 'extra'}{j}", MAIN if kind == "m" else EXTRA)
                for j, kind in enumerate(pattern)
            )
            plan.append((ops, str(i) in halving.split(",")))
        paths.append(plan)
    return TwoPaths(paths, width, stem_stride, classes, channels)


@two_path.parser
def parse(text: str) -> dict[str, Option]:
    """Read paths joined by /, blocks by ;, operations by a comma; ! ends a block that halves the size."""
    paths = [path.split(";") for path in text.strip().split("/")]
    found: dict[str, Option] = {}
    if len(paths) != 2:
        raise SpaceError(
            f"expected two paths joined by /, got {text[:80]!r}.\n"
            "  Write for instance 'conv5x5!;conv5x5!/conv3x3!;conv3x3!'."
        )
    for p, blocks in enumerate(paths):
        halving = [str(i) for i, b in enumerate(blocks) if b.endswith("!")]
        found[f"path{p}.blocks"] = len(blocks)
        if len(halving) != 2:
            raise SpaceError(
                f"expected two halving blocks (!) in each path, got {len(halving)} in {text[:80]!r}.\n  Mark two."
            )
        if len(blocks) > 2:
            found[f"path{p}.halving_of_{len(blocks)}"] = ",".join(halving)
        for i, ops in enumerate(b.rstrip("!").split(",") for b in blocks):
            found[f"path{p}.block{i}.pattern"] = "".join("e" if o in EXTRA else "m" for o in ops)
            found |= {f"path{p}.block{i}.{'extra' if o in EXTRA else 'main'}{j}": o for j, o in enumerate(ops)}
    return found


@two_path.formatter
def format_paths(choices: Mapping[str, Option]) -> str:
    """Write both paths in the notation that `parse` reads."""
    paths = []
    for p in range(2):
        n = int(choices[f"path{p}.blocks"])
        halving = str(choices[f"path{p}.halving_of_{n}"]).split(",") if n > 2 else ["0", "1"]
        blocks = []
        for i in range(n):
            pattern = str(choices[f"path{p}.block{i}.pattern"])
            ops = [
                str(choices[f"path{p}.block{i}.{'main' if k == 'm' else 'extra'}{j}"]) for j, k in enumerate(pattern)
            ]
            blocks.append(",".join(ops) + ("!" if str(i) in halving else ""))
        paths.append(";".join(blocks))
    return "/".join(paths)
