"""Several inputs as one: tensors whose first axis is the batch, such as node features and edges, cut together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nasplat.errors import TaskError

Shape = tuple[int, ...]


class Bundle:
    """Several tensors that a network takes as its arguments, in their order; their first axis is the batch.

    It stands where a task has one tensor of inputs, and is cut, moved and counted as that is.

    Example:
        >>> graphs = Bundle(torch.zeros(5, 8, 3), torch.zeros(5, 2, 20, dtype=torch.int64))
        >>> len(graphs), graphs[:2]
        (5, Bundle((2, 8, 3), (2, 2, 20)))
    """

    def __init__(self, *parts: Tensor) -> None:
        """Put tensors together.

        Args:
            *parts: Tensors of shape (n, …), at least one.

        Raises:
            TaskError: something is no tensor, or their first axes differ.
        """
        if not parts or not all(isinstance(p, Tensor) and p.dim() for p in parts):
            raise TaskError(
                f"a Bundle expected tensors of shape (n, …), at least one, got "
                f"{', '.join(type(p).__name__ for p in parts) or 'nothing'}.\n  Convert arrays: torch.as_tensor(array)."
            )
        if len({len(p) for p in parts}) > 1:
            raise TaskError(
                f"a Bundle expected tensors of as many examples each, got {', '.join(str(len(p)) for p in parts)}.\n"
                "  The first axis is the batch: repeat what is the same for all examples."
            )
        self.parts = parts
        """The tensors, in the order of the network's arguments."""

    def __repr__(self) -> str:
        """Shapes of the parts."""
        return f"Bundle({', '.join(str(tuple(p.shape)) for p in self.parts)})"

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.parts[0])

    def __getitem__(self, rows: Any) -> Bundle:
        """Take examples: by a slice, numbers or truth values of several; of a single number, without a batch axis."""
        made = Bundle.__new__(Bundle)
        made.parts = tuple(p[rows] for p in self.parts)
        return made

    @property
    def device(self) -> torch.device:
        """Device of the parts."""
        return self.parts[0].device

    @property
    def is_cuda(self) -> bool:
        """Whether the parts are on a GPU."""
        return self.parts[0].is_cuda

    @property
    def shape(self) -> torch.Size:
        """Shape of the first part."""
        return self.parts[0].shape

    def dim(self) -> int:
        """Count the axes of the first part.

        Returns:
            Their number.
        """
        return self.parts[0].dim()

    def numel(self) -> int:
        """Count the numbers in all parts.

        Returns:
            Their number.
        """
        return sum(p.numel() for p in self.parts)

    def is_floating_point(self) -> bool:
        """Tell whether the first part has numbers with fractions.

        Returns:
            False where it holds tokens.
        """
        return self.parts[0].is_floating_point()

    def to(self, device: torch.device | str) -> Bundle:
        """Copy the parts to a device.

        Args:
            device: Torch device that the tensors go to.

        Returns:
            A bundle with its parts there.
        """
        return Bundle(*(p.to(device) for p in self.parts))

    def cpu(self) -> Bundle:
        """Copy the parts to the CPU.

        Returns:
            A bundle with its parts there.
        """
        return self.to("cpu")

    def clone(self) -> Bundle:
        """Copy the parts.

        Returns:
            A bundle of copies.
        """
        return Bundle(*(p.clone() for p in self.parts))

    @property
    def example(self) -> tuple[Shape | Tensor, ...]:
        """Parts as an example input: shapes of numbers with fractions, and whole numbers themselves, on the CPU."""
        return tuple(tuple(p.shape) if p.is_floating_point() else p.cpu() for p in self.parts)


def feed(module: nn.Module | Any, x: Tensor | Bundle) -> Any:
    """Call a network on a batch of inputs.

    Args:
        module: Network, or a file that answers as one.
        x: One tensor, or a bundle, whose parts are passed by position.

    Returns:
        What it answers.
    """
    return module(*x.parts) if isinstance(x, Bundle) else module(x)


def sample_shape(x: Tensor | Bundle) -> Any:
    """Find the shape of one example.

    Args:
        x: Inputs of shape (n, …), or a bundle of them.

    Returns:
        Shape without the batch axis, such as (3, 32, 32); of a bundle, a tuple with that of each part.
    """
    return tuple(tuple(p.shape[1:]) for p in x.parts) if isinstance(x, Bundle) else tuple(x.shape[1:])


def graph_sizes(x: Bundle) -> dict[str, int]:
    """Read the sizes of graphs off a bundle.

    Args:
        x: Inputs of any kind.

    Returns:
        Numbers of nodes, features and edges where the bundle holds node features (n, N, F) and edges (n, 2, E), which
        are whole numbers; nothing for other bundles.
    """
    if len(x.parts) < 2 or x.parts[0].dim() != 3 or x.parts[1].dim() != 3:
        return {}
    features, edges = x.parts[:2]
    if not features.is_floating_point() or edges.is_floating_point() or edges.shape[1] != 2:
        return {}
    return {"nodes": features.shape[1], "features": features.shape[2], "edges": edges.shape[2]}


def check_edges(x: Bundle, where: str) -> None:
    """Refuse edges of nodes that there are not: in a batch they would join one graph to the next.

    Args:
        x: Inputs of any kind; only graphs are looked at.
        where: What they are, for messages.

    Raises:
        TaskError: an edge has a number below 0, or one that is not below the number of nodes.
    """
    nodes = graph_sizes(x).get("nodes")
    if nodes is None or not x.parts[1].numel():
        return
    low, high = (int(v) for v in x.parts[1].aminmax())
    if low < 0 or high >= nodes:
        raise TaskError(
            f"{where} expected edges between nodes 0 to {nodes - 1}, got node {low if low < 0 else high}.\n"
            "  Number the nodes of each graph from 0."
        )
