"""Example inputs: what a network is called with, written down in one grammar, and batches of any size made like it.

An example input is a shape such as (1, 3, 224, 224), which stands for float32; a tensor, whose type, size and values
are kept; a tuple of these, which are passed by position; or a dict of them, passed by name. Tuples, lists and dicts may
be nested, and None, numbers and words among them are passed as they are. Capture, score, export, measure and proxies
read examples with `as_example` or `Inputs`, and so mean the same by them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import keystr, tree_flatten, tree_flatten_with_path, tree_unflatten

from nasplat.errors import CaptureError
from nasplat.frontends.calls import META

SINGLE = "input"
"""Name of the input of a network that takes one tensor by position."""


def as_example(example: Any) -> Any:
    """Replace the shapes of an example input by meta tensors.

    Args:
        example: A shape tuple (float32), a tensor, or a tuple or dict of them, nested ones among them.

    Returns:
        A tuple of positional arguments, or a dict of named ones.

    Raises:
        CaptureError: the example is none of these.
    """
    if isinstance(example, Tensor):
        return (example,)
    if _is_shape(example):
        return (_stand_in(example),)
    if isinstance(example, Mapping) and example:
        return {str(k): _entry(v) for k, v in example.items()}
    if isinstance(example, Sequence) and not isinstance(example, str) and example:
        made = tuple(_entry(v) for v in example)
        if any(isinstance(leaf, Tensor) for leaf in tree_flatten(made)[0]):
            return made
    raise CaptureError(
        f"expected example_input as a shape tuple, a tensor, or a tuple or dict of them, got {example!r}.\n"
        "  Pass for instance example_input=(1, 3, 224, 224)."
    )


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and bool(value)
        and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    )


def _stand_in(shape: Sequence[int]) -> Tensor:
    """A meta tensor of a shape, whose sizes must not be negative."""
    if any(size < 0 for size in shape):
        raise CaptureError(
            f"expected sizes of 0 or more in example_input, got {tuple(shape)}.\n"
            "  Write the sizes of one batch, such as (1, 3, 224, 224)."
        )
    return torch.empty(tuple(shape), device=META)


def _entry(value: Any) -> Any:
    """One argument of a network, its shapes replaced."""
    if _is_shape(value):
        return _stand_in(value)
    if isinstance(value, tuple | list):
        return type(value)(_entry(v) for v in value) if type(value) in {tuple, list} else value
    return {k: _entry(v) for k, v in value.items()} if type(value) is dict else value


def with_batch(example: Any) -> Any:
    """Add one sample to an example input.

    Args:
        example: Arguments of a network, as `as_example` gives them.

    Returns:
        The example with one more sample in every tensor whose first axis is as long as that of the first tensor; None
        where the first tensor has no axes, or there is none.
    """
    leaves, spec = tree_flatten(example)
    tensors = [t for t in leaves if isinstance(t, Tensor)]
    if not tensors or not tensors[0].dim():
        return None
    batch = tensors[0].shape[0]
    if any(t.is_nested or t.layout is not torch.strided for t in tensors):
        return None

    def longer(t: Any) -> Any:
        if (
            isinstance(t, Tensor)
            and type(t) is Tensor
            and t.layout is torch.strided
            and t.dim()
            and t.shape[0] == batch
        ):
            if t.device.type != "meta":
                return torch.cat([t, t[:1]])
            return torch.empty((batch + 1, *t.shape[1:]), dtype=t.dtype, device=META)
        return t

    return tree_unflatten([longer(t) for t in leaves], spec)


@dataclass(frozen=True)
class Inputs:
    """Arguments of a network, and batches of any size that are like them.

    Example:
        >>> inputs = Inputs.of({"ids": torch.tensor([[3, 1, 2]]), "image": (1, 3, 8, 8)})
        >>> inputs.batch, [tuple(t.shape) for t in inputs.tensors(inputs.drawn(5))]
        (1, [(5, 3), (5, 3, 8, 8)])
    """

    arguments: Any
    """Tuple of positional arguments, or dict of named ones; shapes are meta tensors."""
    axes: tuple[int | None, ...]
    """For every tensor, in the order of the arguments, the axis that is the batch; None for those without."""
    limits: tuple[int | None, ...] = ()
    """For every tensor, the number of rows of the embedding that it indexes; None for others."""
    lengths: tuple[int | None, ...] = ()
    """For every tensor, the axis that is the sequence of tokens; None for those without. Empty where the length of
    sequences is that of the example."""
    longest: int | None = None
    """Number of tokens that a sequence may have; None for any number."""

    @classmethod
    def of(cls, example: Any) -> Inputs:
        """Read an example input.

        Args:
            example: An example input in the grammar of this file, or inputs that were read already.

        Returns:
            The inputs. The first axis of the first tensor is the batch, and so is that of every tensor whose first
            axis is as long.

        Raises:
            CaptureError: it is no example input.
        """
        if isinstance(example, Inputs):
            return example
        arguments = as_example(example)
        tensors = cls.tensors(arguments)
        batch = tensors[0].shape[0] if tensors[0].dim() else None
        return cls(arguments, tuple(0 if t.dim() and t.shape[0] == batch else None for t in tensors))

    @staticmethod
    def tensors(arguments: Any) -> list[Tensor]:
        """List the tensors among arguments.

        Args:
            arguments: Arguments of a network, nested ones among them.

        Returns:
            Their tensors, in order.
        """
        return [t for t in tree_flatten(arguments)[0] if isinstance(t, Tensor)]

    @property
    def batch(self) -> int | None:
        """Number of examples in the arguments; None where the first tensor has no axes."""
        first = self.tensors(self.arguments)[0]
        return first.shape[0] if first.dim() else None

    @property
    def has_indices(self) -> bool:
        """Whether there are integers, which may be rows of an embedding."""
        return any(_is_index(t) for t in self.tensors(self.arguments))

    def assignments(self) -> Iterator[Inputs]:
        """Say in which ways the tensors may share the batch, the likeliest first.

        Yields:
            These inputs; then, where there are several tensors, the same with the first of them alone having the batch,
            since others may only happen to be as long; and with the batch as the second axis of the others, as states
            of recurrent layers have it.
        """
        first, *others = self.tensors(self.arguments)
        second = tuple(1 if t.dim() > 1 and t.shape[1] == self.batch else None for t in others)
        ways = [self.axes, (0, *[None] * len(others)), (0, *second)]
        yield from (replace(self, axes=axes) for axes in dict.fromkeys(ways) if first.dim())

    def indexing(self, module: nn.Module) -> Inputs:
        """Find out which integers are rows of an embedding, so that all its rows are drawn from.

        Args:
            module: Network in eval mode; it is run once on the arguments.

        Returns:
            The inputs with the number of rows for every tensor that indexes an embedding directly.
        """
        if not self.has_indices:
            return self
        arguments = self.repeated()
        watch = _Embeddings(self.tensors(arguments))
        with torch.no_grad(), watch:
            call(module, arguments)
        return replace(self, limits=tuple(watch.rows))

    @property
    def length(self) -> int | None:
        """Number of tokens in the sequences of the arguments; None where there are none, or not all are as long."""
        tensors = self.tensors(self.arguments)
        limits = self.limits or [None] * len(tensors)
        is_alone = len(tensors) == 1  # whole numbers by themselves are tokens, however they are looked up
        pairs = zip(tensors, limits, strict=True)
        found = {t.shape[1] for t, limit in pairs if t.dim() == 2 and _is_index(t) and (is_alone or limit is not None)}
        return found.pop() if len(found) == 1 else None

    def sequences(self) -> Inputs:
        """Find the axes of tokens, so that sequences of other lengths can be drawn.

        Returns:
            The inputs with `lengths`, where all tensors are tokens and what belongs to them: whole numbers or truth
            values of shape (n, length), of which one indexes an embedding, as `indexing` tells, or is the only tensor.
        """
        length, tensors = self.length, self.tensors(self.arguments)
        is_text = all(t.shape[1:] == (length,) and (_is_index(t) or t.dtype == torch.bool) for t in tensors)
        return replace(self, lengths=(1,) * len(tensors)) if is_text and length is not None else self

    def repeated(self, batch: int | None = None, seed: int = 0) -> Any:
        """Make a batch of the example's own values.

        Args:
            batch: Number of examples; None for as many as there are.
            seed: Number that decides the values where only a shape was given.

        Returns:
            Arguments in which the examples are repeated until there are so many. Where only a shape was given, values
            are Gaussian noise.
        """
        generator = torch.Generator().manual_seed(seed)
        return self._made(batch, lambda t, shape, axis, _: _again(t, shape, axis, generator))

    def drawn(
        self,
        batch: int | None = None,
        generator: torch.Generator | None = None,
        noise: bool = False,
        length: int | None = None,
    ) -> Any:
        """Draw a batch.

        Args:
            batch: Number of examples; None for as many as there are.
            generator: Source of the numbers; None for torch's own.
            noise: Whether floating-point values are Gaussian noise even where the example has values.
            length: Number of tokens along the axes of `lengths`; None for as many as there are.

        Returns:
            Arguments of the example's types on the CPU. Floating-point values are Gaussian noise where a shape was
            given or all values are equal, and drawn from the example's values else. Integers that index an embedding
            (see `indexing`) are drawn among its rows; other integers and booleans from the example's values, booleans
            that are all alike at random.
        """
        return self._made(batch, lambda t, shape, _, limit: _draw(t, shape, limit, generator, noise), length)

    def _made(self, batch: int | None, make: Any, length: int | None = None) -> Any:
        """Arguments whose tensors are made from the example's, their axes of batch and of tokens being so long."""
        leaves, spec = tree_flatten(self.arguments)
        count, made = 0, []
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                shape, axis = list(leaf.shape), self.axes[count]
                if axis is not None and batch is not None:
                    shape[axis] = batch
                along = self.lengths[count] if self.lengths else None
                if along is not None and length is not None:
                    shape[along] = length
                try:
                    made.append(make(leaf, tuple(shape), axis or 0, self.limits[count] if self.limits else None))
                except (RuntimeError, TypeError, NotImplementedError) as err:
                    raise CaptureError(
                        f"expected inputs that can be made here, got {leaf.dtype} of shape {tuple(shape)}: "
                        f"{str(err).splitlines()[0][:200]}.\n  Give a smaller example input of dense tensors."
                    ) from err
                count += 1
            else:
                made.append(leaf)
        return tree_unflatten(made, spec)

    def names(self, module: nn.Module) -> list[str]:
        """Name the tensors among the arguments.

        Args:
            module: Network whose forward method names positional arguments.

        Returns:
            One name for each tensor, without repeats: 'input' for one tensor passed by position; else the name of the
            argument, followed by the way to the tensor inside it.
        """
        by_name = isinstance(self.arguments, dict)
        tensors = [(p, t) for p, t in tree_flatten_with_path(self.arguments)[0] if isinstance(t, Tensor)]
        if len(tensors) == 1 and not by_name and len(tensors[0][0]) == 1:
            return [SINGLE]
        own = [] if by_name else parameters_of(module)
        found = []
        for path, _ in tensors:
            place = getattr(path[0], "idx", None)
            head = own[place] if place is not None and place < len(own) else None
            found.append(way(path[1:] if head is not None else path, head or SINGLE if not by_name else ""))
        return distinct(found)


def way(path: Any, head: str = "") -> str:
    """Name a value inside nested tuples and dicts.

    Args:
        path: Keys that lead to the value, as torch's pytree gives them.
        head: Name before the keys; '' for none.

    Returns:
        The keys joined by underscores.
    """
    words = [head, *(keystr((key,)).strip("[]'\".") for key in path)]
    return "_".join(w for w in words if w)


def distinct(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Tell equal names apart.

    Args:
        names: Names, in order.
        taken: Names that none of them may have.

    Returns:
        The names; where one is taken or has come before, a number is added to it.
    """
    found: list[str] = []
    for name in names:
        given, number = name, 1
        while given in found or given in taken:
            number += 1
            given = f"{name}_{number}"
        found.append(given)
    return found


def call(module: Any, arguments: Any) -> Any:
    """Call a network.

    Args:
        module: Network, or another function.
        arguments: Tuple of positional arguments, or dict of named ones.

    Returns:
        What it answers.
    """
    return module(**arguments) if isinstance(arguments, dict) else module(*arguments)


def parameters_of(module: nn.Module) -> list[str]:
    """List what a network takes by position.

    Args:
        module: Network, whose forward method is looked at.

    Returns:
        Names of the positional parameters of its forward method, those behind a star left out.
    """
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return []
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return [p.name for p in signature.parameters.values() if p.kind in kinds]


def _again(t: Tensor, shape: tuple[int, ...], axis: int, generator: torch.Generator) -> Tensor:
    """The values of a tensor, repeated along an axis until the shape is reached."""
    if t.device.type == "meta":
        return _noise(t, shape, generator)
    own = t.detach().cpu()
    if tuple(own.shape) == shape:
        return own.clone()
    if not own.shape[axis]:
        return torch.zeros(shape, dtype=t.dtype)
    return own.index_select(axis, torch.arange(shape[axis]) % own.shape[axis])


def _draw(
    t: Tensor, shape: tuple[int, ...], limit: int | None, generator: torch.Generator | None, noise: bool
) -> Tensor:
    """A tensor of the type of another, with values that are like its values."""
    if limit is not None:
        return torch.randint(limit, shape, generator=generator).to(t.dtype)
    is_number = t.is_floating_point() or t.is_complex()
    if t.device.type == "meta" or not t.numel() or (noise and is_number):
        return _noise(t, shape, generator)
    own = t.detach().cpu().flatten()
    if t.dtype == torch.bool and bool((own == own[0]).all()):  # a mask that hides nothing, or all, tells little
        return torch.rand(shape, generator=generator) < 0.5
    if is_number and bool((own == own[0]).all()):
        return own[0] + _noise(t, shape, generator)
    return own[torch.randint(len(own), (math.prod(shape),), generator=generator)].reshape(shape)


def _noise(t: Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Gaussian noise of a tensor's type; zeros for integers and booleans, of which no range is known."""
    if t.is_complex():
        return torch.randn(shape, generator=generator, dtype=t.dtype)
    if t.is_floating_point():
        dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
        return torch.randn(shape, generator=generator, dtype=dtype).to(t.dtype)
    return torch.zeros(shape, dtype=t.dtype)


def _is_index(t: Tensor) -> bool:
    """Whether the elements of a tensor can be rows of an embedding."""
    return t.dtype in {torch.int32, torch.int64}


class _Embeddings(TorchDispatchMode):
    """Sees which tensors index embeddings, and how many rows these have."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        """Watch some tensors, and views of them."""
        super().__init__()
        self.rows: list[int | None] = [None] * len(tensors)
        self._places = {t.untyped_storage().data_ptr(): i for i, t in enumerate(tensors) if _is_index(t) and t.numel()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and note the rows of a table that one of the tensors indexes."""
        if func.overloadpacket in {torch.ops.aten.embedding, torch.ops.aten._embedding_bag}:
            place = self._places.get(args[1].untyped_storage().data_ptr())
            if place is not None:
                self.rows[place] = min(args[0].shape[0], self.rows[place] or args[0].shape[0])
        return func(*args, **(kwargs or {}))
