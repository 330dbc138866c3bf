"""ONNX files become the graphs their modules give, or one typed error."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import SMALL
from onnx import TensorProto, helper
from torch import nn

import nasplat
from nasplat.capturing import capture_onnx
from nasplat.errors import CaptureError, InputError, NasplatError


def model(
    nodes: list[onnx.NodeProto], shape: list[int | str], initialisers: list[onnx.TensorProto], output: str = "y"
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [x], [y], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def weight(name: str, *dims: int) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.zeros(dims, np.float32), name)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_exported_network_costs_what_its_module_costs(name: str, tmp_path: Path) -> None:
    space = nasplat.load_space(name, **SMALL[name])
    architecture = space.sample(seed=3)
    module, shape = space.construct(architecture)
    nasplat.export(module, tmp_path / "net.onnx", shape)
    ours, read = architecture.graph(), nasplat.capture(tmp_path / "net.onnx")
    assert read.macs == ours.macs
    assert not read.unknown_ops
    assert not read.notes
    counted = ("conv", "depthwise", "linear", "layernorm", "gelu", "avgpool", "hardsigmoid")
    mine, theirs = (Counter(n.op for n in g.nodes) for g in (ours.folded, read.folded))
    assert {op: mine[op] for op in counted} == {op: theirs[op] for op in counted}
    assert Counter(n.op for n in read.nodes)["input"] == 1


def test_convolution_attributes_and_symbolic_batch(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1], group=4)
    onnx.save(model([node], ["N", 4, 8, 8], [weight("w", 4, 1, 3, 3), weight("b", 4)]), tmp_path / "net.onnx")
    graph = capture_onnx(tmp_path / "net.onnx")
    net = nn.Conv2d(4, 4, 3, 2, 1, groups=4)
    assert graph.key == nasplat.capture(net, (1, 4, 8, 8)).key
    assert graph.macs == 4 * 4 * 4 * 9
    assert capture_onnx(tmp_path / "net.onnx", (5, 4, 8, 8)).macs == 5 * graph.macs


def test_linear_layers_gemm_and_matmul_agree_with_torch(tmp_path: Path) -> None:
    gemm = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    onnx.save(model(gemm, [1, 4], [weight("w", 2, 4), weight("b", 2)]), tmp_path / "a.onnx")
    written_out = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    onnx.save(model(written_out, [1, 4], [weight("w", 4, 2), weight("b", 2)]), tmp_path / "b.onnx")
    key = nasplat.capture(nn.Linear(4, 2), (1, 4)).key
    assert capture_onnx(tmp_path / "a.onnx").key == key
    assert capture_onnx(tmp_path / "b.onnx").key == key


def test_unknown_operator_keeps_the_graph_whole(tmp_path: Path) -> None:
    nodes = [helper.make_node("Wonder", ["x"], ["d"], domain="elsewhere"), helper.make_node("Relu", ["d"], ["y"])]
    onnx.save(model(nodes, [2, 3, 3], []), tmp_path / "net.onnx")
    graph = capture_onnx(tmp_path / "net.onnx")
    assert graph.unknown_ops == ("Wonder",)
    assert "≥" in repr(graph) or ">=" in repr(graph)


def test_truncated_random_missing_and_empty_files_are_typed_errors(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    onnx.save(model([node], [1, 4, 8, 8], [weight("w", 64, 4, 3, 3)]), tmp_path / "net.onnx")
    data = (tmp_path / "net.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    (tmp_path / "noise.onnx").write_bytes(os.urandom(1_000_000))
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("cut", "noise", "empty"):
        with pytest.raises(InputError, match="truncated, or no ONNX"):
            capture_onnx(tmp_path / f"{name}.onnx")
    with pytest.raises(InputError, match="No such file"):
        nasplat.capture(str(tmp_path / "nowhere.onnx"))


def test_external_data_must_be_there_and_beside_the_file(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    made = model([node], [1, 4, 8, 8], [weight("w", 64, 4, 3, 3)])
    onnx.save(made, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    assert capture_onnx(tmp_path / "net.onnx").params == 64 * 4 * 9
    (tmp_path / "net.data").unlink()
    with pytest.raises(InputError, match="does not exist"):
        capture_onnx(tmp_path / "net.onnx")
    outside = onnx.load(tmp_path / "net.onnx", load_external_data=False)
    outside.graph.initializer[0].external_data[0].value = "../../secret"
    (tmp_path / "net.onnx").write_bytes(outside.SerializeToString())
    with pytest.raises(InputError, match="expected inside"):
        capture_onnx(tmp_path / "net.onnx")


def test_cyclic_graph_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    (tmp_path / "net.onnx").write_bytes(model(nodes, [1, 4], [], "b").SerializeToString())
    with pytest.raises(CaptureError, match=r"cyclic|inferred"):
        capture_onnx(tmp_path / "net.onnx")


def test_score_ranks_files_beside_architectures(tmp_path: Path) -> None:
    space = nasplat.load_space("nasbench201")
    architecture = space.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|")
    module, shape = space.construct(architecture)
    nasplat.export(module, tmp_path / "net.onnx", shape)
    file, direct = (nasplat.score([n])[0].prediction for n in (str(tmp_path / "net.onnx"), str(architecture)))
    assert file.in_support
    assert file.mean == pytest.approx(direct.mean, abs=0.5)  # parameters differ by what batch normalisation held


def test_errors_are_ours() -> None:
    assert issubclass(InputError, NasplatError)
