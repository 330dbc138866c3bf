"""nasplat: know how good and how fast a neural network will be before you train it; then find a better one.

The floors of the house. A file imports only from floors below its own and from its own room, and no two files import
each other, however deeply; `tests/test_floors.py` reads this block.

9  cli/          one file per group of verbs: parses, calls, prints
8  runs/         a run as one value, and its folder: asked, executed, forecast, repeated, shown in a report; the demo
7  workflows/    one public verb a file: score, fit, label, calibrate, quality, improve, pseudo_labels, export, deliver
6  inputs.py     what a string names; every load_*
6  testing.py    the contracts of spaces and predictors, for one's own: check_space, check_predictor
5  predict/      graphs and tables in, predictions out: the contract, one family a file, their registry
5  supernet/     one store of the largest weights of a space; its training; subnets as plain modules
5  study/        an Optuna study of a space: objectives, limits, samplers, pruner, stages, storage, workers
4  searchspace/  a function of choices as a space: sample, mutate, count, draw within limits
4  blocks/       the parts of networks that files of spaces share: nasplat.blocks
4  editing/      edits of a captured network, and the module they give
4  probes/       what a network costs on a device, in which runtime; proxies without training; files in ONNX
4  learners/     what families of predictors are made of: encoder, trees, clusters, intervals
3  frontends/    torch modules, ONNX files and published files become graphs; graphs become modules again
3  features/     graphs become numbers
2  graph/        the computation graph: columns, cost, key, storage, comparison, drawing
2  tables/       labelled rows, metrics, splits, files of resumable rows, listings
2  task/         data, loss and metric, stereo pairs among them; settings; a short training
1  content.py    the folders of spaces, predictors and tables that come with nasplat
0  errors.py     every error that nasplat raises

Apart: predict and searchspace, study and predict, study and supernet, predict and supernet.

Where a new thing goes, one file and one line each:
an ONNX operator: its line in frontends/onnx_names, or its function and a line in the table of frontends/onnx_ops
a family of predictors: its file in predict/, its line in predict/registry
a sampler: its file in study/, its line in study/__init__
a runtime to measure on: its function and its line in the table of probes/runtimes
a verb: its file in workflows/, its settings in runs/kinds where it has a run folder, its command in cli/

Public names load on first use, so that `import nasplat` imports no torch: `__init__.pyi` lists them with their homes.
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
