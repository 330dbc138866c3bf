"""Networks built at published settings have the published parameters and MACs.

A few published figures are repeated here; with NASPLAT_NAS=<folder of labelled architectures> every row of those files is compared.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import os
import sys
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import nasplat
from nasplat.blocks import WindowAttention
from nasplat.errors import SpaceError
from nasplat.graph.published import published

pytestmark = pytest.mark.fast

V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), "
    "('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
TWO_PATH = (
    "conv5x5!;conv5x5!/double3x3,bottleneck-e2-k3;conv1x1,bottleneck-r2-k3!;"
    "bottleneck-e2-k3,bottleneck-r2-k3,bottleneck-e2-k1;bottleneck-r2-k3!"
)
INCEPTION = (
    "6x[depthwise5x5!+inception_s3x3+depthwise5x5,conv5x5@same]|2x[conv5x5,double1x1@double]|5x[conv3x3]|3x[inception_s5x5+"
    "conv5x5,inception_p5x5,conv1x1,conv3x3,inception_s3x3,conv5x5,inception_s3x3,depthwise5x5,inception_p3x3,inception_s5x5,"
    "depthwise5x5@half+inception_p3x3,inception_s3x3@half+inception_s3x3]"
)
NASNET_A = (
    "sep_conv_3x3(0)+identity(0)|sep_conv_3x3(1)+sep_conv_5x5(0)|avg_pool_3x3(0)+identity(1)|avg_pool_3x3(1)+avg_pool_3x3(1)|"
    "sep_conv_5x5(1)+sep_conv_3x3(1)*1/sep_conv_7x7(1)+sep_conv_5x5(0)|max_pool_3x3(0)+sep_conv_7x7(1)|"
    "avg_pool_3x3(0)+sep_conv_5x5(1)|max_pool_3x3(0)+sep_conv_3x3(2)|avg_pool_3x3(2)+identity(3)*3"
)
PROXYLESS_MOBILE = {
    "ks": [5, 3, 7, 3, 5, 5, 7, 5, 5, 5, 5, 5, 5, 5, 7, 7, 7, 7, 7],
    "e": [3, 3, 3, 3, 3, 3, 6, 3, 3, 3, 6, 3, 3, 3, 6, 6, 3, 3, 6],
    "d": [2, 4, 4, 4, 4, 1],
}
FBNET_C = (
    "k3_e1|k3_e6|k3_e1|k3_e1|skip|k5_e6|k5_e3|k5_e6|k3_e6|k5_e6|k5_e3|k5_e6|k5_e6|"
    "k5_e6|k5_e6|k5_e6|k5_e3|k5_e6|k5_e6|k5_e6|k5_e6|k3_e6"
)


def counts(name: str, text: str, **presets: Any) -> tuple[int, int]:
    graph = nasplat.load_space(name, **presets).parse(text).graph()
    return graph.params, graph.macs


RESIDUAL = {"squeeze": "no", **{f"stage{i}.width": w for i, w in enumerate((64, 128, 256, 512))}}
VGG = {"norm": "none", "activation": "relu", "pool": "max", "head": "hidden"}
KNOWN: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    "VGG-16": (
        "convnet",
        {"size": "vgg", "stages": 5, "kernels": (3,), "hidden": 4096},
        VGG
        | {f"stage{i}.depth": d for i, d in enumerate((2, 2, 3, 3, 3))}
        | {f"stage{i}.width": w for i, w in enumerate((64, 128, 256, 512, 512))},
        138_357_544,
    ),
    "ResNet-18": (
        "resnet",
        {"size": "imagenet"},
        RESIDUAL | {"block": "basic"} | {f"stage{i}.depth": 2 for i in range(4)},
        11_689_512,
    ),
    "ResNet-50": (
        "resnet",
        {"size": "imagenet"},
        RESIDUAL | {"block": "bottleneck"} | {f"stage{i}.depth": d for i, d in enumerate((3, 4, 6, 3))},
        25_557_032,
    ),
    "DenseNet-121": (
        "densenet",
        {"size": "imagenet"},
        {"growth": 32, "bottleneck": 4} | {f"stage{i}.depth": d for i, d in enumerate((6, 12, 24, 16))},
        7_978_856,
    ),
    "ConvNeXt-T": (
        "convnext",
        {"size": "imagenet"},
        {"width": 96, "kernel": 7, "ratio": 4} | {f"stage{i}.depth": d for i, d in enumerate((3, 3, 9, 3))},
        28_589_128,
    ),
    "Mixer-B/16": (
        "mixer",
        {"size": "base", "patch": 16},
        {"width": 768, "depth": 12, "across": 384, "within": 3072},
        59_880_472,
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_networks_have_their_published_parameters(name: str) -> None:
    space, presets, choices, params = KNOWN[name]
    member = nasplat.load_space(space, image=224, classes=1000, **presets).architecture(choices)
    assert member.graph().params == params


def test_unet_has_the_parameters_of_common_implementations() -> None:
    choices = {"width": 64, "norm": "batch", "activation": "relu", "bridge": "joined", "grow": "transposed"}
    space = nasplat.load_space("unet", levels=4, widths=(64,), depths=(2,))
    assert space.architecture(choices).graph().params == 31_037_698


def test_nasbench_macro_has_published_parameters_and_macs() -> None:
    assert counts("nasbench_macro", "a00000000") == (387_882, 7_713_280)
    assert counts("nasbench_macro", "00112122") == (2_524_394, 62_986_752)


def test_nasbench_macro_has_3969_networks_of_6561_encodings() -> None:
    space = nasplat.load_space("nasbench_macro")
    members = list(space.enumerate())
    assert len(members) == 6_561
    assert len({a.canonical() for a in members}) == 3_969 == space.count().networks
    first, second = space.parse("a01002001"), space.parse("a01020010")
    assert first.canonical() == second.canonical()
    assert first.graph().params == second.graph().params


def test_accel_nasbench_rows_have_their_parameters_and_macs() -> None:
    text = "e6_k3_l1_se0;e1_k5_l3_se0;e6_k3_l2_se0;e6_k3_l1_se0;e4_k3_l2_se0;e6_k5_l1_se0;e4_k5_l2_se0"
    graph = nasplat.load_space("mnasnet").parse(text).graph()
    assert graph.params == 3_444_360
    assert thop(graph) == pytest.approx(372.7326e6, rel=1e-6)


def thop(graph: nasplat.Graph) -> int:
    """MACs as that publication counts them: four for each normalised value, one for each that enters or leaves a mean."""
    sizes = [prod(n.shape[1:]) for n in graph.nodes]
    norms = sum(size for node, size in zip(graph.nodes, sizes, strict=True) if node.op == "batchnorm")
    means = 0
    for source, _, target, _ in graph.edges:
        if graph.nodes[target].op in {"mean", "adaptivepool"}:
            means += sizes[source] + sizes[target]
    return graph.macs + 4 * norms + means


def test_transnas_micro_has_published_parameters_and_4096_cells() -> None:
    assert counts("transnas_micro", "64-41414-0_00_000")[0] == 51_807
    assert counts("transnas_micro", "64-41414-0_02_132")[0] == 9_612_639
    assert nasplat.load_space("transnas_micro").count().value == 4_096


def test_transnas_macro_has_the_published_number_of_networks() -> None:
    space = nasplat.load_space("transnas_macro")
    assert space.count().value == 3_256
    assert space.parse("64-1234-basic") == space.parse("1234")
    with pytest.raises(SpaceError, match="0 double the width"):
        space.parse("64-1313-basic")


def test_darts_v2_has_its_parameters() -> None:
    assert counts("darts", V2)[0] == 3_349_342
    swapped = V2.replace("('sep_conv_3x3', 1), ('skip_connect', 0)", "('skip_connect', 0), ('sep_conv_3x3', 1)")
    space = nasplat.load_space("darts")
    assert space.parse(swapped) == space.parse(V2)


def test_best_networks_of_the_gennape_families_have_published_sizes() -> None:
    # GENNAPE and AutoGO: nodes, FLOPs and parameters of the stored graphs
    for name, text, nodes, flops, params in (
        ("hiaml", "src1|src1|r30|src3", 107, 246.3e6, 2.221e6),
        ("two_path", TWO_PATH, 56, 116.2e6, 1.780e6),
        ("inception", INCEPTION, 403, 493.9e6, 3.538e6),
    ):
        graph = nasplat.load_space(name).parse(text).graph()
        found = published(graph)
        assert len(found.nodes) == nodes
        assert found.flops == pytest.approx(flops, rel=5e-4)
        assert graph.params == pytest.approx(params, rel=5e-4)
    assert nasplat.load_space("hiaml").count().value == 14**4


def test_nasnet_a_has_published_parameters_and_macs() -> None:
    # parameters of the released networks; MACs as printed in the paper
    for presets, params, macs in (
        ({}, 5_289_978, 564e6),
        ({"width": 168, "cells": 6, "stem": 96, "image": 331}, 88_753_150, 23.8e9),
        ({"width": 32, "cells": 6, "stem": 0, "image": 32, "classes": 10}, 3_346_538, None),  # 3.3 M in the paper
    ):
        found = counts("nasnet", NASNET_A, **presets)
        assert found[0] == params
        assert macs is None or found[1] == pytest.approx(macs, rel=1e-3)


def test_proxylessnas_mobile_has_published_parameters_and_macs() -> None:
    params, macs = counts("proxylessnas", json.dumps(PROXYLESS_MOBILE), base=1.0, widths=[32, 40, 80, 96, 192, 320])
    assert params == pytest.approx(4.08e6, rel=1e-3)
    assert macs == pytest.approx(320e6, rel=2e-3)


def test_resnet50_d_is_a_member_of_its_once_for_all_space() -> None:
    text = json.dumps({"d": [2, 1, 2, 2, 1], "e": [0.25] * 18, "w": [2] * 6})
    params, macs = counts("ofa_resnet50", text)
    assert params == pytest.approx(25.58e6, rel=1e-3)
    # timm 1.0, resnet50d: 4.35 G with half a percent for normalisation and pooling, as its 4.11 G of ResNet-50 (4.09 G)
    assert macs == pytest.approx(4.35e9, rel=6e-3)


def test_fbnet_c_has_its_parameters() -> None:
    assert counts("fbnet", FBNET_C)[0] == pytest.approx(5.57e6, rel=1e-3)  # timm 1.0, fbnetc_100


@pytest.mark.parametrize(
    ("size", "embed", "heads", "ratios", "million"),
    [
        ("tiny", 192, [3] * 11 + [4, 3], [3.5, 3.5, 3, 3.5, 3, 3, 4, 4, 3.5, 4, 3.5, 4, 3.5], 5.87),
        ("small", 384, [6, 6, 5, 7, 5, 5, 5, 6, 6, 7, 7, 6, 7], [3, 3.5, 3, 3.5, 4, 4, 4, 4, 4, 4, 4, 3.5, 4], 22.89),
        (
            "base",
            576,
            [9, 9, 9, 9, 9, 10, 9, 9, 10, 9, 10, 9, 9, 10],
            [3.5, 3.5, 4, 3.5, 4, 3.5, 3.5, 3, 4, 4, 3, 4, 3, 3.5],
            53.69,
        ),
    ],
)
def test_autoformer_has_published_parameters(
    size: str, embed: int, heads: list[int], ratios: list[float], million: float
) -> None:
    text = json.dumps({"hidden_dim": embed, "depth": len(heads), "num_heads": heads, "mlp_ratio": ratios})
    params, _ = counts("vit", text, size=size, ratios=[3, 3.5, 4])
    tables = 7_680 * len(heads) + embed  # relative positions of keys and values, class token: not built here
    assert params + tables == pytest.approx(million * 1e6, abs=5e3)


@pytest.mark.parametrize(
    ("width", "heads", "params", "macs"),
    [(32, "2,4,8", 4.85e6, 0.7e9), (48, "2,4,8", 10.62e6, 1.4e9), (48, "3,6,12", 23.46e6, 2.88e9)],
)
def test_pit_has_published_parameters(width: int, heads: str, params: float, macs: float) -> None:
    space = nasplat.load_space("pit", widths=[width], ratios=[4], depths=[[2], [6], [4]], heads=[heads])
    graph = space.sample().graph()
    assert graph.params == pytest.approx(params, rel=1e-3)
    assert graph.macs == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize(
    ("depths", "widths", "expands", "params", "macs"),
    [
        ((2, 2, 8, 3), (32, 48, 80, 168), (2, 2.5, 3, 3.5), 1.3e6, 261e6),
        ((3, 3, 9, 3), (32, 48, 120, 200), (2, 2.5, 3, 3.5), 2.3e6, 439e6),
        ((3, 3, 9, 3), (48, 72, 160, 288), (2, 3, 4, 4), 5.1e6, 903e6),
        ((3, 3, 9, 3), (48, 72, 160, 320), (2, 3, 4, 5), 6.1e6, 961e6),
    ],
)
def test_emo_has_published_parameters(
    depths: tuple[int, ...], widths: tuple[int, ...], expands: tuple[float, ...], params: float, macs: float
) -> None:
    choices: dict[str, Any] = {}
    for i in range(4):
        choices |= {f"stage{i}.depth": depths[i], f"stage{i}.width": widths[i]}
        choices |= {f"stage{i}.expand": expands[i], f"stage{i}.kernel": (3, 3, 5, 5)[i]}
        choices |= {f"stage{i}.block{j}.attention": True for j in range(1, depths[i]) if i >= 2}
    graph = nasplat.load_space("emo").architecture(choices).graph()
    assert graph.params == pytest.approx(params, rel=0.05)  # printed with one decimal
    assert graph.macs == pytest.approx(macs, rel=0.01)


def test_windows_collect_every_nth_row_and_column() -> None:
    torch.manual_seed(0)
    layer, x = WindowAttention(8, 2, 4), torch.randn(2, 8, 8, 8)
    expected = torch.zeros_like(x)
    for row in range(2):
        for column in range(2):
            q, k, v = (t[:, :, row::2, column::2] for t in (layer.q(x), layer.k(x), x))
            for head in (slice(0, 4), slice(4, 8)):
                one = F.scaled_dot_product_attention(*(t[:, head].flatten(2).transpose(1, 2) for t in (q, k, v)))
                expected[:, head, row::2, column::2] = one.transpose(1, 2).unflatten(2, (4, 4))
    assert torch.allclose(layer(x), expected, atol=1e-6)
    assert layer(torch.randn(1, 8, 6, 5)).shape == (1, 8, 6, 5)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("hiaml", "src1|z", "expected four blocks"),
        ("two_path", "conv5x5!;conv5x5!", "expected two paths"),
        ("two_path", "conv5x5!;conv5x5/conv5x5!;conv5x5!", "expected two halving blocks"),
        ("mnasnet", "e6_k3", "expected stages such as"),
        ("nasbench_macro", "0011", "expected 8 digits"),
        ("transnas_micro", "4_00_000", "expected 64-41414-a_bc_def"),
        ("inception", "conv3x3|conv3x3", "expected stages such as"),
        ("inception", "2x[conv3x3]", "got nothing"),
        ("nasnet", "identity(0)+identity(0)", "five blocks each"),
        ("ofa_resnet50", '{"d": [0], "e": [0.2], "w": [0]}', "expected 5 depths"),
        ("transnas_macro", "12", "four to six digits"),
        ("fbnet", "skip|skip", "expected 22 blocks"),
        ("darts", "Genotype(normal=[])", "eight pairs"),
        ("proxylessnas", '{"ks": [3], "e": [3], "d": [1], "r": 8}', "expected a resolution among"),
    ],
)
def test_malformed_encodings_are_refused(name: str, text: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        nasplat.load_space(name).parse(text)


# -- every shared row -----------------------------------------------------------------------------------------------------

FOLDER = os.environ.get("NASPLAT_NAS", "")


def rows(file: str) -> list[dict[str, str]]:
    with gzip.open(Path(FOLDER) / f"{file}.csv.gz", "rt", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def million(column: str) -> Callable[[dict[str, str]], float]:
    return lambda row: float(row[column]) * 1e6


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER, reason="set NASPLAT_NAS to a folder of labelled architectures")
@pytest.mark.parametrize(
    ("file", "space", "presets", "cell", "params", "macs"),
    [
        ("nb_macro", "nasbench_macro", {}, "arch", lambda r: float(r["params"]), lambda r: float(r["flops"])),
        ("tnb101_micro", "transnas_micro", {}, "arch_str", million("class_scene_params_m"), None),
        ("accel_nasbench", "mnasnet", {}, "arch", million("params_m"), million("macs_m")),
        ("darts_oncenas_545", "darts", {"none": True}, "genotype", million("params_m"), None),
        ("darts_9x_199", "darts", {"width": 32, "cells": 8, "affine": False}, "genotype", million("params_m"), None),
        (
            "darts_nb301_surrogate_725",
            "darts",
            {"width": 32, "cells": 8, "affine": False},
            "genotype",
            million("params_m"),
            None,
        ),
        ("nb201", "nasbench201", {}, "arch_str", million("params_m"), None),
    ],
)
def test_all_shared_rows_have_published_counts(
    file: str,
    space: str,
    presets: dict[str, Any],
    cell: str,
    params: Callable[..., float],
    macs: Callable[..., float] | None,
) -> None:
    loaded = nasplat.load_space(space, **presets)
    found = rows(file)
    for row in found if len(found) < 6_000 else found[::7]:
        graph = loaded.parse(row[cell]).graph()
        assert graph.params == pytest.approx(params(row), rel=1e-6), row[cell]
        if file == "nb201":
            # the benchmark adds three per element of a convolution (activation one, normalisation two), nine per pooled one, and
            # a constant for the skeleton; an edge's elements are 5 x (16 x 32^2 + 32 x 16^2 + 64 x 8^2)
            edge = 5 * 28_672
            extra = 3 * row[cell].count("nor_conv") * edge + 9 * row[cell].count("avg_pool") * edge + 160_832
            assert float(row["flops_m"]) * 1e6 == pytest.approx(graph.macs + extra, abs=500), row[
                cell
            ]  # some have three decimals
        if macs is not None:
            assert (thop(graph) if file == "accel_nasbench" else graph.macs) == pytest.approx(macs(row), rel=1e-6), row[
                cell
            ]


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER, reason="set NASPLAT_NAS to a folder of labelled architectures")
def test_all_shared_cells_of_nasbench101_have_their_hash_and_some_their_parameters() -> None:
    space = nasplat.load_space("nasbench101")
    module_hash = sys.modules[space.function.__module__].module_hash
    for number, row in enumerate(rows("nb101_20k")):
        architecture = space.parse(f"{row['adj_upper']}:{row['ops']}")
        assert module_hash(architecture.choices) == row["hash"]
        if number % 40 == 0:
            # three vertices do not share the output's channels evenly: which is wider by one depends on the numbering of the
            # cell, and the rows carry another numbering than the counted one
            inner = int(row["n_nodes"]) - 2
            into = sum(bool(architecture.choices[f"{v}->out"]) for v in range(1, inner + 1))
            if not into or 128 % into == 0:
                assert architecture.graph().params == int(row["params"]), row["hash"]
            else:
                assert int(row["params"]) in {space.parse(text).graph().params for text in renumberings(row)}, row[
                    "hash"
                ]


def renumberings(row: dict[str, str]) -> set[str]:
    """The same cell with its inner vertices in every order that keeps edges forward."""
    n, ops = int(row["n_nodes"]), row["ops"].split("|")
    edges = {
        pair for pair, bit in zip(itertools.combinations(range(n), 2), row["adj_upper"], strict=True) if bit == "1"
    }
    found = set()
    for order in itertools.permutations(range(1, n - 1)):
        at = [0, *order, n - 1]
        moved = {(at[s], at[t]) for s, t in edges}
        if all(s < t for s, t in moved):
            upper = "".join(str(int(pair in moved)) for pair in itertools.combinations(range(n), 2))
            named = [op for _, op in sorted(zip(order, ops, strict=True))]
            found.add(f"{upper}:{'|'.join(named)}")
    return found


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER, reason="set NASPLAT_NAS to a folder of labelled architectures")
@pytest.mark.parametrize(
    ("file", "space", "presets", "column", "networks"),
    [
        ("nb201", "nasbench201", {}, "arch_str", 3_960),
        ("tnb101_micro", "transnas_micro", {}, "arch_str", 990),
        ("nb_macro", "nasbench_macro", {}, "arch", 3_166),
        ("accel_nasbench", "mnasnet", {}, "arch", 4_081),
        ("darts_oncenas_545", "darts", {"none": True}, "genotype", 418),
        ("darts_9x_199", "darts", {}, "genotype", 164),
        ("darts_nb301_surrogate_725", "darts", {}, "genotype", 570),
    ],
)
def test_shared_rows_have_as_many_networks_as_their_table_states(
    file: str, space: str, presets: dict[str, Any], column: str, networks: int
) -> None:
    loaded = nasplat.load_space(space, **presets)
    assert len({loaded.parse(row[column]).network_key for row in rows(file)}) == networks


@pytest.mark.parametrize("name", ["gpt", "ofa_mobilenetv3", "ofa_resnet50", "pit", "proxylessnas", "vit"])
def test_lines_of_a_wrong_form_are_refused(name: str) -> None:
    space = nasplat.load_space(name)
    line = json.loads(space.format(space.sample(seed=0)))
    parts = [{k: v for k, v in line.items() if k != key} for key in line]
    wrong = [json.dumps(line | {key: value}) for key in line for value in (None, {}, "a", [["a"]])]
    for text in ['{"a": ', "{" * 9000, *map(json.dumps, parts), *wrong]:
        try:
            found = space.parse(text)
        except SpaceError:
            continue
        assert nasplat.load_space(name).parse(space.format(found)) == found, text  # what it left out had a default
    with pytest.raises(SpaceError, match=r"its parser cannot read \(JSONDecodeError: "):
        space.parse('{"a": ')
