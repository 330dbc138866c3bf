"""ONNX files become the graphs their modules give, or one typed error."""

from __future__ import annotations

import importlib.util
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
from nasplat.errors import CaptureError, InputError, NasplatError
from nasplat.frontends import capture_onnx
from nasplat.graph.compare import comparable

_SPEC = importlib.util.spec_from_file_location("fuzz_onnx", Path(__file__).parents[2] / "benchmarks" / "fuzz_onnx.py")
assert _SPEC is not None
assert _SPEC.loader is not None
fuzz = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fuzz)


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
def test_an_exported_network_has_the_costs_and_the_graph_of_its_module_up_to_what_exporters_fold(
    name: str, tmp_path: Path
) -> None:
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
    assert comparable(nasplat.capture(module, shape)).key == comparable(read).key
    assert read.rung == "onnx"


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
    assert graph.unknown_ops == ("elsewhere::Wonder",)
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


def test_external_data_behind_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(64 * 4 * 9 * 4))
    made = model([helper.make_node("Conv", ["x", "w"], ["y"])], [1, 4, 8, 8], [weight("w", 64, 4, 3, 3)])
    onnx.save(made, folder / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    (folder / "net.data").rename(folder / "kept")
    for link, where in ((os.symlink, "expected inside"), (os.link, "hard link")):
        link(tmp_path / "secret", folder / "net.data")
        with pytest.raises(InputError, match=where):
            capture_onnx(folder / "net.onnx")
        (folder / "net.data").unlink()
        link(folder / "kept", folder / "net.data")  # inside the folder a link is harmless
        assert capture_onnx(folder / "net.onnx").params == 64 * 4 * 9
        (folder / "net.data").unlink()


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    data = model([helper.make_node("Relu", ["x"], ["y"], name="label")], [1, 4], []).SerializeToString()
    (tmp_path / "net.onnx").write_bytes(data.replace(b"label", b"\xff\xfe\xff\xfe\xff"))
    with pytest.raises(InputError, match=r"no text|does not decode"):
        capture_onnx(tmp_path / "net.onnx")


def test_cyclic_graph_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    (tmp_path / "net.onnx").write_bytes(model(nodes, [1, 4], [], "b").SerializeToString())
    with pytest.raises(CaptureError, match=r"cyclic|inferred"):
        capture_onnx(tmp_path / "net.onnx")


def test_score_ranks_files_beside_architectures(tmp_path: Path) -> None:
    space = nasplat.load_space("nasbench201")
    architecture = space.parse(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    )
    module, shape = space.construct(architecture)
    nasplat.export(module, tmp_path / "net.onnx", shape)
    file, direct = (
        nasplat.score([n], "trees-nb201")[0].prediction for n in (str(tmp_path / "net.onnx"), str(architecture))
    )
    assert file.in_support
    assert file.mean == pytest.approx(direct.mean, abs=1.0)  # parameters differ by what batch normalisation held


def test_errors_are_ours() -> None:
    assert issubclass(InputError, NasplatError)


@pytest.mark.parametrize("version", [9, 11, 13, 17, 18, onnx.defs.onnx_opset_version()])
def test_operator_sets_old_and_new_give_equal_costs(version: int, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "o", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "fw"] if version >= 11 else ["f", "fw", "fb"], ["y"], transB=1),
    ]
    statistics = [weight(n, 8) for n in "somv"]
    made = model(nodes, [2, 3, 4, 4], [weight("w", 8, 3, 3, 3), *statistics, weight("fw", 5, 128), weight("fb", 5)])
    made.opset_import[0].version = version
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    graph = capture_onnx(tmp_path / "net.onnx")
    assert graph.macs == 2 * (16 * 8 * 27 + 5 * 128)
    assert graph.nodes[-1].shape == (2, 5)
    assert graph.params == 8 * 27 + 16 + 5 * 128 + (5 if version < 11 else 0)
    assert not graph.unknown_ops


def test_an_operator_set_out_of_range_is_refused(tmp_path: Path) -> None:
    made = model([helper.make_node("Relu", ["x"], ["y"])], [1, 4], [])
    for version in (1, 9999):
        made.opset_import[0].version = version
        (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
        with pytest.raises(InputError, match="expected operator set"):
            capture_onnx(tmp_path / "net.onnx")


def test_shape_arithmetic_is_computed_and_carries_no_node(tmp_path: Path) -> None:
    made = fuzz.seeds()["shapes"]
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    graph = capture_onnx(tmp_path / "net.onnx")
    assert [n.op for n in graph.nodes] == ["input", "linear", "view", "softmax", "expand", "mean", "output"]
    assert graph.nodes[2].shape == (2, 40)
    assert not graph.notes


def test_conditionals_and_loops_are_unfolded_and_said(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(fuzz.seeds()["flow"].SerializeToString())
    graph = capture_onnx(tmp_path / "net.onnx")
    ops = [n.op for n in graph.nodes]
    assert ops.count("add") == 5  # the body, as often as its trip count says
    assert "tanh" not in ops
    assert any("the then-branch was taken" in n for n in graph.notes)


def test_a_loop_of_unknown_length_counts_once(tmp_path: Path) -> None:
    made = fuzz.seeds()["flow"]
    del made.graph.initializer[0]
    made.graph.input.append(helper.make_tensor_value_info("times", TensorProto.INT64, [1]))
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    graph = capture_onnx(tmp_path / "net.onnx")
    assert [n.op for n in graph.nodes].count("add") == 1
    assert any("the body counts once, of unknown times" in n for n in graph.notes)


def test_functions_are_inlined_and_must_not_call_themselves(tmp_path: Path) -> None:
    made = fuzz.seeds()["functions"]
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    assert [n.op for n in capture_onnx(tmp_path / "net.onnx").nodes] == [
        "input",
        "relu",
        "add",
        "relu",
        "add",
        "output",
    ]
    made.functions[0].node.append(helper.make_node("Block", ["b"], ["z"], domain="own"))
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(CaptureError, match="calls itself"):
        capture_onnx(tmp_path / "net.onnx")


def test_quantised_weights_count_with_their_type(tmp_path: Path) -> None:
    whole = onnx.numpy_helper.from_array(np.zeros((8, 4, 3, 3), np.int8), "q")
    scale = onnx.numpy_helper.from_array(np.array(0.1, np.float32), "scale")
    nodes = [helper.make_node("DequantizeLinear", ["q", "scale"], ["w"]), helper.make_node("Conv", ["x", "w"], ["y"])]
    onnx.save(model(nodes, [1, 4, 8, 8], [whole, scale]), tmp_path / "net.onnx")
    graph = capture_onnx(tmp_path / "net.onnx")
    assert graph.macs == 36 * 8 * 36
    assert dict(graph.cost.weight_bytes) == {"int8": 8 * 36}


def test_equal_names_of_sizes_are_equal_sizes(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Add", ["x", "z"], ["y"])], "net", [x, z], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), tmp_path / "net.onnx")
    assert capture_onnx(tmp_path / "net.onnx", (7, 4)).nodes[-1].shape == (7, 4)


def test_absurd_sizes_are_refused_without_being_made(tmp_path: Path) -> None:
    made = model([helper.make_node("Relu", ["x"], ["y"])], [2**31, 2**31], [])
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(CaptureError, match="expected sizes of a network"):
        capture_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("number", range(0, 2200, 40))
def test_broken_files_give_a_graph_or_a_typed_error(number: int, tmp_path: Path) -> None:
    what, data = fuzz.mutant(number)
    assert fuzz.judge(data, tmp_path) in {"graph", "typed error"}, what
