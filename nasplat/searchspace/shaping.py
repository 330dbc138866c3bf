"""The task shapes the space: a space's presets of image side, channels, classes and the like take the task's numbers.

A task states its numbers by words, such as 'image' and 'classes' (`Task.shapes`). A space says which preset stands for
which word, or its presets already are called so. What the caller bound himself stays.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Self, TypeVar

import torch

from nasplat.errors import SpaceError
from nasplat.frontends import capture_module
from nasplat.searchspace.encoded import AbstractEncodedSpace
from nasplat.task import Bundle, Task

S = TypeVar("S", bound="AbstractShapedSpace")
AXES: dict[str, dict[int, tuple[int, ...]]] = {
    "image": {4: (2, 3)},
    "height": {4: (2,)},
    "width": {4: (3,)},
    "channels": {4: (1,), 3: (1,)},
    "length": {3: (2,), 2: (1,)},
    "features": {2: (1,)},
    "nodes": {},
    "edges": {},
}
"""Axes of an input batch that a word decides, by the number of axes of the batch."""
GRAPH = {"nodes": (0, 1), "features": (0, 2), "edges": (1, 2)}
"""Input and axis that a word decides where the inputs are graphs: node features (B, N, F) and edges (B, 2, E)."""
WORDS = (*AXES, "classes", "vocabulary")
"""Words by which a task states its numbers: side of square images, height, width and channels of an input, length of a
sequence, features of a vector or of a node, nodes and edges of a graph; number of values that a network answers; number
of tokens."""
PROBE = 8191
"""Size that no space has by default, which shows where `example_input` follows a preset."""


class AbstractShapedSpace(AbstractEncodedSpace):
    """The part of a space that fits it to a task.

    Example:
        >>> import nasplat
        >>> task = nasplat.load_task("digits-clutter", train=64, decide=32, test=32)
        >>> nasplat.load_space("vit", size="mini", patch=4).for_task(task)
        Space(vit, size='mini', patch=4, image=16, channels=1, classes=10)
    """

    function: Callable[..., Any]
    """The build function, whose parameters behind `pick` are the presets."""
    default_input: Any
    """Shape of one input batch, or a function of the presets that gives it; None where `build` returns it."""
    shaped: Mapping[str, str] | None
    """Presets by the word of the task that decides them; None for those that are called as the words are."""
    from_task: str
    """Sentence that says which presets a task decided; empty where none did."""

    @abstractmethod
    def with_presets(self, **presets: Any) -> Self:
        """Return the same space with other presets.

        Args:
            **presets: Keyword arguments of the build function.

        Returns:
            The space at another size.
        """

    @abstractmethod
    def extreme(self, largest: bool = True) -> Any:
        """Return the largest or the smallest member.

        Args:
            largest: Which of the two is meant.

        Returns:
            The member.
        """

    @property
    def task_presets(self) -> dict[str, str]:
        """Presets that a task decides, by the word that the task uses: {'image': 'resolutions', …}.

        Raises:
            SpaceError: the space declares an unknown word, or a preset that its build function does not take.
        """
        return shaped_presets(self)

    def for_task(self, task: Task) -> Self:
        """Return the space whose inputs and outputs are those of a task.

        Args:
            task: Task whose input shape and number of classes the presets take; presets that are bound stay.

        Returns:
            The space; its `from_task` says in a sentence which presets the task decided. The very same space where
            there was nothing to decide.

        Raises:
            SpaceError: no network of the space runs on the task's inputs, or the space declares presets wrongly.

        Example:
            >>> import nasplat
            >>> task = nasplat.load_task("digits-clutter", train=64, decide=32, test=32)
            >>> nasplat.load_space("ofa_mobilenetv3").for_task(task).from_task
            'resolutions=(16,), channels=1, classes=10 from the task'
        """
        return shaped_by(self, task)


def shaped_by(space: S, task: Task) -> S:
    """Set the presets of a space that a task decides and the caller did not.

    A preset that has the task's number by default is named in the sentence and stays unbound, so that the space, its
    samples and its studies are those of before.

    Args:
        space: Space whose presets may be bound in part.
        task: Task that states its numbers in `shapes`.

    Returns:
        The space, whose `from_task` is the sentence that says what was decided.

    Raises:
        SpaceError: no network of the space runs on the task's inputs, or the space declares presets wrongly.

    Example:
        >>> import nasplat
        >>> task = nasplat.load_task("digits-clutter", train=64, decide=32, test=32)
        >>> cells = shaped_by(nasplat.load_space("nasbench201"), task)
        >>> cells
        Space(nasbench201, image=16, channels=1)
        >>> cells.from_task
        'image=16, channels=1, classes=10 from the task'
    """
    decided = {k: v for k, v in fitting(space, task.shapes).items() if k not in space.presets}
    defaults = presets_of(space)
    changed = {k: v for k, v in decided.items() if v != _alike(defaults[k])}
    made = space.with_presets(**changed) if changed else space
    if changed or _stated(made) not in (None, task.input_shape):
        _check_runs(made, task)
    if not decided or made.from_task:  # nothing is left to decide, or an earlier call has told it
        return made
    return replace(made, from_task=f"{_listed(decided)} from the task")  # type: ignore[type-var]


def presets_of(space: AbstractShapedSpace) -> dict[str, Any]:
    """List what the build function may be called with.

    Args:
        space: Space that is asked.

    Returns:
        Value of each preset by its name: the one that is bound, else the default.
    """
    parameters = list(inspect.signature(space.function).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD} | space.presets


def shaped_presets(space: AbstractShapedSpace) -> dict[str, str]:
    """Find the presets that a task decides.

    Args:
        space: Space that declares them; or where it does not, whose presets are called as the words are. Of those, the
            ones that shape inputs count where `example_input` follows them, so that hidden `channels` stay what they
            are.

    Returns:
        Preset by the word that a task uses for it.

    Raises:
        SpaceError: the space declares an unknown word, or a preset that its build function does not take.

    Example:
        >>> import nasplat
        >>> shaped_presets(nasplat.load_space("easnet-small"))
        {'height': 'height', 'width': 'width'}
    """
    taken = presets_of(space)
    if space.shaped is None:
        return {w: w for w in WORDS if w in taken and (w not in AXES or _follows(space, w))}
    for word, preset in space.shaped.items():
        if word not in WORDS:
            raise SpaceError(
                f"space {space.name!r} declares what {word!r} of a task decides; a task states {', '.join(WORDS)}.\n"
                "  Use one of these in shaped={…}."
            )
        if preset not in taken:
            raise SpaceError(
                f"space {space.name!r} declares that {word!r} of a task decides {preset!r}, which is none of its "
                f"presets {', '.join(taken) or '(none)'}.\n  Use one of these in shaped={{…}}."
            )
    return dict(space.shaped)


def fitting(space: AbstractShapedSpace, shapes: Mapping[str, int]) -> dict[str, Any]:
    """Find the presets that fit a task, whether or not they are bound already.

    Args:
        space: Space whose presets are asked for.
        shapes: Numbers of a task by their words, as `Task.shapes` states them.

    Returns:
        Value of each preset that the task decides; a preset whose default is a sequence of options gets one option.
    """
    taken, found = presets_of(space), dict[str, Any]()
    for word, preset in shaped_presets(space).items():
        if word in shapes:
            found[preset] = (shapes[word],) if isinstance(taken[preset], tuple | list) else shapes[word]
    return found


def advice(space: AbstractShapedSpace, task: Task) -> str:
    """Say how to load a space for the inputs of a task, naming presets that it has and values that fit.

    Args:
        space: Space whose networks take other inputs.
        task: Task that states the inputs.

    Returns:
        One sentence.
    """
    found = fitting(space, {k: v for k, v in task.shapes.items() if k in AXES})
    if not found:
        return "The space has no preset for the shape of its inputs: choose a task that has this shape."
    return f"Load the space with presets that fit, such as {_listed(found)}; space.for_task(task) takes them."


def _follows(space: AbstractShapedSpace, word: str) -> bool:
    """Whether the axes of `example_input` that belong to a word are what the preset of that name says."""
    try:
        sizes = sizes_of(space.default_input(**space.presets | {word: PROBE}), word)
    except Exception:  # whatever a function of the user's raises: it does not follow
        return False
    return bool(sizes) and all(size == PROBE for size in sizes)


def _stated(space: AbstractShapedSpace) -> tuple[Any, ...] | None:
    """Shape of one example where it is known without building a network."""
    shape: Any = space.default_input(**space.presets) if callable(space.default_input) else space.default_input
    return None if shape is None else sample_shape_of(shape)


def are_several(example: Any) -> bool:
    """Tell whether an example input is that of a network with several inputs.

    Args:
        example: Example input of a member of a space.

    Returns:
        True for a tuple of shapes and tensors; False for one shape or one tensor.
    """
    return isinstance(example, tuple | list) and not all(isinstance(size, int) for size in example)


def sizes_of(example: Any, word: str) -> list[int]:
    """Find the sizes in an example input that a word of a task decides.

    Args:
        example: Example input of a member of a space.
        word: One of `AXES`.

    Returns:
        The sizes; none where it decides nothing there.
    """
    if are_several(example):
        shapes = [shape_of(part) for part in example]
        if word not in GRAPH or len(shapes) < 2 or [len(s) for s in shapes[:2]] != [3, 3] or shapes[1][1] != 2:
            return []
        part, axis = GRAPH[word]
        return [shapes[part][axis]]
    shape = shape_of(example)
    return [shape[a] for a in AXES[word].get(len(shape), ())]


def sample_shape_of(example: Any) -> tuple[Any, ...]:
    """Tell the shape of one example, as a task states it.

    Args:
        example: Example input of a member of a space.

    Returns:
        The shape without the axis of the batch; of several inputs, a tuple with that of each.

    Example:
        >>> sample_shape_of(((1, 8, 3), (1, 2, 20)))
        ((8, 3), (2, 20))
    """
    return tuple(shape_of(part)[1:] for part in example) if are_several(example) else shape_of(example)[1:]


def shape_of(example: Any) -> tuple[int, ...]:
    """Tell the shape of an example input.

    Args:
        example: Shape itself, or a tensor, as of tokens; of several inputs, the first is meant.

    Returns:
        The shape, with the axis of the batch; empty for what has none.

    Example:
        >>> import torch
        >>> shape_of((1, 3, 8, 8)), shape_of(torch.zeros(1, 12, dtype=torch.int64))
        ((1, 3, 8, 8), (1, 12))
    """
    if are_several(example):
        return shape_of(example[0])
    shape: Any = getattr(example, "shape", example)
    return tuple(shape) if isinstance(shape, tuple | list) else ()  # None or a number has none


def example_batch(
    example: Any, n: int, generator: torch.Generator, dtype: torch.dtype | None = None
) -> torch.Tensor | Bundle:
    """Draw a batch that the networks of a space take.

    Args:
        example: Example input of a member: its shape, or a tensor, as of tokens.
        n: Number of examples.
        generator: Random generator on the CPU.
        dtype: Type of numbers with fractions; None for torch's default. Tokens keep their own.

    Returns:
        Normal numbers, or tokens that are no larger than those of the example; a bundle of several inputs.

    Example:
        >>> example_batch(torch.tensor([[3, 0]]), 4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 2])
    """
    if are_several(example):
        return Bundle(*(example_batch(part, n, generator, dtype) for part in example))  # type: ignore[arg-type]
    shape = (n, *shape_of(example)[1:])
    if isinstance(example, torch.Tensor) and not example.is_floating_point():
        return torch.randint(int(example.max()) + 1, shape, generator=generator).to(example.dtype)
    return torch.randn(shape, generator=generator, dtype=dtype)


def _check_runs(space: AbstractShapedSpace, task: Task) -> None:
    """Run the smallest network, or a random one, on an input of the task that has a shape and no values."""
    reason, x = "", task.train.x[:1]
    # tokens, and numbers of nodes, must be valid
    example: Any = x.example if isinstance(x, Bundle) else tuple(x.shape) if x.is_floating_point() else x.cpu()
    for member in (partial(space.extreme, False), *(partial(space.sample, seed) for seed in range(2))):
        try:
            module, stated = space.construct(member(), initialised=False)
            shape = shape_of(stated)
            given = sample_shape_of(stated) if isinstance(x, Bundle) or are_several(stated) else None
            if given is not None and given != task.input_shape:
                reason = f"its networks take {given}."
                continue
            if given is None and (len(shape) != x.dim() or (x.dim() > 2 and shape[1] != x.shape[1])):
                reason = f"its networks take {shape[1:]}."
                continue
            capture_module(module, example, program=False)
            return
        except Exception as err:  # whatever a build function of the user's raises
            reason = " ".join(str(err).split("\n")[0].split()) or type(err).__name__
    decisive = fitting(space, task.shapes)
    others = {k: v for k, v in presets_of(space).items() if k not in decisive}
    raise SpaceError(
        f"space {space.name!r} takes no inputs {task.input_shape} of task {task.name!r}"
        f"{f' at {_listed({k: presets_of(space)[k] for k in decisive})}' if decisive else ''}: {reason}\n"
        f"  Resize the task's inputs{f', or set another of its presets {_listed(others)}' if others else ''}."
    )


def _alike(value: Any) -> Any:
    """Write a list as the tuple that stands for the same options."""
    return tuple(value) if isinstance(value, list) else value


def _listed(presets: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in presets.items())
