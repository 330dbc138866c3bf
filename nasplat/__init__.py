"""nasplat: know how good and how fast a network will be before you train it; then find a better one.

Floors, each importing only those below it:
0 errors, content, graph, table, metrics   1 capturing, editing   2 searchspace, predict, devices   3 inputs, task   4 measuring
5 supernet, searching, storage   6 study, stages, forecast, exporting, handover, pilots, calibrating, improving   7 testing, runs, reporting, labelling   8 demo   9 cli

Public names load on first use, so `import nasplat` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Graph": "graph",
    "NasplatError": "errors",
    "Table": "table",
    "block": "capturing",
    "Architecture": "searchspace",
    "Option": "searchspace",
    "Pick": "searchspace",
    "Space": "searchspace",
    "load_space": "searchspace",
    "list_spaces": "searchspace",
    "space": "searchspace",
    "space_of_trial": "searchspace",
    "Prediction": "predict",
    "capture": "inputs",
    "rebuild": "capturing",
    "read_published": "capturing",
    "load_predictor": "inputs",
    "load_table": "inputs",
    "score": "inputs",
    "Task": "task",
    "load_task": "task",
    "measure": "measuring",
    "proxies": "measuring",
    "calibrate": "calibrating",
    "Strategy": "supernet",
    "Supernet": "supernet",
    "TrainConfig": "supernet",
    "Counted": "searching",
    "EvolutionSampler": "searching",
    "FrontPruner": "searching",
    "Inherited": "searching",
    "LocalSearchSampler": "searching",
    "Measured": "searching",
    "Predicted": "searching",
    "PredictedLatency": "searching",
    "PredictorSampler": "searching",
    "Tabulated": "searching",
    "Trained": "searching",
    "UniqueRandomSampler": "searching",
    "draw": "reporting",
    "draw_diff": "reporting",
    "write_report": "reporting",
    "improve": "improving",
    "label": "labelling",
    "search": "study",
    "search_in_stages": "stages",
    "export": "exporting",
    "check_export": "exporting",
    "check_predictor": "testing",
    "check_space": "testing",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nasplat' has no attribute {name!r}; it has: {', '.join(sorted(_HOME))}")
    value = getattr(importlib.import_module(f"nasplat.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
