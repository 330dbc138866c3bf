"""What the nodes of an ONNX file become: weights wherever they come from, attention in all forms, loops, budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nasplat.errors import CaptureError
from nasplat.frontends import capture_onnx, onnx_file, onnx_tensors
from nasplat.graph import Graph

pytestmark = pytest.mark.fast

node = helper.make_node


def read(
    folder: Path,
    nodes: list[Any],
    inputs: dict[str, tuple[Any, ...]],
    weights: dict[str, np.ndarray] | None = None,
    version: int = 17,
    declared: dict[str, list[Any]] | None = None,
    outputs: tuple[str, ...] = ("y",),
) -> Graph:
    """Write a file and read it."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [value(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
        [numpy_helper.from_array(v, n) for n, v in (weights or {}).items()],
        value_info=[value(n, TensorProto.FLOAT, s) for n, s in (declared or {}).items()],
    )
    sets = [helper.make_opsetid("", version), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=10), folder / "net.onnx")
    return capture_onnx(folder / "net.onnx")


def f(*shape: int) -> np.ndarray:
    return np.full(shape, 0.1, np.float32)


def q(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int8)


CHAINS: dict[str, tuple[list[Any], dict[str, np.ndarray], int]] = {
    "dequantised, one scale": ([node("DequantizeLinear", ["q", "s"], ["w"])], {"q": q(16, 8), "s": f()}, 128),
    "dequantised by channel": ([node("DequantizeLinear", ["q", "s"], ["w"], axis=1)], {"q": q(16, 8), "s": f(8)}, 128),
    "dequantised by block": (
        [node("DequantizeLinear", ["q", "s"], ["w"], axis=0, block_size=4)],
        {"q": q(16, 8), "s": f(4, 8)},
        128,
    ),
    "quantised and back": (
        [
            node("QuantizeLinear", ["v", "s", "z"], ["q"], axis=1),
            node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=1),
        ],
        {"v": f(16, 8), "s": f(8), "z": q(8)},
        128,
    ),
    "cast and scaled by hand": (
        [
            node("Cast", ["q"], ["c"], to=1),
            node("Sub", ["c", "z"], ["d"]),
            node("Mul", ["d", "s"], ["t"]),
            node("Transpose", ["t"], ["w"]),
        ],
        {"q": q(8, 16), "s": f(8, 1), "z": f()},
        128 + 8,
    ),
    "joined and cut": (
        [
            node("Concat", ["a", "b"], ["c"], axis=0),
            node("Slice", ["c", "from", "to"], ["d"]),
            node("Identity", ["d"], ["w"]),
        ],
        {"a": f(10, 8), "b": f(10, 8), "from": np.array([0]), "to": np.array([16])},
        160,
    ),
    "filled in by an operator": (
        [node("ConstantOfShape", ["n"], ["w"])],
        {"n": np.array([16, 8])},
        128,
    ),
    "filled in and turned": (
        [node("ConstantOfShape", ["n"], ["c"]), node("Transpose", ["c"], ["w"])],
        {"n": np.array([8, 16])},
        128,
    ),
    "written as a constant": ([node("Constant", [], ["w"], value=numpy_helper.from_array(f(16, 8)))], {}, 128),
    "quantised constant": (
        [
            node("Constant", [], ["q"], value=numpy_helper.from_array(q(16, 8))),
            node("DequantizeLinear", ["q", "s"], ["w"], axis=1),
        ],
        {"s": f(8)},
        128,
    ),
}


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_a_weight_behind_constant_operators_is_the_weight_of_a_linear_layer(name: str, tmp_path: Path) -> None:
    nodes, weights, params = CHAINS[name]
    product = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "bias"], ["y"])]
    graph = read(tmp_path, [*nodes, *product], {"x": (5, 16)}, weights | {"bias": f(8)}, version=21)
    assert [n.op for n in graph.nodes] == ["input", "linear", "output"]
    assert (graph.macs, graph.params) == (5 * 16 * 8, params + 8)


def test_a_bias_of_one_number_is_a_weight(tmp_path: Path) -> None:
    graph = read(tmp_path, [node("Gemm", ["x", "w", "b"], ["y"])], {"x": (5, 16)}, {"w": f(16, 1), "b": f(1)})
    assert graph.params == 17


def test_fills_that_are_no_operand_of_a_layer_are_no_weights(tmp_path: Path) -> None:
    nodes = [node("ConstantOfShape", ["n"], ["mask"]), node("Add", ["x", "mask"], ["y"])]
    assert read(tmp_path, nodes, {"x": (4, 4)}, {"n": np.array([4, 4])}).params == 0


def test_weights_of_one_name_in_two_subgraphs_are_two_weights(tmp_path: Path) -> None:
    def branch(size: int, output: str) -> Any:
        weights = [numpy_helper.from_array(f(4, size), "w")]
        made = helper.make_empty_tensor_value_info(output)
        return helper.make_graph([node("MatMul", ["x", "w"], [output])], "inside", [], [made], weights)

    yes = numpy_helper.from_array(np.array(True))
    nodes = [
        node("Constant", [], ["yes"], value=yes),
        node("If", ["yes"], ["a"], then_branch=branch(6, "a1"), else_branch=branch(1, "a2")),
        node("If", ["yes"], ["b"], then_branch=branch(8, "b1"), else_branch=branch(1, "b2")),
        node("Concat", ["a", "b"], ["y"], axis=1),
    ]
    graph = read(tmp_path, nodes, {"x": (1, 4)})
    assert (graph.params, graph.nodes[-1].shape) == (4 * 14, (1, 14))


ATTENTION: dict[str, tuple[dict[str, tuple[int, ...]], list[str], dict[str, Any], int, list[tuple[int, ...]]]] = {
    "four axes": (
        {"q": (2, 4, 5, 8), "k": (2, 4, 7, 8), "v": (2, 4, 7, 6)},
        ["q", "k", "v"],
        {},
        2 * 4 * 5 * 7 * 14,
        [(2, 4, 5, 6), (2, 4, 7, 8), (2, 4, 7, 6), (2, 4, 5, 7)],
    ),
    "three axes": (
        {"q": (2, 5, 32), "k": (2, 7, 32), "v": (2, 7, 24)},
        ["q", "k", "v"],
        {"q_num_heads": 4, "kv_num_heads": 4},
        2 * 4 * 5 * 7 * 14,
        [(2, 5, 24), (2, 4, 7, 8), (2, 4, 7, 6), (2, 4, 5, 7)],
    ),
    "grouped": (
        {"q": (2, 5, 32), "k": (2, 7, 16), "v": (2, 7, 12)},
        ["q", "k", "v"],
        {"q_num_heads": 4, "kv_num_heads": 2, "is_causal": 1},
        2 * 4 * 5 * 7 * 14,
        [(2, 5, 24), (2, 2, 7, 8), (2, 2, 7, 6), (2, 4, 5, 7)],
    ),
    "with a mask and a past": (
        {"q": (2, 4, 5, 8), "k": (2, 2, 7, 8), "v": (2, 2, 7, 6), "m": (5, 10), "pk": (2, 2, 3, 8), "pv": (2, 2, 3, 6)},
        ["q", "k", "v", "m", "pk", "pv"],
        {},
        2 * 4 * 5 * 10 * 14,
        [(2, 4, 5, 6), (2, 2, 10, 8), (2, 2, 10, 6), (2, 4, 5, 10)],
    ),
    "three axes with a past": (
        {"q": (2, 5, 32), "k": (2, 7, 16), "v": (2, 7, 12), "pk": (2, 2, 3, 8), "pv": (2, 2, 3, 6)},
        ["q", "k", "v", "", "pk", "pv"],
        {"q_num_heads": 4, "kv_num_heads": 2},
        2 * 4 * 5 * 10 * 14,
        [(2, 5, 24), (2, 2, 10, 8), (2, 2, 10, 6), (2, 4, 5, 10)],
    ),
}


@pytest.mark.parametrize("name", sorted(ATTENTION))
@pytest.mark.parametrize("version", [23, 24])
def test_attention_in_all_its_forms(name: str, version: int, tmp_path: Path) -> None:
    inputs, names, attributes, macs, shapes = ATTENTION[name]
    outputs = ("y", "present_key", "present_value", "qk")
    graph = read(
        tmp_path, [node("Attention", names, list(outputs), **attributes)], inputs, None, version, None, outputs
    )
    assert graph.macs == macs
    assert [n.shape for n in graph.nodes if n.op == "output"] == shapes
    assert not graph.cost.bound


@pytest.mark.parametrize(
    ("equation", "left", "right", "macs"),
    [
        ("bij,bjk->bik", (2, 3, 4), (2, 4, 5), 120),
        ("ij,jk", (3, 4), (4, 5), 60),
        ("...ij,jk->...ik", (2, 3, 4), (4, 5), 120),
    ],
)
def test_einsum_counts_every_label_once(
    equation: str, left: tuple[int, ...], right: tuple[int, ...], macs: int, tmp_path: Path
) -> None:
    graph = read(tmp_path, [node("Einsum", ["x", "z"], ["y"], equation=equation)], {"x": left, "z": right})
    assert graph.macs == macs


@pytest.mark.parametrize(
    ("kind", "version", "attributes", "scales"),
    [
        ("GroupNormalization", 18, {"num_groups": 2}, 2),
        ("GroupNormalization", 21, {"num_groups": 2}, 4),
        ("MeanVarianceNormalization", 13, {}, 0),
        ("InstanceNormalization", 17, {}, 4),
        ("LayerNormalization", 13, {"axis": 1}, 4),
    ],
)
def test_what_lies_behind_a_normalisation_without_shape_inference_is_counted(
    kind: str, version: int, attributes: dict[str, Any], scales: int, tmp_path: Path
) -> None:
    names = ["x", "g", "g"] if scales else ["x"]
    nodes = [node(kind, names, ["n"], **attributes), node("Conv", ["n", "w"], ["y"])]
    graph = read(tmp_path, nodes, {"x": (1, 4, 8, 8)}, {"w": f(4, 4, 3, 3), "g": f(max(scales, 1))}, version)
    assert graph.macs == 36 * 4 * 36
    assert not graph.cost.bound


def test_an_operator_is_known_by_its_domain_and_what_the_file_declares_of_it_is_used(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x"], ["c"], domain="mine"), node("MatMul", ["c", "w"], ["y"])]
    graph = read(tmp_path, nodes, {"x": ("n", 4)}, {"w": f(6, 8)}, declared={"c": ["n", 6]})
    assert graph.unknown_ops == ("mine::Conv",)
    assert graph.macs == 6 * 8
    assert graph.cost.bound == "≥"
    unknown = read(tmp_path, nodes, {"x": ("n", 4)}, {"w": f(6, 8)})
    assert any("the shape of 'c' is unknown" in n for n in unknown.notes)
    of_runtime = read(tmp_path, [node("Elsewhere", ["x"], ["y"], domain="com.microsoft")], {"x": (1, 4)})
    assert of_runtime.unknown_ops == ("com.microsoft::Elsewhere",)


def test_a_slice_whose_ends_depend_on_data_counts_at_its_most(tmp_path: Path) -> None:
    cast = node("Cast", ["z"], ["to"], to=7)
    nodes = [cast, node("Slice", ["x", "from", "to"], ["s"]), node("MatMul", ["s", "w"], ["y"])]
    graph = read(tmp_path, nodes, {"x": (9, 4), "z": (1,)}, {"from": np.array([0]), "w": f(4, 8)})
    assert (graph.macs, graph.cost.bound) == (9 * 4 * 8, "≤")


def loop(turns: int, ends: bool | None) -> Any:
    """A loop that doubles its state; its condition is a constant, or depends on data where `ends` is None."""
    value = helper.make_tensor_value_info
    said = (
        node("Cast", ["s"], ["goes"], to=9)
        if ends is None
        else node("Constant", [], ["goes"], value=numpy_helper.from_array(np.array(not ends)))
    )
    return helper.make_graph(
        [node("Add", ["s", "s"], ["t"]), said],
        "body",
        [value("i", 7, []), value("c", 9, []), value("s", 1, [1])],
        [value("goes", 9, []), value("t", 1, [1])],
    )


@pytest.mark.parametrize(
    ("turns", "ends", "sums", "bound"), [(3, False, 3, ""), (3, True, 1, ""), (0, False, 0, ""), (3, None, 3, "≤")]
)
def test_a_loop_runs_as_often_as_its_count_and_condition_say(
    turns: int, ends: bool | None, sums: int, bound: str, tmp_path: Path
) -> None:
    nodes = [node("Loop", ["n", "", "x"], ["y"], body=loop(turns, ends))]
    graph = read(tmp_path, nodes, {"x": (1,)}, {"n": np.array(turns)})
    assert [n.op for n in graph.nodes].count("add") == sums
    assert graph.cost.bound == bound


def test_a_scan_of_operator_set_8_is_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    body = helper.make_graph([node("Relu", ["s"], ["t"])], "body", [value("s", 1, [1])], [value("t", 1, [1])])
    with pytest.raises(CaptureError, match="Scan of operator set 8"):
        read(tmp_path, [node("Scan", ["", "x"], ["y"], body=body, num_scan_inputs=1)], {"x": (1, 3, 1)}, version=8)


def test_constants_are_computed_within_a_budget_and_forgotten_when_nothing_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = [node("Add", [f"k{i}", "k0"], [f"k{i + 1}"]) for i in range(40)]
    nodes = [*sums, node("Cast", ["k40"], ["f"], to=1), node("Add", ["x", "f"], ["y"])]
    weights = {"k0": np.arange(1000)}
    monkeypatch.setattr(onnx_tensors, "MAX_LIVE", 3000)  # two at once, not forty
    assert not read(tmp_path, nodes, {"x": (1000,)}, weights).notes
    monkeypatch.setattr(onnx_tensors, "MAX_FOLDED", 10_000)
    graph = read(tmp_path, nodes, {"x": (1000,)}, weights)
    assert graph.notes == ("the file computes more from its constants than is followed here",)
    assert graph.nodes[-1].shape == (1000,)


def test_a_file_of_too_many_nodes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MAX_NODES", 10)
    with pytest.raises(CaptureError, match="at most 10 nodes"):
        read(tmp_path, [node("Relu", ["x"], [f"y{i}"]) for i in range(11)], {"x": (1,)}, outputs=("y0",))


def test_a_quantised_table_and_quantised_terms_are_weights(tmp_path: Path) -> None:
    scale = {"s": f(), "z": np.array(0, np.int8)}
    value = helper.make_tensor_value_info
    nodes = [
        node("Gather", ["table", "ids"], ["rows"]),
        node("QLinearAdd", ["rows", "s", "z", "term", "s", "z", "s", "z"], ["sum"], domain="com.microsoft"),
        node("DequantizeLinear", ["sum", "s", "z"], ["y"]),
    ]
    weights = [numpy_helper.from_array(v, n) for n, v in (scale | {"table": q(30, 8), "term": q(8)}).items()]
    graph = helper.make_graph(
        nodes, "net", [value("ids", TensorProto.INT64, [2, 5])], [helper.make_empty_tensor_value_info("y")], weights
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8), tmp_path / "net.onnx")
    read_back = capture_onnx(tmp_path / "net.onnx")
    assert (read_back.params, read_back.nodes[-1].shape) == (30 * 8 + 8, (2, 5, 8))


def test_packed_weights_of_an_unknown_operator_make_parameters_a_lower_bound(tmp_path: Path) -> None:
    nodes = [node("Wonder", ["x", "q"], ["y"], domain="mine")]
    graph = read(tmp_path, nodes, {"x": (2, 8)}, {"q": q(8, 4)})
    assert (graph.params, graph.cost.params_bound) == (32, "≥")


def test_what_contradicts_itself_says_why_its_shape_is_unknown(tmp_path: Path) -> None:
    graph = read(tmp_path, [node("MatMul", ["x", "w"], ["y"])], {"x": (2, 8)}, {"w": f(6, 4)})
    assert "Incompatible dimensions" in graph.notes[0]
    assert graph.cost.bound == "≥"


def test_a_tensor_that_is_made_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="'y' is made twice"):
        read(tmp_path, [node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["y"])], {"x": (2, 8)})


def test_attributes_of_another_type_than_the_operators_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="contradicts itself"):
        read(tmp_path, [node("Einsum", ["x", "x"], ["y"], equation=[1, 2])], {"x": (2, 8)})


def test_products_of_three_are_counted_at_their_most(tmp_path: Path) -> None:
    inputs = {"a": (3, 4), "b": (4, 5), "c": (5, 6)}
    graph = read(tmp_path, [node("Einsum", ["a", "b", "c"], ["y"], equation="ij,jk,kl->il")], inputs)
    assert (graph.macs, graph.cost.bound) == (3 * 4 * 5 * 6, "≤")


def test_a_long_loop_over_a_large_branch_is_not_laid_out_turn_by_turn(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    branch = helper.make_graph([node("Relu", ["s"], [f"r{i}"]) for i in range(500)], "b", [], [value("r0", 1, [1])])
    said = [node("Identity", ["c"], ["goes"]), node("If", ["c"], ["t"], then_branch=branch, else_branch=branch)]
    given = [value("i", 7, []), value("c", 9, []), value("s", 1, [1])]
    body = helper.make_graph(said, "body", given, [value("goes", 9, []), value("t", 1, [1])])
    graph = read(tmp_path, [node("Loop", ["n", "", "x"], ["y"], body=body)], {"x": (1,)}, {"n": np.array(5000)})
    assert graph.notes == ("Loop: the body counts once, of 5000 times",)
    assert graph.cost.bound == "≥"


@pytest.mark.parametrize(("state", "params"), [(0.0, 24 * 14), (0.5, 24 * 14 + 2 * 6)])
def test_a_first_state_of_zeros_is_no_weight(state: float, params: int, tmp_path: Path) -> None:
    weights = {"w": f(1, 24, 8), "r": f(1, 24, 6), "h": np.full((1, 2, 6), state, np.float32)}
    graph = read(
        tmp_path, [node("LSTM", ["x", "w", "r", "", "", "h"], ["y"], hidden_size=6)], {"x": (5, 2, 8)}, weights
    )
    assert (graph.macs, graph.params) == (5 * 2 * 24 * 14, params)


def test_constants_are_not_computed_by_operators_whose_work_depends_on_values(tmp_path: Path) -> None:
    at = {"far": np.array([2**40, 5, 8]), "data": np.array([1, 2, 3])}
    nodes = [
        node("GatherElements", ["data", "far"], ["g"]),
        node("Cast", ["g"], ["c"], to=1),
        node("Add", ["x", "c"], ["y"]),
    ]
    assert read(tmp_path, nodes, {"x": (2, 3)}, at).nodes[-1].shape == (2, 3)


@pytest.mark.parametrize("name", ["Expand", "Upsample", "ConstantOfShape"])
def test_an_output_of_endlessly_many_axes_is_not_inferred(name: str, tmp_path: Path) -> None:
    """Shape inference would reserve memory for each of them."""
    file = tmp_path / "net.onnx"
    sizes = TensorProto(name="sizes", data_type=TensorProto.INT64, dims=[2**31], raw_data=bytes(8))
    read(tmp_path, [node("Relu", ["x"], ["y"])], {"x": (1, 3)}, version=9)
    model = onnx.load(file)
    model.graph.initializer.append(sizes)
    made = node(name, ["sizes"] if name == "ConstantOfShape" else ["x", "sizes"], ["z"])
    model.graph.node.extend([made, node("Add", ["z", "x"], ["u"])])
    model.graph.output.append(helper.make_empty_tensor_value_info("u"))
    onnx.save(model, file)
    graph = capture_onnx(file)
    assert graph.cost.bound == "≥"
    assert any("'z'" in note and "is unknown" in note for note in graph.notes)
