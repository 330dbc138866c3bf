"""HiAML: four stages of two equal blocks, one of fourteen machine-designed blocks for each stage (38,416 networks).

Source: Mills et al., AAAI 2023, arXiv:2211.17226 (GENNAPE), families made public with it. Convolutions end in ReLU and
separable ones in ReLU6, as in the computation graphs published with the labels; the authors' PyTorch classes use ReLU6
throughout, with equal parameters. The network of `src1|src1|r30|src3` has the published 2.221 M parameters and 246.3 M
FLOPs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nasplat import Option, Pick, SpaceError, block, space
from nasplat.blocks import Classifier, ConvNormAct, Separable, chain

# One step is `name = operation source`; sources are x or sums of names; the last entry is what is summed up. C and N
# are k x k convolutions with and without activation, S is 1 x k then k x 1, P projects where size or width change,
# small letters keep size and width.
BLOCKS: dict[str, tuple[str, ...]] = {
    "a22": ("a=C3 x", "b=C1 a", "c=N1 b", "a+c"),
    "z": ("a=C3 x", "b=S3 a", "a+b"),
    "b23": ("a=S3 x", "b=S3 a", "p=P1 x", "p+b"),
    "j30": ("a=C3 x", "b=S3 a", "p=P1 x", "p+b"),
    "g30": ("a=S3 x", "p=P1 x", "b=S3 p+a", "c=N1 b", "a+c"),
    "r30": ("a=S3 x", "p=P1 x", "b=N1 p+a", "c=S3 a", "q=P1 x", "q+b+c"),
    "l20": ("a=C3 x", "b=N1 a", "b"),
    "t20": ("a=N1 x", "b=S3 x", "a+b"),
    "t31": ("a=S3 x", "b=C1 a", "p=P1 x", "c=S3 p+b", "q=P1 x", "q+b+c"),
    "src0": ("a=C1 x", "b=C3 a", "c=N3 b", "a+c"),
    "src1": ("a=C1 x", "b=c3 x", "c=N3 b", "a+c"),
    "src3": ("a=N1 x", "b=c1 x", "c=C3 b", "d=N1 c", "a+d"),
    "src7": ("a=N1 x", "b=S3 a", "c=S3 b", "a+c"),
    "src8": ("a=N1 x", "b=S3 a", "c=N1 b", "a+c"),
}
WIDTHS = (1, 2, 2, 4)
STRIDES = (1, 2, 1, 2)


def operation(code: str, inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build one step of a block by its code, such as C3 or S3 (see the comment on `BLOCKS`)."""
    kind, kernel = code[0], int(code[1])
    if kind == "S":
        return Separable(inputs, outputs, kernel, stride)
    if kind == "P" and inputs == outputs and stride == 1:
        return nn.Sequential()  # an Identity would be a node of the published graphs
    return ConvNormAct(inputs, outputs, kernel, stride, activation=nn.ReLU if kind in "Cc" else None)


@block
class Block(nn.Module):
    """Runs the steps of `BLOCKS[kind]`, then ReLU."""

    def __init__(self, kind: str, inputs: int, outputs: int, stride: int) -> None:
        """Build the operations of all steps; those that read the input have its channels and the stride."""
        super().__init__()
        *steps, self.result = BLOCKS[kind]
        self.steps = [(s.partition("=")[0], s.partition(" ")[2]) for s in steps]
        fresh = {"x"}  # values that still have the size and width of the input
        for step in steps:
            name, _, rest = step.partition("=")
            code, _, source = rest.partition(" ")
            first, keeps = source in fresh, code[0].islower()
            if keeps:
                fresh.add(name)
            self.add_module(
                name,
                operation(
                    code,
                    inputs if first else outputs,
                    inputs if keeps else outputs,
                    stride if first and not keeps else 1,
                ),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        values = {"x": x}

        def total(names: str) -> Tensor:
            first, *others = names.split("+")
            found = values[first]
            for name in others:
                found = found + values[name]
            return found

        for name, source in self.steps:
            values[name] = getattr(self, name)(total(source))
        return torch.relu(total(self.result))


@space(
    example_input=lambda width=64, blocks=2, stem_stride=2, classes=10, image=32, channels=3: (
        1,
        channels,
        image,
        image,
    ),
)
def hiaml(
    pick: Pick,
    width: int = 64,
    blocks: int = 2,
    stem_stride: int = 2,
    classes: int = 10,
    image: int = 32,
    channels: int = 3,
) -> nn.Module:
    """Build HiAML's network with one picked block for each of four stages.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        width: Channels of the stem and of the first stage; the published 64.
        blocks: Equal blocks in each stage; the published 2.
        stem_stride: Stride of the stem; the published 2.
        classes: Number of classes that the head tells apart; the default is CIFAR-10's.
        image: Side of the square input images in pixels; the default is CIFAR-10's.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    kinds = [pick(f"stage{i}", tuple(BLOCKS)) for i in range(4)]
    parts: list[tuple[str, nn.Module]] = [("stem", ConvNormAct(channels, width, 3, stem_stride))]
    inputs = width
    for i, kind in enumerate(kinds):
        for j in range(blocks):
            parts.append((f"stage{i}_block{j}", Block(kind, inputs, width * WIDTHS[i], STRIDES[i] if j == 0 else 1)))
            inputs = width * WIDTHS[i]
    return chain([*parts, ("head", Classifier(inputs, classes))])


@hiaml.parser
def parse(text: str) -> dict[str, Option]:
    """Read four names of blocks joined by |, or the JSON list of the published files."""
    kinds = json.loads(text) if text.lstrip().startswith("[") else text.strip().split("|")
    if len(kinds) != 4:
        raise SpaceError(
            f"expected four blocks joined by |, got {text[:80]!r}.\n  Write for instance 'src1|src1|r30|src3'."
        )
    return {f"stage{i}": kind for i, kind in enumerate(kinds)}


@hiaml.formatter
def format_stages(choices: Mapping[str, Option]) -> str:
    """Write the names of the four blocks joined by |."""
    return "|".join(str(choices[f"stage{i}"]) for i in range(4))
