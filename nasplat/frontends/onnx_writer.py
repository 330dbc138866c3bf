"""Writes the ONNX nodes that stand for one fused node of ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from nasplat.frontends.onnx_tensors import QUANTISED, Tensors, attributes_of
from nasplat.graph.bounds import LARGEST

LAYOUT = "/layout"
"""End of the name of a transposition that only reorders the view of a fused operator: no memory of its own."""


class Unclear(Exception):
    """The inputs do not fit what the operator documents."""


class Writer:
    """Writes the nodes that stand for one node."""

    def __init__(self, node: Any, tensors: Tensors) -> None:
        """Begin with nothing written.

        Args:
            node: The node to write out.
            tensors: Shapes, types and constant values in the file.
        """
        self.node, self.tensors, self.a = node, tensors, attributes_of(node)
        self.nodes: list[Any] = []
        self.stem = next(n for n in node.output if n)

    def input(self, position: int) -> str:
        """Look up an input.

        Args:
            position: Its place, from 0.

        Returns:
            Its name; '' where it is left out.
        """
        return self.node.input[position] if position < len(self.node.input) else ""

    def output(self, position: int) -> str:
        """Look up an output.

        Args:
            position: Its place, from 0.

        Returns:
            Its name; '' where it is left out.
        """
        return self.node.output[position] if position < len(self.node.output) else ""

    def shape(self, position: int) -> tuple[int, ...]:
        """Look up the shape of an input.

        Args:
            position: Its place, from 0.

        Returns:
            Its shape; a KeyError where it is unknown or left out.
        """
        return self.tensors.shape[self.input(position)]

    def add(self, kind: str, inputs: list[str], into: str | list[str] = "", **attributes: Any) -> str:
        """Write one node of ONNX.

        Args:
            kind: Name of its operator.
            inputs: Names of its inputs.
            into: Name or names of its outputs; a new name where empty.
            attributes: Its attributes; those that are None are left out.

        Returns:
            Name of its first output.
        """
        outputs = into if isinstance(into, list) else [into or f"{self.stem}/{kind}{len(self.nodes)}"]
        kept = {k: v for k, v in attributes.items() if v is not None}
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=self.node.name or self.stem, **kept))
        return outputs[0]

    def ints(self, *values: int) -> str:
        """Write a constant.

        Args:
            values: Integers of a vector.

        Returns:
            Name of the constant.
        """
        return self.add("Constant", [], value=numpy_helper.from_array(np.array(values, np.int64)))

    def at_most(self, what: str) -> None:
        """Note that a size which the data decides is taken at its most.

        Args:
            what: What the size is of.
        """
        self.tensors.causes.add(LARGEST)
        where = self.node.name or self.node.op_type
        self.tensors.notes.setdefault(f"{where}: {what} depends on data; counted as the most it can be")

    def kept(self, *names: str) -> dict[str, Any]:
        """Read attributes.

        Args:
            names: Attributes to hand on.

        Returns:
            Those that the node has.
        """
        return {k: list(v) if isinstance(v, tuple) else v for k, v in self.a.items() if k in names}

    def floats(self, name: str) -> str:
        """Convert quantised values.

        Args:
            name: Name of a tensor.

        Returns:
            Name of the same tensor as floats; '' stays ''.
        """
        return self.add("Cast", [name], to=1) if name and self.tensors.type.get(name, 1) in QUANTISED else name

    def weight(self, name: str) -> str:
        """Convert a quantised constant, so that it counts as a weight where data is combined with it.

        Args:
            name: Name of a tensor.

        Returns:
            Name of the constant as floats; the name itself for data.
        """
        return self.floats(name) if name in self.tensors.weight else name

    def view(self, name: str, *shape: int, into: str = "") -> str:
        """Look at a tensor in another shape.

        Args:
            name: Name of the tensor.
            shape: Its new shape.
            into: Name of the result.

        Returns:
            Name of the result.
        """
        return self.add("Reshape", [name, self.ints(*shape)], into)

    def split(self, name: str, sizes: list[int], axis: int) -> list[str]:
        """Cut a tensor along an axis.

        Args:
            name: Name of the tensor.
            sizes: Sizes of the pieces.
            axis: The axis, from 0.

        Returns:
            Names of the pieces.
        """
        pieces = [f"{self.stem}/Split{len(self.nodes)}.{i}" for i in range(len(sizes))]
        self.add("Split", [name, self.ints(*sizes)], pieces, axis=axis)
        return pieces

    def moved(self, name: str, order: list[int], into: str = "") -> str:
        """Look at a tensor in another order of its axes.

        Args:
            name: Name of the tensor.
            order: Its axes in the new order.
            into: Name of the result.

        Returns:
            Name of the result.
        """
        made = self.add("Transpose", [name], into, perm=order)
        self.nodes[-1].name += LAYOUT
        return made

    def activated(self, name: str, into: str = "") -> str:
        """Apply the activation that a fused node names.

        Args:
            name: Name of the tensor before it.
            into: Name of the result.

        Returns:
            Name of the result.

        Raises:
            Unclear: the activation is not known.
        """
        kind = str(self.a.get("activation") or "Identity")
        known = {
            "Relu",
            "LeakyRelu",
            "Tanh",
            "Sigmoid",
            "HardSigmoid",
            "HardSwish",
            "Clip",
            "Gelu",
            "Swish",
            "Identity",
        }
        if kind not in known:
            raise Unclear
        numbers = self.a.get("activation_params", ())
        named = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta")}.get(kind, ())
        return self.add(kind, [name], into, **dict(zip(named, numbers, strict=False)))
