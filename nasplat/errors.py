"""Every error nasplat raises on purpose; all derive from `NasplatError`.

A message says what was expected, what came, and what to do. The second base (ValueError, LookupError …) lets callers
catch them without knowing nasplat.
"""

from __future__ import annotations


class NasplatError(Exception):
    """Base of every error raised on purpose."""


class InputError(NasplatError, ValueError):
    """What the caller passed names no network, table or option."""


class ContentError(NasplatError, LookupError):
    """A space, predictor or table was not found, or its file is broken."""


class SpaceError(NasplatError, ValueError):
    """A search space breaks its rules, or an architecture does not belong to it."""


class CaptureError(NasplatError, RuntimeError):
    """A network could not be run on meta tensors."""


class GraphError(NasplatError, ValueError):
    """A graph's columns contradict each other, or its file is broken."""


class TableError(NasplatError, ValueError):
    """A table lacks a column, a row or agreement with another table."""


class ShapeError(NasplatError, ValueError):
    """Arrays of unequal or too small shape."""


class PredictorError(NasplatError, ValueError):
    """A predictor is unfitted, or its folder is incomplete or altered."""


class TaskError(NasplatError, ValueError):
    """Data, loss or metric do not fit together."""


class SupernetError(NasplatError, ValueError):
    """A space cannot share weights as asked, or a checkpoint does not belong to the supernet."""


class SupernetWarning(UserWarning):
    """A supernet's training looks wrong, and goes on."""


class SearchError(NasplatError, ValueError):
    """Objectives, limits and storage of a search contradict each other, or a limit cannot be met."""


class EditError(NasplatError, ValueError):
    """An edit makes no network that can be built."""


class ExportError(NasplatError, RuntimeError):
    """The exported file does not compute what the module computes; nothing was written."""


class MissingExtraError(NasplatError, ImportError):
    """An optional dependency is needed for the named feature."""
