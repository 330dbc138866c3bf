"""The modules, parameters and buffers of a network, found by the identity of the object, with their names.

The weights that operations use are numbered here too, in the order of their first use. An object's `id` stands for it,
because tensors compare elementwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from nasplat.frontends.block import SHELL, SIGNATURE, walk
from nasplat.frontends.calls import dtype_name
from nasplat.frontends.sparse import shape_of
from nasplat.graph.columns import Weight


class Parts:
    """Names of everything a network consists of, and the table of the weights that were used so far."""

    def __init__(self, module: nn.Module) -> None:
        """Learn the names of a network.

        Args:
            module: The whole network.
        """
        self.stack: list[str] = []
        """Paths of the modules that run now, the innermost last."""
        self.names: dict[int, str] = {}
        """Name of every parameter."""
        self.parameters: dict[int, Tensor] = {}
        self.buffers: dict[int, str] = {}
        """Name of every buffer, and of every alias of one."""
        self.unsaved: set[str] = set()
        """Names of the buffers that a state dict leaves out."""
        self.paths: dict[int, str] = {}
        """Path of every module."""
        self.leaves: set[int] = set()
        """Modules without modules inside."""
        self.blocks: list[nn.Module] = []
        """Modules of a `@block` class whose arguments could be hashed."""
        self.views: dict[int, int] = {}
        """Transposed views and aliases of parameters: the id of the parameter."""
        self.rows: dict[Any, int] = {}
        """Row in `weights` of every parameter that was used; one inside a shell goes by (id of the shell, name)."""
        self.weights: list[Weight] = []
        self.hides = False
        """A part is a frozen script, whose weights are constants of its program."""
        self.meet(module, "")

    def meet(self, module: nn.Module, prefix: str) -> None:
        """Learn the names of a module's parts, parameters and buffers.

        Args:
            module: The network, or a part of it whose insides are new.
            prefix: Path of that module in the network, '' for the network itself.
        """
        for inner, part in walk(module):
            name = f"{prefix}.{inner}" if prefix and inner else prefix or inner
            self.paths[id(part)] = name
            if isinstance(part, torch.jit.ScriptModule):
                self.hides = self.hides or not part._c.hasattr("training")
            if part.__dict__.get(SIGNATURE) is not None:
                self.blocks.append(part)
            if SHELL in part.__dict__:
                continue
            if not part._modules and not isinstance(part, nn.Sequential):
                self.leaves.add(id(part))
            for key, parameter in part._parameters.items():
                if parameter is not None and id(parameter) not in self.names:
                    self.names[id(parameter)] = f"{name}.{key}" if name else key
                    self.parameters[id(parameter)] = parameter
                    if type(parameter) is not nn.Parameter and is_traceable_wrapper_subclass(parameter):
                        self._meet_inside(parameter, self.names[id(parameter)])
            for key, buffer in part._buffers.items():
                if buffer is not None and id(buffer) not in self.buffers:
                    self.buffers[id(buffer)] = f"{name}.{key}" if name else key
                    if key in part._non_persistent_buffers_set:
                        self.unsaved.add(self.buffers[id(buffer)])

    def _meet_inside(self, parameter: Any, name: str) -> None:
        """Learn the names of the tensors inside a parameter of a subclass, which are what operators see."""
        for key in parameter.__tensor_flatten__()[0]:
            inner = getattr(parameter, key)
            if inner.is_floating_point() or inner.numel() >= parameter.numel() // 16:  # not its settings
                self.names[id(inner)] = f"{name}.{key}"
                self.parameters[id(inner)] = inner

    def path_of(self, module: nn.Module) -> str:
        """Find the path of a module.

        Args:
            module: A module that is called.

        Returns:
            Dotted path in the network; that of the module that runs now where this one is not part of the network.
        """
        return self.paths.get(id(module), self.stack[-1] if self.stack else "")

    def is_weight(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is a parameter, or a view that stands for one.

        Args:
            tensor: An operand of a call.

        Returns:
            True for parameters, their aliases and transposed views.
        """
        return id(tensor) in self.names or id(tensor) in self.views

    def rows_of_packed(self, packed: Any, held: Mapping[str, Tensor]) -> tuple[int, ...]:
        """Find the rows of the weights that a quantised layer holds packed, out of reach of `parameters()`.

        Args:
            packed: The object that operators take in their place.
            held: What it holds by name, 'weight' and 'bias'.

        Returns:
            Indices in `weights`, which grows where they are new.
        """
        path = self.stack[-1] if self.stack else ""
        for name, tensor in held.items():
            if (id(packed), name) not in self.rows:
                self.rows[id(packed), name] = len(self.weights)
                kind = dtype_name(tensor.dtype).removeprefix("q")
                self.weights.append(Weight(f"{path}.{name}" if path else name, tuple(tensor.shape), kind))
        return tuple(self.rows[id(packed), name] for name in held)

    def row_of(self, tensor: Tensor) -> int:
        """Find the row of a parameter in the table of weights, which grows by one where it is new.

        Args:
            tensor: A parameter, or a view that stands for one.

        Returns:
            Index in `weights`.
        """
        parameter = self.views.get(id(tensor), id(tensor))
        if parameter not in self.rows:
            self.rows[parameter] = len(self.weights)
            self.weights.append(
                Weight(self.names[parameter], shape_of(self.parameters[parameter]), dtype_name(tensor.dtype))
            )
        return self.rows[parameter]
