"""Sizes of ONNX inputs: what the file fixes cannot be overruled, what the user gives is taken, the rest is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from nasplat.errors import InputError
from nasplat.frontends import capture_onnx

pytestmark = pytest.mark.fast


def convolution(path: Path, sizes: list[Any] | None, more: list[Any] | None = None) -> Path:
    """A convolution of 3 by 3 from 3 to 4 channels, with a second input of one value where `more` is given."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)]
    node = helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])
    nodes = [node, helper.make_node("Relu", ["c"], ["y"])]
    if more is not None:
        inputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, more))
        nodes[1] = helper.make_node("Add", ["c", "z"], ["y"])
    weight = numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "w")
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", inputs, [output], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize("free", ["?", "unk", "None", "-1", "", "unknown", "*", -1, None])
def test_placeholders_are_no_names_and_each_axis_has_its_own_size(free: Any, tmp_path: Path) -> None:
    path = convolution(tmp_path / "net.onnx", ["n", 3, free, free])
    graph = capture_onnx(path, (1, 3, 8, 24))
    assert graph.macs == 8 * 24 * 4 * 27
    assert not graph.notes


def test_sizes_of_one_name_that_the_example_tells_apart_are_taken_as_given_and_said(tmp_path: Path) -> None:
    graph = capture_onnx(convolution(tmp_path / "net.onnx", ["n", 3, "s", "s"]), (1, 3, 8, 24))
    assert graph.macs == 8 * 24 * 4 * 27
    assert "sizes named 's' are 8 and 24 in the example" in graph.notes[0]


def test_a_name_carries_over_to_inputs_that_the_example_leaves_out_in_any_order(tmp_path: Path) -> None:
    path = convolution(tmp_path / "net.onnx", ["n", 3, "h", "h"], ["n", 1, "h", 1])
    assert [n.shape for n in capture_onnx(path, (2, 3, 6, 6)).nodes if n.op == "input"] == [(2, 3, 6, 6), (2, 1, 6, 1)]
    found = capture_onnx(path, (None, (2, 1, 6, 1)))
    assert [n.shape for n in found.nodes if n.op == "input"] == [(2, 3, 6, 6), (2, 1, 6, 1)]


@pytest.mark.parametrize("example", [(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), [(1, 3, 16, 16)], (2, 3, 8, 8)])
def test_a_size_that_the_file_fixes_is_not_overruled(example: Any, tmp_path: Path) -> None:
    path = convolution(tmp_path / "net.onnx", [1, 3, 8, 8])
    with pytest.raises(InputError, match=r"fixed size \d at axis \d, got"):
        capture_onnx(path, example)
    assert capture_onnx(path, (1, 3, 8, 8)).macs == 64 * 4 * 27


def test_examples_of_other_axes_more_inputs_or_no_sizes_are_refused(tmp_path: Path) -> None:
    path = convolution(tmp_path / "net.onnx", ["n", 3, "h", "w"])
    with pytest.raises(InputError, match="has 4 axes, got shape"):
        capture_onnx(path, (1, 3, 8))
    with pytest.raises(InputError, match="at most 1 inputs"):
        capture_onnx(path, ((1, 3, 8, 8), (1, 3, 8, 8)))
    with pytest.raises(InputError, match="sizes of at least 1"):
        capture_onnx(path, (1, 3, 0, 8))
    with pytest.raises(InputError, match="expected a shape, a tensor or a tuple"):
        capture_onnx(path, 8)


def test_free_sizes_that_nobody_gave_are_named_and_make_totals_lower_bounds(tmp_path: Path) -> None:
    graph = capture_onnx(convolution(tmp_path / "net.onnx", ["n", 3, "h", "w"]))
    assert "the free sizes 'h', 'w' are assumed to be 1" in graph.notes[0]
    assert graph.cost.bound == "≥"
    unnamed = capture_onnx(convolution(tmp_path / "net.onnx", [1, 3, 8, "?"]))
    assert "of axis 3" in unnamed.notes[0]


def test_the_number_of_examples_counts_as_one_and_is_no_guess(tmp_path: Path) -> None:
    for name in ("batch_size", "N", "?", None):
        graph = capture_onnx(convolution(tmp_path / "net.onnx", [name, 3, 8, 8]))
        assert (graph.macs, graph.notes, graph.cost.bound) == (64 * 4 * 27, (), "")


def test_an_input_whose_axes_are_unknown_needs_an_example(tmp_path: Path) -> None:
    path = convolution(tmp_path / "net.onnx", None)
    graph = capture_onnx(path)
    assert "the file says nothing of its shape" in graph.notes[0]
    assert graph.cost.bound == "≥"
    assert capture_onnx(path, (1, 3, 8, 8)).macs == 64 * 4 * 27
