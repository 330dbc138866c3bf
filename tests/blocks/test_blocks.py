"""Blocks that spaces share: settings by name, and shapes as documented."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasplat import blocks
from nasplat.errors import InputError

pytestmark = pytest.mark.fast


def test_settings_of_a_mobile_block_are_checked_by_name() -> None:
    with pytest.raises(InputError, match=r"among heads, window, squeeze, norm, act, shortcut, got 'attention'"):
        blocks.MetaMobile(8, 8, 16, 3, 1, attention=2)


@pytest.mark.parametrize(
    "part",
    [
        blocks.ConvNormAct(8, 12, 3, 2),
        blocks.ReLUConvNorm(8, 12, 3, 2),
        blocks.FactorisedReduction(8, 12),
        blocks.DepthwisePointwise(8, 12, 3, 2, 2),
        blocks.Separable(8, 12, 5, 2),
        blocks.InvertedResidual(8, 12, 16, 3, 2),
        blocks.MetaMobile(8, 12, 16, 3, 2, heads=2, window=4, squeeze=0.5),
    ],
    ids=lambda part: type(part).__name__,
)
def test_blocks_halve_pictures_as_documented(part: nn.Module) -> None:
    assert part(torch.zeros(2, 8, 10, 6)).shape == (2, 12, 5, 3)


def test_every_public_block_is_listed() -> None:
    defined = {
        n
        for n, v in vars(blocks).items()
        if getattr(v, "__module__", "").startswith(blocks.__name__) and not n.startswith("_")
    }
    assert defined | {"DisparityMaps"} == set(blocks.__all__)
