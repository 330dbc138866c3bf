"""What a network answers is compared with targets: losses and metrics, and errors that say what does not fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Number
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat.errors import NasplatError, TaskError
from nasplat.task.bundle import Bundle, feed
from nasplat.task.targets import IGNORED

Loss = Callable[[Any, Tensor], Tensor]
"""Maps a network's output and the targets of a batch to a scalar that training makes small."""
FAILURES = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError)
"""What networks, losses and metrics raise where data do not fit them."""


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Measure how often the largest of a network's class scores names the right class.

    Args:
        output: Class scores of shape (n, classes, …); further axes are places, such as pixels.
        target: Class numbers of shape (n, …), -100 at places that do not count; or probabilities of classes of shape
            (n, classes), of which the largest is right.

    Returns:
        Accuracy of each example in percent, shape (n,): 0 or 100, or the share of its places that count.

    Raises:
        TaskError: the shapes do not belong together.

    Example:
        >>> accuracy(torch.eye(3), torch.tensor([0, 1, 0])).tolist()
        [100.0, 100.0, 0.0]
    """
    if target.is_floating_point() and target.dim() == 2:
        target = target.argmax(1)
    if output.dim() != target.dim() + 1 or output.shape[:1] + output.shape[2:] != target.shape or output.shape[1] < 2:
        raise TaskError(
            f"accuracy expected scores (n, classes, …) of two classes or more and class numbers (n, …), got shapes "
            f"{tuple(output.shape)} and {tuple(target.shape)}.\n  Mend the network's last layer, or pass a metric."
        )
    is_right = output.argmax(1) == target
    if target.dim() == 1:
        return is_right * 100.0
    count = (target != IGNORED).float().flatten(1).sum(1)
    return is_right.float().flatten(1).sum(1) / count * 100.0


def distance(output: Tensor, target: Tensor) -> Tensor:
    """Measure how far each output lies from its target.

    Args:
        output: Predicted values of shape (n, …).
        target: True values of the same shape; (n,) and (n, 1) are alike.

    Returns:
        Euclidean distance of each example in the targets' unit, shape (n,).

    Raises:
        TaskError: the shapes differ.

    Example:
        >>> distance(torch.tensor([[1.0], [5.0]]), torch.tensor([2.0, 2.0])).tolist()
        [1.0, 3.0]
    """
    if len(output) != len(target) or output[0].numel() != target[0].numel():
        raise TaskError(
            f"distance expected outputs and targets of one shape, got {tuple(output.shape)} and "
            f"{tuple(target.shape)}.\n  Mend the network's last layer, or the targets."
        )
    return (output.reshape(target.shape) - target).reshape(len(target), -1).norm(dim=1)


def token_loss(output: Tensor, target: Tensor) -> Tensor:
    """Compute the mean cross-entropy of scores whose last axis is that of the classes, as language models answer.

    Args:
        output: Scores, or log-probabilities, of shape (n, …, classes).
        target: Class numbers of shape (n, …), -100 at places that do not count.

    Returns:
        Mean over all places that count, in nats.

    Raises:
        TaskError: the shapes do not belong together.

    Example:
        >>> round(float(token_loss(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64))), 4)  # log 4
        1.3863
    """
    _check_last(output, target)
    return F.cross_entropy(output.flatten(0, -2), target.flatten())


def token_nats(output: Tensor, target: Tensor) -> Tensor:
    """Measure the mean cross-entropy of each example; the exponential of its mean is the perplexity.

    Args:
        output: Scores, or log-probabilities, of shape (n, …, classes).
        target: Class numbers of shape (n, …), -100 at places that do not count.

    Returns:
        Nats per place that counts, shape (n,); less is better.

    Raises:
        TaskError: the shapes do not belong together.
    """
    _check_last(output, target)
    each = F.cross_entropy(output.flatten(0, -2).float(), target.flatten(), reduction="none").reshape(len(target), -1)
    return each.sum(1) / (target != IGNORED).flatten(1).sum(1).clamp_min(1)


def _check_last(output: Tensor, target: Tensor) -> None:
    """Refuse scores whose classes are not on the last axis."""
    if output.shape[:-1] != target.shape or target.is_floating_point():
        raise TaskError(
            f"expected scores (n, …, classes) and class numbers (n, …), got shapes {tuple(output.shape)} and "
            f"{tuple(target.shape)}.\n  Let the network answer the classes on its last axis, as output.transpose(1, 2)."
        )


def answer(module: nn.Module, x: Tensor | Bundle, task: str) -> Any:
    """Run a network.

    Args:
        module: Network, in the mode that is wanted.
        x: Inputs of shape (n, …).
        task: Name of their task, for messages.

    Returns:
        What the network answers.

    Raises:
        TaskError: the network cannot take these inputs.
    """
    try:
        return feed(module, x)
    except FAILURES as err:
        raise _unfit(err, f"a network could not run on inputs {_about(x)} of task {task!r}", _inputs_advice(x)) from err


def objective(loss: Loss, output: Any, y: Tensor, task: str) -> Tensor:
    """Compute a loss.

    Args:
        loss: Function of an answer and of targets.
        output: What a network answers to a batch.
        y: Targets of the batch.
        task: Name of their task, for messages.

    Returns:
        The loss, a scalar.

    Raises:
        TaskError: the loss cannot compare the answer with the targets, is no scalar, or has no gradient.
    """
    name = f"loss {getattr(loss, '__name__', type(loss).__name__)!r} of task {task!r}"
    try:
        if (
            isinstance(output, Tensor)
            and output.shape != y.shape
            and (y.is_floating_point() or output.numel() == y.numel())
        ):
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "Using a target size", UserWarning)  # (n, 1) with (n,) gives (n, n)
                found = loss(output, y)
        else:
            found = loss(output, y)
    except (*FAILURES, UserWarning) as err:
        what = f"{name} could not compare answers {_about(output)} with targets {_about(y)}"
        raise _unfit(err, what, "Mend the network's last layer, or the targets.") from err
    if not isinstance(found, Tensor) or found.numel() != 1:
        raise TaskError(f"{name} expected to give a scalar tensor, got {_about(found)}.\n  Return the batch's mean.")
    if torch.is_grad_enabled() and isinstance(output, Tensor) and output.requires_grad and not found.requires_grad:
        raise TaskError(
            f"{name} has no gradient.\n  Compute it from the network's answer, without argmax, .detach() or .item()."
        )
    return found


def values(metric: Callable[[Any, Tensor], Any], output: Any, y: Tensor, name: str) -> Tensor:
    """Compute a metric.

    Args:
        metric: Function of an answer and of targets.
        output: What a network answers to a batch.
        y: Targets of the batch.
        name: Name of the metric and of its task, for messages.

    Returns:
        Value of each example, shape (n,); of a metric that gives one number for the batch, this number.

    Raises:
        TaskError: the metric cannot compare the answer with the targets, or gives neither.
    """
    try:
        found = metric(output, y)
    except FAILURES as err:
        what = f"metric {name} could not compare answers {_about(output)} with targets {_about(y)}"
        raise _unfit(err, what, "Mend the network's last layer, or the metric.") from err
    try:
        each = found if isinstance(found, Tensor) else torch.as_tensor(found, device=y.device)
    except FAILURES:
        each = None
    if each is None or each.is_complex() or each.numel() not in {1, len(y)}:
        raise TaskError(
            f"metric {name} expected one number for each of {len(y)} examples, or one of all, got {_about(found)}.\n"
            "  Average over further axes: values.flatten(1).mean(1)."
        )
    return each.reshape(len(y) if each.numel() == len(y) else ())


def _unfit(err: Exception, what: str, advice: str) -> Exception:
    """The typed form of what torch or a function of the caller's raised; an error that has a type stays."""
    if isinstance(err, NasplatError | torch.OutOfMemoryError):
        return err
    reason = " ".join(str(err).split())[:200]
    return TaskError(f"{what}: {type(err).__name__}{f': {reason}' if reason else ''}.\n  {advice}")


def _about(value: Any) -> str:
    """What a value is, in a few words."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Bundle):
        return " and ".join(map(_about, value.parts))
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return f"{type(value).__name__} {value!r:.40}" if isinstance(value, Number) else type(value).__name__


def _inputs_advice(x: Tensor | Bundle) -> str:
    if isinstance(x, Bundle):
        return "Check the shapes of the inputs, which the network takes by position, and their whole numbers."
    if x.is_floating_point():
        return "Check the shape of the inputs; tokens are whole numbers (int64)."
    largest = int(x.max()) if x.numel() else 0
    return (
        f"Tokens of this batch go up to {largest}: an embedding needs {largest + 1} entries or more. Quantities are "
        "given as floats."
    )
