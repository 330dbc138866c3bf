"""Published parameter and MAC counts."""

from __future__ import annotations

import pytest

import nasplat

pytestmark = pytest.mark.fast

# source: NAS-Bench-201's own parameter counts (NATS-Bench, arch 0 and 1)
CELLS = [
    ("|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|", 129_306),
    ("|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|", 802_426),
]


@pytest.mark.parametrize(("text", "params"), CELLS)
def test_nasbench201_parameters_equal_the_published(text: str, params: int) -> None:
    assert nasplat.load_space("nasbench201").parse(text).graph().params == params


def test_ofa_mobilenetv3_costs_equal_the_published() -> None:
    """Source: measurements of OFA-MobileNetV3 w1.0 subnets published with DyNAS-T (Apache-2.0)."""
    kernels = [3, 3, 3, 3, 3, 3, 5, 3, 5, 7, 5, 5, 3, 3, 3, 3, 5, 3, 3, 3]
    expands = [4, 3, 4, 4, 4, 3, 6, 4, 3, 6, 6, 3, 4, 6, 4, 3, 3, 4, 4, 4]
    depths = [3, 3, 3, 2, 3]
    choices: dict[str, int] = {}
    for unit, depth in enumerate(depths):
        choices[f"unit{unit}.depth"] = depth
        for i in range(depth):
            choices[f"unit{unit}.block{i}.kernel"] = kernels[4 * unit + i]
            choices[f"unit{unit}.block{i}.expand"] = expands[4 * unit + i]
    graph = nasplat.load_space("ofa_mobilenetv3").architecture(choices).graph()
    assert (graph.params, graph.macs) == (4_482_528, 227_454_896)


def test_known_torch_layers_by_hand() -> None:
    from torch import nn

    cases = [
        (nn.Conv2d(6, 12, (3, 5), stride=2, groups=3), (2, 6, 9, 11), 2 * 12 * 4 * 4 * 2 * 15),
        (nn.ConvTranspose2d(4, 6, 4, stride=2), (1, 4, 5, 5), 4 * 25 * 6 * 16),
        (nn.Conv3d(2, 3, 3), (1, 2, 5, 5, 5), 3 * 27 * 2 * 27),
        (nn.Conv1d(2, 3, 3), (1, 2, 9), 3 * 7 * 2 * 3),
        (nn.Bilinear(3, 4, 5), ((1, 3), (1, 4)), None),
        (nn.LSTM(3, 5, 2), (7, 1, 3), 7 * (4 * 5 * (3 + 5) + 4 * 5 * (5 + 5))),
    ]
    for module, shape, macs in cases:
        graph = nasplat.capture(module, shape)
        assert graph.params == sum(p.numel() for p in module.parameters()), module
        if macs is not None:
            assert graph.macs == macs, module
