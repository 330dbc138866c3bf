"""Blocks of subnets compiled a few times for all widths.

Whole networks would be compiled anew for every subnet; a block is one piece of code whose widths may be symbols. What a
module keeps as a constant, such as the shape of a LayerNorm, still makes a graph each: as many as there are such
values, however many subnets are met. On CPUs the compiled steps measured slower; on GPUs it is not measured yet.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn

LIMIT = 64
"""Graphs of one block; torch's own limit of 8 would silently go on uncompiled."""


def blocks(module: nn.Module) -> list[nn.Module]:
    """Find the parts of a network that repeat.

    Args:
        module: Network to look in.

    Returns:
        The outermost submodules whose class is not torch's own and occurs at least twice.
    """
    kinds = Counter(type(m) for m in module.modules())
    found: list[nn.Module] = []

    def visit(part: nn.Module) -> None:
        for child in part.children():
            if kinds[type(child)] > 1 and not type(child).__module__.startswith("torch."):
                found.append(child)
            else:
                visit(child)

    visit(module)
    return found


def compile_blocks(module: nn.Module, backend: Any = "inductor") -> None:
    """Compile the blocks of a module in place.

    Args:
        module: Subnet whose blocks' forward functions are replaced.
        backend: Backend of `torch.compile`, by name or as a function.
    """
    config: Any = torch._dynamo.config  # which torch loads on first use
    config.allow_unspec_int_on_nn_module = True  # widths that modules hold as integers become symbols,
    config.force_parameter_static_shapes = False  # and so do the sizes of their parameters
    config.force_nn_module_property_static_shapes = False
    config.recompile_limit = LIMIT
    for block in blocks(module):
        block.forward = torch.compile(block.forward, dynamic=True, backend=backend)  # type: ignore[method-assign]
