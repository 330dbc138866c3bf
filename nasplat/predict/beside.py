"""What other predictors say of the same networks enters a prediction: latency here and elsewhere, top-1.

`nasplat.load_predictor` puts these into `AbstractPredictor.beside`; no family knows of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nasplat.features.view import View
from nasplat.predict.contract import AbstractPredictor
from nasplat.predict.device import DevicePredictor
from nasplat.predict.latency import LatencyPredictor
from nasplat.predict.prediction import OnDevice, Prediction
from nasplat.predict.small_images import SmallImages
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
class OtherDevice:
    """Adds to `Prediction.devices` what a network takes on a device that is not at hand."""

    name: str
    """Name of the device, as it was asked for."""
    predictor: LatencyPredictor
    """Fitted predictor of milliseconds on that device."""

    def __call__(self, views: Sequence[View], found: Sequence[Prediction]) -> list[Prediction]:
        """Add the latency of each network.

        Args:
            views: Networks that were predicted.
            found: Their predictions, in the same order.

        Returns:
            The same predictions with one more device.
        """
        errors = self.predictor.error_percent if isinstance(self.predictor, DevicePredictor) else {}
        known = errors.get("networks"), errors.get("families")
        return [
            replace(p, devices=(*p.devices, OnDevice(self.name, t.mean, t.low, t.high, t.level, *known, t.reason)))
            for p, t in zip(found, self.predictor.predict(views), strict=True)
        ]


@dataclass(frozen=True)
class Top1:
    """Fills `Prediction.top1`, its interval and its data set."""

    predictors: tuple[ModelZoo | SmallImages, ...]
    """Fitted predictors of top-1 in percent on one data set each; the first whose data set has a network's sizes of
    input and output answers for it."""

    def __call__(self, views: Sequence[View], found: Sequence[Prediction]) -> list[Prediction]:
        """Add the top-1 of each network.

        Args:
            views: Networks that were predicted.
            found: Their predictions, in the same order.

        Returns:
            The same predictions with a top-1; with None, and the reason, for networks that are no classifiers of these
            data sets, or not like those that were learnt.
        """
        filled = list(found)
        asked: dict[int, list[int]] = {}
        for i, v in enumerate(views):
            fitting = (k for k, p in enumerate(self.predictors) if p.is_meant_for(v.inputs, v.outputs))
            asked.setdefault(next(fitting, len(self.predictors)), []).append(i)
        names = ", ".join(p.data for p in self.predictors)
        for k, rows in asked.items():
            if k == len(self.predictors):
                for i in rows:
                    sizes = f"{views[i].inputs:,} inputs and {views[i].outputs:,} outputs"
                    filled[i] = replace(found[i], top1_reason=f"it has {sizes}, which is no classifier of {names}")
                continue
            data = self.predictors[k].data
            for i, top in zip(rows, self.predictors[k].predict([views[i] for i in rows]), strict=True):
                ends = {"top1_low": top.low, "top1_high": top.high, "top1_reason": top.reason}
                filled[i] = replace(found[i], top1=top.mean, top1_data=data, **ends)
        return filled

    def under(self, recipe: str) -> Top1:
        """Assume another training recipe.

        Args:
            recipe: Tag of a recipe, see `ModelZoo.under`.

        Returns:
            A copy that answers for ImageNet classifiers that are trained so; small pictures know one recipe.
        """
        return Top1(tuple(p.under(recipe) if isinstance(p, ModelZoo) else p for p in self.predictors))
