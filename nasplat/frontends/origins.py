"""Which node made a tensor, found by the tensor's identity and by how often its storage was written.

That keeps in-place operators and views in their order: a tensor whose storage was written since it was made comes from
the last writer. Every tensor also has a twin, on which operators run in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nasplat.frontends.block import SHELL
from nasplat.frontends.calls import empty, is_fake
from nasplat.frontends.digest import digest
from nasplat.frontends.parts import Parts
from nasplat.frontends.sparse import shape_of
from nasplat.frontends.tape import Source, Tape
from nasplat.graph.columns import Attributes, Node


class SharedInsides(BaseException):
    """A parameter inside a block was read from outside it: its shells need insides of their own."""


class Origins:
    """Makers and twins of the tensors that one forward pass meets."""

    def __init__(self, parts: Parts, tape: Tape, make_twin: Callable[[Tensor], Tensor] | None, keep: int) -> None:
        """Begin without any tensor.

        Args:
            parts: Parameters and buffers of the network.
            tape: Gets a node for every constant that an operation reads.
            make_twin: Makes the twin of a real tensor; None for meta tensors.
            keep: Elements up to which tensors that depend on no input keep their values.
        """
        self.parts, self.tape, self.make_twin, self.keep = parts, tape, make_twin, keep
        self.names = parts.names
        self.twins: dict[int, Tensor] = {}
        self.producer: dict[int, tuple[int, int, int]] = {}
        """(node, its output, how often the storage had been written) of every tensor that a node made."""
        self.writer: dict[int, Source] = {}
        """Last writer of every storage."""
        self.version: dict[int, int] = {}
        """How often every storage was written."""
        self.alive: list[Any] = []
        """Objects whose ids are in use: an id is unique only while its object lives."""

    def is_constant(self, tensor: Tensor) -> bool:
        """Tell whether a tensor has values and depends on no input.

        Args:
            tensor: An operand of a call.

        Returns:
            True for small tensors that are neither weights nor results of recorded operations.
        """
        i = id(tensor)
        return (
            tensor.device.type != "meta"
            and i not in self.names
            and i not in self.twins
            and i not in self.producer
            and (tensor.layout is not torch.strided or tensor.numel() <= self.keep)
        )

    def is_data(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is an operand of its node; parameters and buffers are the node's own.

        Args:
            tensor: An operand of a call.

        Returns:
            False for parameters and buffers that no operation has written.
        """
        i = id(tensor)
        parts = self.parts
        return (i not in self.names and i not in parts.buffers and i not in parts.views) or i in self.producer

    def twin(self, tensor: Tensor) -> Tensor:
        """Give the tensor on which operators run in place of this one.

        Args:
            tensor: An operand of a call.

        Returns:
            The same twin for the same tensor; a meta tensor is its own.
        """
        if tensor.device.type == "meta" and self.make_twin is None:
            return tensor
        twin = self.twins.get(id(tensor))
        if twin is None:
            if tensor.layout is not torch.strided:
                return tensor  # products are answered without a twin, everything else is refused or really runs
            if self.make_twin is not None:
                twin = tensor if id(tensor) in self.producer else self.make_twin(tensor)
            else:
                twin = empty(tuple(tensor.shape), tensor.stride(), tensor.dtype)
            self.twins[id(tensor)] = twin
            self.alive.append(tensor)
        return twin

    def produced(self, tensor: Tensor, node: int, slot: int) -> None:
        """Remember which node made a tensor.

        Args:
            tensor: An output of the node.
            node: Index of the node.
            slot: Which of the node's outputs it is.
        """
        storage = self._storage(tensor)
        self.producer[id(tensor)] = (node, slot, self.version.get(storage, 0))
        self.writer.setdefault(storage, (node, slot))
        self.alive.append(tensor)

    def wrote(self, tensor: Tensor, node: int) -> None:
        """Remember that a node wrote into a tensor.

        Args:
            tensor: What was written.
            node: Index of the node.
        """
        target = self.twin(tensor)
        storage = target.untyped_storage()._cdata
        self.version[storage] = self.version.get(storage, 0) + 1
        self.writer[storage] = (node, 0)
        self.twins.setdefault(id(tensor), target)  # its values are known no longer
        self.produced(tensor, node, 0)

    def _storage(self, tensor: Tensor) -> int:
        """What stands for the memory of a tensor; a sparse one, which is several pieces, stands for itself."""
        if tensor.layout is not torch.strided:
            return -id(tensor)
        return self.twin(tensor).untyped_storage()._cdata

    def met(self, tensor: Tensor) -> None:
        """Remember a tensor of a run that makes no nodes.

        Args:
            tensor: A result of a call.
        """
        self.producer[id(tensor)] = (0, 0, 0)
        self.alive.append(tensor)

    def source(self, tensor: Tensor) -> Source:
        """Find the node that a tensor comes from; a tensor that nothing made gets a node of its own, a constant.

        Args:
            tensor: An operand of a call, or an output of the network.

        Returns:
            (node, which of its outputs).

        Raises:
            SharedInsides: the tensor is a parameter inside a block that shares its insides with others.
        """
        storage = self._storage(tensor)
        found = self.producer.get(id(tensor))
        if found is not None and found[2] == self.version.get(storage, 0):
            return found[0], found[1]
        writer = self.writer.get(storage)
        return writer if writer is not None else self._constant(tensor, storage)

    def _constant(self, tensor: Tensor, storage: int) -> Source:
        """The node of a tensor that no operation made."""
        parts = self.parts
        is_weight = parts.is_weight(tensor)
        if isinstance(tensor, nn.Parameter) and id(tensor) not in parts.names:
            if any(SHELL in b.__dict__ for b in parts.blocks):
                raise SharedInsides
        rows = (parts.row_of(tensor),) if is_weight else ()
        value: Attributes = ()
        if not rows and _is_dense(tensor) and tensor.numel() <= self.keep:
            value = (("value", digest(tensor)),)
        here = self.tape.append(Node("constant", value, (shape_of(tensor),), tensor.element_size(), rows), [])
        if tensor.layout is not torch.strided:
            self.writer[storage] = (here, 0)  # made by no node, so that it stays a constant
            self.alive.append(tensor)
        elif rows or value:
            self.producer[id(tensor)] = (here, 0, self.version.get(storage, 0))
            self.alive.append(tensor)
        else:
            self.produced(tensor, here, 0)
        return here, 0


def _is_dense(tensor: Tensor) -> bool:
    """Whether a tensor has values that can be read."""
    return tensor.device.type != "meta" and not is_fake(tensor) and tensor.layout == torch.strided
