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
    """A predictor that learns from a few labels of another family of networks, or of another task."""

    def finetune(
        self, items: Sequence[Any], labels: Sequence[float], seed: int = 0, loss: str = "regression"
    ) -> AbstractPredictor:
        """Make a new predictor that also knows a few labels of another family.

        Args:
            items: Networks of the target family.
            labels: One value per item; larger means better.
            seed: Number that decides everything random.
            loss: What is learnt: 'regression', 'ranking' or 'both'.

        Returns:
            The fine-tuned predictor; this one stays as it is.
        """
        ...


@runtime_checkable
class ChoosesLabels(Protocol):
    """A predictor that says which networks should be labelled first; every `AbstractPredictor` does."""

    def choose(self, items: Sequence[Any], n: int, seed: int = 0) -> list[int]:
        """Choose networks to label first.

        Args:
            items: Unlabelled networks of one family.
            n: Number of networks to choose.
            seed: Number that decides everything random.

        Returns:
            Places of n networks in items, ascending.
        """
        ...


@runtime_checkable
class ComparesWithin(Protocol):
    """A predictor of percentiles that can take given networks as its reference, such as `base`."""

    def against(self, items: Sequence[Any]) -> Self:
        """Take given networks as the reference.

        Args:
            items: Networks of one family, without labels.

        Returns:
            A copy that tells where networks stand among these.
        """
        ...


@runtime_checkable
class Calibratable(Protocol):
    """A predictor that learns the unit of a new task from some twenty labels, such as AIO-P."""

    def calibrate(self, items: Sequence[Any], labels: Sequence[float]) -> AbstractPredictor:
        """Learn the unit of a new task.

        Args:
            items: Labelled networks of the task.
            labels: One value per item, in the task's unit.

        Returns:
            A predictor of the new task; this one stays as it is.
        """
        ...


@runtime_checkable
class AssumesRecipe(Protocol):
    """A predictor whose answer depends on how a network would be trained, such as `imagenet`."""

    def under(self, recipe: str) -> AbstractPredictor:
        """Assume another training recipe.

        Args:
            recipe: Tag of the recipe, such as 'a1_in1k'.

        Returns:
            A copy that answers for networks that are trained so.
        """
        ...


@runtime_checkable
class HasEncoder(Protocol):
    """A fitted predictor with a graph encoder that another one may start from, such as GENNAPE and `base`."""

    encoder_: Encoder
    """Encoder with its learnt weights."""
    family: str
    """Name of the family."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings, as scikit-learn's estimators do.

        Args:
            deep: Whether settings of nested predictors are listed, too.

        Returns:
            Settings by name; those of the encoder are hidden, layers, embedding and trunk.
        """
        ...
