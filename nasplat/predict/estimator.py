"""The manners of scikit-learn's estimators; scikit-learn itself, a third of a second, loads only where it asks.

Its `clone`, pipelines and searches take whatever has these methods; what they ask beyond the settings is answered by
`sklearn.base.BaseEstimator` itself.
"""

from __future__ import annotations

import inspect
from typing import Any, Self

from nasplat.errors import PredictorError


class Estimator:
    """Something whose settings are its constructor's arguments, kept under their names."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings.

        Args:
            deep: Whether settings of nested estimators are listed too, as 'name__setting'.

        Returns:
            Settings by name.
        """
        found = {name: getattr(self, name) for name in sorted(inspect.signature(type(self)).parameters)}
        for name, value in list(found.items()) if deep else ():
            if hasattr(value, "get_params") and not isinstance(value, type):
                found |= {f"{name}__{inner}": v for inner, v in value.get_params().items()}
        return found

    def set_params(self, **params: Any) -> Self:
        """Change settings.

        Args:
            params: New settings by name; 'name__setting' changes that of a nested estimator.

        Returns:
            The estimator itself.

        Raises:
            PredictorError: there is no such setting.
        """
        known = self.get_params(deep=False)
        for name, value in params.items():
            own, nested, inner = name.partition("__")
            if own not in known:
                raise PredictorError(
                    f"{type(self).__name__} expected a setting among {', '.join(known)}, got {own!r}.\n"
                    "  Use one of these."
                )
            if nested:
                known[own].set_params(**{inner: value})
            else:
                setattr(self, own, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """Say what scikit-learn asks of an estimator: this one predicts and demands nothing."""
        from sklearn.base import BaseEstimator

        return BaseEstimator.__sklearn_tags__(self)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        """Name the family and the settings that differ from their defaults."""
        defaults = inspect.signature(type(self)).parameters
        found = self.get_params(deep=False)
        told = [f"{k}={found[k]!r}" for k, p in defaults.items() if repr(found[k]) != repr(p.default)]
        return f"{type(self).__name__}({', '.join(told)})"
