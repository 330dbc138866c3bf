"""nasplat: know how good and how fast a network will be before you train it; then find a better one.

Floors, each importing only those below it:
0 errors, content, graph, table, metrics   1 capturing, editing   2 searchspace, predict, devices   3 inputs, task   4 measuring
5 supernet, searching, storage   6 study, stages, forecast, exporting, handover, pilots, calibrating, improving   7 testing, runs, reporting, labelling   8 demo   9 cli

Public names load on first use, so `import nasplat` imports no torch.
"""

from __future__ import annotations

from typing import Any

import lazy_loader

__version__ = "0.1.0"

_load, _names, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name from the module that `__init__.pyi` says defines it."""
    if name not in __all__:
        raise AttributeError(f"module 'nasplat' has no attribute {name!r}; it has: {', '.join(sorted(__all__))}")
    return _load(name)


def __dir__() -> list[str]:
    """Names that are importable from nasplat."""
    return sorted(__all__)
