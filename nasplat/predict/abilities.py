"""What some predictors are able to do beyond the contract, as protocols: `isinstance(predictor, ComparesWithin)`.

A class has an ability by having its methods; it need not inherit from anything here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self, runtime_checkable

from nasplat.learners.encoder import Encoder
from nasplat.predict.contract import AbstractPredictor


@runtime_checkable
class Finetunable(Protocol):
    """A predictor that learns from a few labels of another family, see `nasplat.predict.finetuned`."""

    def finetune(
        self, items: Sequence[Any], labels: Sequence[float], seed: int = 0, loss: str = "regression"
    ) -> AbstractPredictor:
        """Return a new predictor that also knows these labels."""
        ...


@runtime_checkable
class ChoosesLabels(Protocol):
    """A predictor that says which networks should be labelled first; every `AbstractPredictor` does."""

    def choose(self, items: Sequence[Any], n: int, seed: int = 0) -> list[int]:
        """Return the places of n networks in items, ascending."""
        ...


@runtime_checkable
class ComparesWithin(Protocol):
    """A predictor of percentiles that can take given networks as its reference, such as `base`."""

    def against(self, items: Sequence[Any]) -> Self:
        """Return a copy that tells where networks stand among these."""
        ...


@runtime_checkable
class Calibratable(Protocol):
    """A predictor that learns the unit of a new task from some twenty labels, such as AIO-P."""

    def calibrate(self, items: Sequence[Any], labels: Sequence[float]) -> AbstractPredictor:
        """Return a predictor of the new task."""
        ...


@runtime_checkable
class AssumesRecipe(Protocol):
    """A predictor whose answer depends on how a network would be trained, such as `imagenet`."""

    def under(self, recipe: str) -> AbstractPredictor:
        """Return a copy that assumes another training recipe."""
        ...


@runtime_checkable
class HasEncoder(Protocol):
    """A fitted predictor with a graph encoder that another one may start from, such as GENNAPE and `base`."""

    encoder_: Encoder
    """Encoder with its learnt weights."""
    family: str
    """Name of the family."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings; those of the encoder are hidden, layers, embedding and trunk."""
        ...
