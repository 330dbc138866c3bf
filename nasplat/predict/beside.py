"""What other predictors say of the same networks enters a prediction: latency on this device, ImageNet top-1.

`nasplat.load_predictor` puts these into `AbstractPredictor.beside`; no family knows of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nasplat.features.view import View
from nasplat.predict.contract import AbstractPredictor
from nasplat.predict.prediction import Prediction
from nasplat.predict.zoo import ModelZoo


@dataclass(frozen=True)
class DeviceLatency:
    """Fills `Prediction.latency_ms` and its interval."""

    predictor: AbstractPredictor
    """Fitted predictor of milliseconds on this device."""

    def __call__(self, views: Sequence[View], found: Sequence[Prediction]) -> list[Prediction]:
        """Add the latency of each network.

        Args:
            views: Networks that were predicted.
            found: Their predictions, in the same order.

        Returns:
            The same predictions with a latency; with None outside the support of the latency predictor.
        """
        timed = self.predictor.predict(views)
        return [
            replace(p, latency_ms=ms.mean, latency_low_ms=ms.low, latency_high_ms=ms.high)
            for p, ms in zip(found, timed, strict=True)
        ]


@dataclass(frozen=True)
class ImageNetTop1:
    """Fills `Prediction.top1` and its interval."""

    predictor: ModelZoo
    """Fitted predictor of ImageNet top-1 in percent."""

    def __call__(self, views: Sequence[View], found: Sequence[Prediction]) -> list[Prediction]:
        """Add the top-1 of each network.

        Args:
            views: Networks that were predicted.
            found: Their predictions, in the same order.

        Returns:
            The same predictions with a top-1; with None for networks that are no ImageNet classifiers.
        """
        rated = self.predictor.predict(views)
        return [
            replace(p, top1=top.mean, top1_low=top.low, top1_high=top.high) for p, top in zip(found, rated, strict=True)
        ]

    def under(self, recipe: str) -> ImageNetTop1:
        """Assume another training recipe.

        Args:
            recipe: Tag of a recipe, see `ModelZoo.under`.

        Returns:
            A copy that answers for networks that are trained so.
        """
        return ImageNetTop1(self.predictor.under(recipe))
