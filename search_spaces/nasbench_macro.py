"""NAS-Bench-Macro: eight layers in three stages, each identity or one of two inverted residuals (6,561 encodings).

Source: Su et al., CVPR 2021, arXiv:2103.11922. Identity layers commute with the layers of their stage: 3,969 distinct
networks. The first layer of a stage halves the size; an identity there is a 1x1 convolution. The skeleton is
reconstructed from the labels: parameters and MACs of all 5,226 shared rows are equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from nasplat import Option, Pick, SpaceError, space
from nasplat.blocks import Classifier, ConvNormAct, InvertedResidual, chain, divisible

LAYERS = (2, 3, 3)
WIDTHS = (64, 128, 256)
OPS = ("identity", "mb3_k3", "mb6_k5")


@space(example_input=lambda base=1.0, layers=LAYERS, classes=10, image=32, channels=3: (1, channels, image, image))
def nasbench_macro(
    pick: Pick,
    base: float = 1.0,
    layers: Sequence[int] = LAYERS,
    classes: int = 10,
    image: int = 32,
    channels: int = 3,
) -> nn.Module:
    """Build NAS-Bench-Macro's network with one picked operation for each layer.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        base: Factor on all widths; 1 gives the benchmark's.
        layers: Number of layers of each stage; the benchmark's 2, 3, 3.
        classes: Number of classes that the head tells apart; the default is CIFAR-10's.
        image: Side of the square input images in pixels; the default is CIFAR-10's.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    plan = [[pick(f"stage{i}.layer{j}", OPS) for j in range(n)] for i, n in enumerate(layers)]
    last = divisible(32 * base)
    parts: list[tuple[str, nn.Module]] = [("stem", ConvNormAct(channels, last, 3, activation=nn.ReLU6))]
    for i, ops in enumerate(plan):
        width = divisible(WIDTHS[i] * base)
        for j, op in enumerate(ops):
            stride, name = 2 if j == 0 else 1, f"stage{i}_layer{j}"
            if op != "identity":
                parts.append((name, InvertedResidual(last, width, last * int(op[2]), int(op[-1]), stride)))
            elif j == 0:
                parts.append((name, ConvNormAct(last, width, 1, stride, activation=None)))
            last = width
    final = divisible(1280 * base)
    return chain(
        [*parts, ("final", ConvNormAct(last, final, 1, activation=nn.ReLU6)), ("head", Classifier(final, classes))]
    )


@nasbench_macro.parser
def parse(text: str) -> dict[str, Option]:
    """Read eight digits, 0 to 2, with or without a letter a before them."""
    digits = text.strip().removeprefix("a")
    if len(digits) != sum(LAYERS) or set(digits) - set("012"):
        raise SpaceError(
            f"expected {sum(LAYERS)} digits from 0 to 2, got {text[:80]!r}.\n  Write for instance '00112122'."
        )
    names = [f"stage{i}.layer{j}" for i, n in enumerate(LAYERS) for j in range(n)]
    return {name: OPS[int(d)] for name, d in zip(names, digits, strict=True)}


@nasbench_macro.formatter
def format_digits(choices: Mapping[str, Option]) -> str:
    """Write one digit for each layer."""
    return "".join(str(OPS.index(str(op))) for op in choices.values())


@nasbench_macro.canonicaliser
def canonical(choices: Mapping[str, Option]) -> dict[str, Option]:
    """Move the identities after the first layer to the end of their stage."""
    found: dict[str, Option] = {}
    for stage in sorted({name.partition(".")[0] for name in choices}):
        names = [n for n in choices if n.startswith(f"{stage}.")]
        first, *others = (choices[n] for n in names)
        moved = sorted(others, key=lambda op: op == "identity")
        found |= dict(zip(names, [first, *moved], strict=True))
    return found


@nasbench_macro.network_count
def networks() -> int:
    """Give the number of networks that differ."""
    return 3_969
