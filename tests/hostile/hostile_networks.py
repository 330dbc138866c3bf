"""Architectures, graphs and ONNX files that no tool writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from hostile_input import Hostile, text
from onnx import TensorProto, helper, numpy_helper

import nasplat
from nasplat.graph import Graph

CELL = {f"{i}->{j}": "none" for j in range(1, 4) for i in range(j)}


def line(refused: str, **parts: object) -> Hostile:
    """An architecture's line with other parts."""
    row = {"space": "nasbench201", "presets": {}, "choices": CELL} | parts
    return Hostile(lambda _: json.dumps(row), nasplat.Architecture.from_json, refused)


def graph(refused: str, change: Callable[[dict[str, Any]], object]) -> Hostile:
    """A graph's JSON with something changed."""

    def make(_: Path) -> str:
        layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        row = json.loads(nasplat.capture(layers, (1, 3, 8, 8)).to_json())
        change(row)
        return json.dumps(row)

    return Hostile(make, lambda text: Graph.from_json(text).macs, refused)


def node(column: int, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda row: row["nodes"][1].__setitem__(column, value)


def model(
    nodes: list[onnx.NodeProto], shape: list[Any] | None = None, weights: tuple[onnx.TensorProto, ...] = ()
) -> onnx.ModelProto:
    """A model from x to y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape or [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "hostile", [x], [y], list(weights))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])


def onnx_file(made: onnx.ModelProto | bytes, refused: str = "", value: object = None) -> Hostile:
    data = made if isinstance(made, bytes) else made.SerializeToString()
    return Hostile(text("net.onnx", data), lambda file: nasplat.capture(str(file)).macs, refused, value)


def bounded(made: onnx.ModelProto) -> Hostile:
    """A model whose total can only be a lower bound, and says so."""
    data = made.SerializeToString()
    return Hostile(text("net.onnx", data), lambda file: nasplat.capture(str(file)).cost.bound, value="≥")


def external(name: str, link: Callable[[Path, Path], object] | None = None) -> Hostile:
    """A model whose weight lies in a file that is not its own."""

    def make(folder: Path) -> Path:
        secret = folder / "secret.bin"
        secret.write_bytes(np.zeros(16, np.float32).tobytes())
        inside = folder / "net"
        inside.mkdir()
        if link is not None:
            link(secret, inside / name)
        weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
        weight.external_data.add(key="location", value=name)
        made = model([helper.make_node("MatMul", ["x", "w"], ["y"])], weights=(weight,))
        (inside / "net.onnx").write_bytes(made.SerializeToString())
        return inside / "net.onnx"

    return Hostile(make, lambda file: nasplat.capture(str(file)), "external data of 'w' expected in")


CYCLE = [
    helper.make_node("Relu", ["b"], ["a"]),
    helper.make_node("Relu", ["a"], ["b"]),
    helper.make_node("Add", ["x", "b"], ["y"]),
]
TWICE = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["y"])]
W = numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")
MATMUL = [helper.make_node("MatMul", ["x", "w"], ["y"])]


def folding_bomb() -> onnx.ModelProto:
    """A few hundred bytes that ask for 4 TiB of constants."""
    shape = numpy_helper.from_array(np.array([1 << 40], np.int64), "shape")
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["big"]), helper.make_node("Add", ["x", "big"], ["y"])]
    return model(nodes, weights=(shape,))


HOSTILE = {
    "line with a space of 5": line("got 5 as space", space=5),
    "line with presets of a list": line(r"got \[1\] as presets", presets=[1]),
    "line without choices": line("'0->1' allows", choices={}),
    "line with a choice of a list": line("'0->1'", choices=CELL | {"0->1": ["none"]}),
    "line with another option": line("got 'conv_9x9'", choices=CELL | {"0->1": "conv_9x9"}),
    "line of a file that was not loaded": Hostile(
        lambda folder: json.dumps({"space": str(text("evil.py", "raise SystemExit(0)\n")(folder)), "choices": {}}),
        nasplat.Architecture.from_json,
        r"evil\.py",
    ),
    "line with a fingerprint of 5": line("got 5 as fingerprint", fingerprint=5),
    "line of a space that has changed": line("with other code, whose hash is", fingerprint="0" * 16),
    "line nested without end": Hostile(lambda _: '{"space":' + "[" * 20_000, nasplat.Architecture.from_json, "expected"),
    "graph with an operation of 5": graph("op", node(0, 5)),
    "graph with a shape of fractions": graph("shape", node(2, [[1.5, 8, 6, 6]])),
    "graph with a shape that is no number": graph("shape", node(2, [[float("nan")]])),
    "graph with a negative shape": graph("shape", node(2, [[1, -8, 6, 6]])),
    "graph with an edge from nowhere": graph("edge", lambda row: row["edges"].append([99, 1, 0, 0])),
    "graph nested without end": Hostile(lambda _: '{"nasplat_graph":1,"nodes":' + "[" * 50_000, Graph.from_json, "expected"),
    "ONNX of nothing": onnx_file(b"", "ONNX"),
    "ONNX of bytes": onnx_file(bytes(range(256)), "ONNX"),
    "ONNX that was cut": onnx_file(model(MATMUL, weights=(W,)).SerializeToString()[:-20], "ONNX"),
    "ONNX whose nodes form a circle": onnx_file(model(CYCLE), "circle|cycle|before|order"),
    "ONNX with two values of one name": onnx_file(model(TWICE), "twice|SSA|duplicate|two"),
    "ONNX with a weight as large as it says": onnx_file(model(MATMUL, weights=(W,)), value=16),
    "ONNX with a negative side": bounded(model(MATMUL, [1, -4], (W,))),
    "ONNX that folds to terabytes": bounded(folding_bomb()),
    "ONNX with weights outside its folder": external("../secret.bin"),
    "ONNX with weights behind a symbolic link": external("w.bin", lambda to, at: at.symlink_to(to)),
    "ONNX with weights behind a hard link": external("w.bin", lambda to, at: os.link(to, at)),
}  # fmt: skip
