"""What a string names becomes the object: a network, a predictor, a table or a task.

A network is a module, a Graph, an Architecture, or one of the strings `model.onnx`, `file.py:factory`, `timm:resnet50`,
`pytorchcv:resnet20_cifar10`, `nasbench201:|nor_conv_3x3~0|+…` (space and encoding), an Architecture's JSON line,
`graphs.json.gz` or `cache.pkl` (published computation graphs; `#name` picks one).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, overload
from urllib.parse import parse_qsl

import torch
from torch import nn

from nasplat import content
from nasplat.editing.edited import EDITS, Edited, read_edits
from nasplat.errors import ContentError, InputError, PredictorError, SpaceError, TaskError
from nasplat.frontends import OnnxFile, capture_module, read_published
from nasplat.frontends.packages import PACKAGES
from nasplat.graph import Graph
from nasplat.predict import load
from nasplat.predict.beside import DeviceLatency, Top1
from nasplat.predict.contract import AbstractPredictor
from nasplat.predict.device import DEVICES, list_devices
from nasplat.predict.finetuned import AbstractTunable
from nasplat.predict.latency import LatencyPredictor
from nasplat.predict.small_images import SmallImages
from nasplat.predict.universal import Universal
from nasplat.predict.zoo import ModelZoo
from nasplat.probes.conditions import Conditions
from nasplat.searchspace import Architecture, Space, list_spaces, load_space
from nasplat.searchspace.registry import Told, is_trusting, untrusted
from nasplat.tables.reading import read_table
from nasplat.tables.table import Table
from nasplat.task import Task
from nasplat.task.derived import QUESTIONS, derived
from nasplat.task.digits import digits
from nasplat.task.drawn import DRAWN, drawn
from nasplat.task.files import from_folder
from nasplat.task.stereo import stereo_folder, synthetic_stereo
from nasplat.task.tokens import sentences, text_file
from nasplat.task.variants import VARIANTS

DEFAULT_INPUT = (1, 3, 224, 224)
"""Shape that is tried for a module that nothing is known about: one image of ImageNet's usual size."""
RATED = ("imagenet", "cifar10", "cifar100")
"""Names of the shipped predictors of top-1 that `base` asks; the first that is meant for a network answers."""
NAMED: dict[str, Callable[..., Task]] = {
    "digits-clutter": partial(digits, "digit"),
    "digits-mask": partial(digits, "mask"),
    "digits-place": partial(digits, "place"),
    "stereo-synthetic": synthetic_stereo,
    "sentences": sentences,
    **{name: partial(drawn, name) for name in DRAWN},
}
"""What makes the tasks that have a name."""
PAIRS, TEXT = "stereo:", "text:"
"""Prefixes of a folder of stereo pairs, and of a file whose next byte is to be told."""
READERS: dict[str, Callable[..., Task]] = {PAIRS: stereo_folder, TEXT: text_file, "": from_folder}
"""What reads a path, by the prefix before it; without one it is a folder of pictures."""
GRAMMAR = (
    "space:encoding, file.py:factory, model.onnx, timm:name, pytorchcv:name, graphs.json.gz#name, or an architecture's "
    "JSON line"
)
"""Forms of a string that names a network, as error messages list them."""


def resolve(text: str) -> Architecture | nn.Module | OnnxFile | Graph:
    """Find the network that a string names.

    Args:
        text: Name in one of the forms that this module's first lines list, such as 'timm:resnet50' or 'net.py:factory'.

    Returns:
        An architecture, an ONNX file, a graph from a file, or a module; a module may tell the shape of its input by an
        attribute `example_input`.

    Raises:
        InputError: the string has none of the forms, or names no network.
        ContentError: the space or file is missing or broken.
        MissingExtraError: the string begins with 'timm:' or 'pytorchcv:', and that package is not installed.
        TrustError: data, such as a run folder, told the string, and it is a Python file that was not loaded here.
    """
    if isinstance(text, Told) and ".py:" in text and not is_trusting():
        if not content.is_loaded(Path(text.partition(".py:")[0] + ".py").resolve()):
            raise untrusted(text)
    if text.lstrip().startswith("{"):
        found = read_network(text)
        return found if isinstance(found, Architecture) else _with_input(found.build(), found.example_input)
    head, colon, rest = text.partition(":")
    if text.lower().endswith(".onnx"):
        return OnnxFile(Path(text))
    if text.partition("#")[0].endswith((".json", ".json.gz", ".pkl", ".pkl.gz")):
        return _graph_file(text)
    if head in PACKAGES and colon:
        return PACKAGES[head](rest)
    if ".py:" in text:
        file, _, rest = text.partition(".py:")
        if rest.isidentifier():
            return _factory(Path(file + ".py"), rest)
        name, _, encoding = rest.partition(":")
        reference, encoding = (f"{file}.py:{name}", encoding) if name.isidentifier() else (f"{file}.py", rest)
        return load_space(reference).parse(encoding)
    if colon and head in list_spaces():
        return load_space(head).parse(rest)
    if text.lower().endswith((".pt2", ".pt", ".pth", ".safetensors")):
        raise InputError(
            f"expected {GRAMMAR}; got {text!r}, a file of torch.\n"
            "  Such files can run code when they are read, or hold weights alone: load it yourself, and pass the "
            "module or the program of torch.export to nasplat.capture, or write a factory for file.py:factory."
        )
    if text.endswith(".py"):
        raise InputError(f"expected file.py:factory, got {text!r}.\n  Name the function that returns the module.")
    if colon and head.isidentifier():
        load_space(head)  # raises with the names there are
    raise InputError(f"expected {GRAMMAR}; got {text!r}.\n  See `nasplat sample nasbench201` for an example.")


def read_network(line: str, space: Space | None = None) -> Architecture | Edited:
    """Read one line of JSON of a network, as tables of labels hold them.

    Args:
        line: Line of an architecture, perhaps with edits.
        space: Space to read it in; None finds it by what the line states.

    Returns:
        The architecture, or the edited one.

    Raises:
        SpaceError: the line is none, or does not belong to the space.
        EditError: its edits are none.
        TrustError: the line names a Python file that was not loaded here.

    Example:
        >>> architecture = load_space("nasbench201").sample(seed=0)
        >>> read_network(architecture.to_json()) == architecture
        True
    """
    try:
        data: Any = json.loads(line)
    except (ValueError, TypeError, RecursionError):
        data = None
    if not isinstance(data, dict) or EDITS not in data:
        return Architecture.from_json(line, space)
    edits = read_edits(data.pop(EDITS))
    return Edited(Architecture.from_json(json.dumps(data), space), edits)


def _with_input(module: nn.Module, example_input: Any) -> nn.Module:
    module.example_input = example_input
    return module


def module_of(found: Any, batch: Any) -> tuple[nn.Module, Any]:
    """Build a resolved network.

    Args:
        found: Answer of `resolve`.
        batch: Example input, such as the shape of one input batch; None for the one that the network states.

    Returns:
        The module, and its example input.

    Raises:
        InputError: torch cannot run the network.
    """
    if isinstance(found, Architecture):
        return found.space.construct(found)
    if not isinstance(found, nn.Module):
        raise InputError(
            f"expected a network torch can run, got {str(found)!r}.\n  Give the module the file was exported from."
        )
    return found, getattr(found, "example_input", DEFAULT_INPUT) if batch is None else batch


def is_guessed(found: Any, example_input: Any) -> bool:
    """Tell whether `capture` has to guess the shape of a network's input: nobody states it.

    Args:
        found: Network, such as an answer of `resolve`.
        example_input: As for `capture`.

    Returns:
        True for a module without an attribute `example_input`, where none is given.
    """
    return isinstance(found, nn.Module) and example_input is None and getattr(found, "example_input", None) is None


def usable_device(text: str) -> str:
    """Check that a torch device can be used on this machine.

    Args:
        text: Device such as 'cpu' or 'cuda:0'.

    Returns:
        The same text.

    Raises:
        InputError: there is no such device.
    """
    try:
        device: Any = torch.device(text)
        if device.type == "cuda":  # asked without touching it: the processes of torchrun each take their own
            if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
                raise RuntimeError(f"there are {torch.cuda.device_count()} CUDA devices")
        elif device.type == "meta":
            raise RuntimeError("it computes nothing")
        elif device.type != "cpu":
            torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as err:
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise InputError(f"--device expected a device of this machine, got {text!r} ({reason}).\n  Use cpu.") from err
    return text


def _graph_file(text: str) -> Graph:
    """A graph that `to_json` wrote, or one of a file of published graphs."""
    file, _, wanted = text.partition("#")
    if file.endswith(".json"):
        try:
            start = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as err:
            raise InputError(f"expected a file of graphs, got {file!r} ({err}).\n  Check the path.") from err
        if start.lstrip().startswith('{"nasplat_graph"'):
            return Graph.from_json(start)
    entries = read_published(file)
    chosen = [e for number, e in enumerate(entries) if wanted in {"", e.name, str(number)}]
    if len(chosen) != 1:
        names = ", ".join(e.name for e in entries[:5])
        raise InputError(
            f"expected one of {len(entries)} graphs of {file!r} ({names} …), got {wanted!r}.\n"
            f"  Write {file}#0, or #name."
        )
    return chosen[0].as_graph()


def _factory(file: Path, name: str) -> nn.Module | Architecture:
    """The module or architecture that a name of a Python file holds or returns."""
    module = content.load_module(file.resolve())
    made = getattr(module, name, None)
    if made is None:
        names = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise ContentError(f"{file} defines no {name!r}; it defines: {', '.join(names)}.\n  Use one of these.")
    if isinstance(made, Space):
        raise InputError(
            f"{file}:{name} is a search space, not a network.\n  Append an encoding, or use `nasplat sample`."
        )
    if not isinstance(made, nn.Module):
        try:
            with content.staying(f"{file}:{name}", ContentError):
                made = made()
        except TypeError as err:
            raise InputError(
                f"{file}:{name} expected to be callable without arguments: {err}.\n  Give defaults."
            ) from err
    if not isinstance(made, nn.Module | Architecture):
        raise InputError(f"{file}:{name} expected to return an nn.Module, got {type(made).__name__}.\n  Return one.")
    return made


def capture(x: Any, example_input: Any = None, program: bool | None = None, *, seconds: float | None = None) -> Graph:
    """Record the computation graph of any network: operations, shapes, weights and costs.

    A module runs once on tensors that have shapes and no values, so that nothing is trained and no weight is read.

    Args:
        x: Module, program of `torch.export`, graph, architecture, path of an ONNX file, or a string that names a
            network, such as 'timm:resnet50'.
        example_input: Shape of a batch, a tensor, or a tuple of these; nested tuples, lists and dicts of tensors may
            stand among them, and a dict at the top is passed by name. Only modules need it; without it their attribute
            `example_input` is taken, else (1, 3, 224, 224) is tried.
        program: Whether a module's calls are kept with the graph for `rebuild`. True records them at once, so that they
            survive a way through JSON; None records them when `rebuild` asks, and the graph holds the module until
            then; False never does.
        seconds: Largest time that a module may run, on the wall clock; None takes that of the environment variable
            `NASPLAT_CAPTURE_SECONDS`, and without it there is no limit.

    Returns:
        The graph of one forward pass in eval mode.

    Raises:
        InputError: the object or string is no network.
        CaptureError: the network could not be run.

    Example:
        >>> import torch
        >>> capture(torch.nn.Linear(4, 2), (1, 4)).macs
        8
    """
    if isinstance(x, str | Path):
        x = resolve(str(x))
    if isinstance(x, OnnxFile):
        return x.graph(example_input)
    if isinstance(x, Graph):
        return x
    if _is_exported(x):
        x, example_input = x.module(), _exported_example(x) if example_input is None else example_input
    if isinstance(x, nn.Module):
        own = getattr(x, "example_input", None) if example_input is None else example_input
        return capture_module(x, DEFAULT_INPUT if own is None else own, program, seconds=seconds)
    if callable(getattr(x, "graph", None)) and not isinstance(x, type):
        return x.graph()
    raise InputError(
        f"expected a module, Graph, Architecture or string, got {type(x).__name__}{_hint(x)}.\n  Strings: {GRAMMAR}."
    )


def capture_alone(x: Any, example_input: Any = None, name: str = "the network") -> Graph:
    """Capture a network as predictors know networks: for one picture, where it reads pictures.

    Args:
        x: As for `capture`; a graph is taken as it is.
        example_input: As for `capture`.
        name: What an error calls the network.

    Returns:
        The graph of one forward pass in eval mode.

    Raises:
        InputError: it reads several pictures at once, so that the costs of all would count as those for one.
        CaptureError: the network could not be run.
    """
    graph = capture(x, example_input)
    shape, answer = (next((n.shape for n in graph.nodes if n.op == op), ()) for op in ("input", "output"))
    if not isinstance(x, Graph) and len(shape) == 4 and shape[0] > 1 and answer[:1] == shape[:1]:
        raise InputError(
            f"{name} expected an input of one picture, got {shape}: predictors have learnt what networks cost for one."
            f"\n  Give the shape {(1, *shape[1:])}."
        )
    return graph


def _is_exported(x: Any) -> bool:
    """Whether an object is a program of torch.export, which is not imported for that."""
    return type(x).__name__ == "ExportedProgram" and type(x).__module__.startswith("torch.export")


def _exported_example(x: Any) -> Any:
    """The example that a program was exported with, as positional arguments, or as named ones where it has those."""
    if not x.example_inputs:
        raise InputError(
            "expected an exported program with the example it was exported from, got one without.\n"
            "  Pass example_input."
        )
    args, named = x.example_inputs
    if args and named:
        raise InputError(
            "expected an exported program with positional or with named arguments, got one with both.\n"
            "  Pass example_input as a dict of all arguments by name."
        )
    return dict(named) if named else tuple(args)


def _hint(x: Any) -> str:
    """What to pass in place of an object that people take for a network."""
    if isinstance(x, type) and issubclass(x, nn.Module):
        return f" {x.__name__}, a class: pass an instance of it"
    if type(x).__name__ == "ModelProto":
        return ": pass the path of its file, which onnx.save writes"
    if isinstance(x, Mapping):
        return ": weights alone say nothing of what is computed, pass the module"
    if callable(x):
        return ": pass an nn.Module whose forward calls it"
    return ""


@overload
def load_predictor(reference: str, family: None = None) -> AbstractTunable: ...
@overload
def load_predictor(reference: str, family: type[AbstractPredictor]) -> AbstractPredictor: ...
def load_predictor(reference: str, family: type[AbstractPredictor] | None = None) -> AbstractPredictor:
    """Load a trained predictor; its `predict` takes everything that `capture` takes.

    Where this device was calibrated (`nasplat measure --calibrate`), predictions hold the latency of one example on
    its CPU. Those of `base` also hold the top-1 of classifiers whose input and output have the sizes of ImageNet-1k,
    CIFAR-10 or CIFAR-100.

    Args:
        reference: Name of a predictor that is shipped with nasplat, such as 'base', or the folder of one that `fit`
            saved.
        family: Class of the predictor, where it is one of your own: a folder states a family, and never a class to run.

    Returns:
        The fitted predictor, of the family that its folder states.

    Raises:
        ContentError: there is no such predictor.
        PredictorError: its folder is incomplete, altered, or of another family.

    Example:
        >>> load_predictor("trees-nb201").family
        'trees'
    """
    folder = content.locate("predictors", reference)
    predictor = load(folder) if family is None else load(folder, family)
    predictor.to_graph = capture_alone
    latency = calibrated()
    if latency is not None:
        predictor.beside += (DeviceLatency(latency),)
    if isinstance(predictor, Universal):
        predictor.beside += (load_top1(),)
    return predictor


def load_device(name: str) -> LatencyPredictor:
    """Load the predictor of milliseconds on a device that others timed; its `predict` takes what `capture` takes.

    Args:
        name: Name among `list_devices()`, or the folder of a predictor of latency, such as one that
            `nasplat measure --calibrate` wrote on another machine.

    Returns:
        The fitted predictor; a device that is shipped also tells its `error_percent`.

    Raises:
        ContentError: there is no such device; the message lists those there are.
        PredictorError: the folder holds no predictor of latency, is incomplete or was altered.

    Example:
        >>> cell = "nasbench201:|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
        >>> (told,) = load_device("pixel2").predict([cell])
        >>> told.low < told.mean < told.high
        True
    """
    folder = content.locate(DEVICES, name)
    found = load(folder)
    if not isinstance(found, LatencyPredictor):
        raise PredictorError(
            f"expected a predictor of latency in {str(folder)!r}, got family {found.family!r}.\n"
            f"  Devices: {', '.join(list_devices())}."
        )
    found.to_graph = capture
    return found


def load_top1() -> Top1:
    """Load the shipped predictors of top-1.

    Returns:
        What adds the top-1 of classifiers to their predictions.
    """
    found = [load(content.locate("predictors", name)) for name in RATED]
    return Top1(tuple(p for p in found if isinstance(p, ModelZoo | SmallImages)))


def calibrated(conditions: Conditions | None = None) -> LatencyPredictor | None:
    """Load the latency predictor that `calibrate` kept for these conditions in the user's cache.

    Args:
        conditions: Device, batch, runtime, precision and threads that count; by default one example on the CPU in eager
            torch.

    Returns:
        The predictor; None where nothing was calibrated under these conditions, and, with a warning, where its folder
        is broken, since a broken cache is no reason not to score.
    """
    folder = (conditions or Conditions()).folder
    if not (folder / "recipe.toml").exists():
        return None
    try:
        found = load(folder)
    except PredictorError as err:
        warnings.warn(f"the latency calibration of this device is left out: {err}", stacklevel=2)
        return None
    return found if isinstance(found, LatencyPredictor) else None


def load_table(
    path: str | Path,
    space: str | Space | None = None,
    metric: str = "value",
    *,
    key: str | None = None,
    where: Mapping[str, str] | None = None,
    larger_is_better: bool = True,
    **presets: Any,
) -> Table:
    """Load labelled architectures from a file, or from a table shipped with nasplat.

    Args:
        path: Path of a file in one of the formats of `read_table`, or the name of a shipped table.
        space: Space that reads the column of architectures, as an object, name or path. None reads lines of JSON, which
            state their spaces themselves, and leaves other cells as text.
        metric: Name of the column that holds the label.
        key: Name of the column that holds the architecture; None tries the usual names.
        where: Cells that a row must have to be kept, by column, such as {"dataset": "cifar10"}.
        larger_is_better: Whether larger labels are better.
        presets: Presets that the space is loaded with, such as image=32.

    Returns:
        The table, with one row for each labelled network.

    Raises:
        TableError: the file is missing or broken, or lacks a column.
        SpaceError: the space cannot read an architecture.

    Example:
        >>> import os, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "measured.csv"
        >>> _ = file.write_text(os.linesep.join(["architecture,top1", "first,70.5", "second,72.0"]))
        >>> load_table(file, metric="top1").labels
        [70.5, 72.0]
    """
    known = content.names("benchmarks/tables")
    file = content.folder("benchmarks/tables") / str(path) if str(path) in known else Path(path)
    if space is None:
        table = read_table(file, metric, None, larger_is_better, None, key, where)
        states_spaces = all(row[table.key].startswith("{") for row in table.rows)
        return replace(table, parse=read_network) if states_spaces and table.rows else table
    chosen = space if isinstance(space, Space) else load_space(space, **presets)

    def parse(cell: str) -> Architecture:
        try:
            return chosen.parse(cell)
        except SpaceError as err:
            raise SpaceError(f"{file.name}: {err}") from err

    return read_table(file, metric, parse, larger_is_better, chosen.row_readers, key, where)


def load_task(reference: str, **options: Any) -> Task:
    """Load a task by name, or from a folder of data.

    Args:
        reference: Name of an embedded task: 'digits-clutter', 'digits-mask', 'digits-place', 'stereo-synthetic',
            'sentences', or one of `nasplat.task.drawn`: 'shapes', 'shapes-mask', 'textures', 'motifs', 'waves',
            'communities'. Or a folder with IDX or npz files of images, or with one folder of pictures per class; or
            'stereo:' and a folder of stereo pairs; or 'text:' and a file, whose next byte is to be told from those
            before. Options may follow, as in 'digits-clutter?train=512&decide=256'. Before it all may stand another
            question about the same images, as in 'rotation:digits-clutter' (`nasplat.task.derived`), or 'small:',
            'imbalanced:' or 'noisy:' for a harder version (see `nasplat.task.variants`).
        options: Options of the task as keywords, such as train=512 for embedded data or limit=10000 for a folder.

    Returns:
        The task: data in three splits, a loss and a metric.

    Raises:
        TaskError: there is no such name or folder, or the task does not take an option.
        MissingExtraError: the data are pictures, and Pillow is not installed.

    Example:
        >>> load_task("digits-clutter?train=64&decide=32&test=32")
        Task(digits-clutter: 64 train, 32 decide, 32 test of shape (1, 16, 16), accuracy_percent)
    """
    question, colon, rest = reference.partition(":")
    if colon and question in QUESTIONS:
        return derived(question, load_task(rest, **options))
    if colon and question in VARIANTS:
        return VARIANTS[question](load_task(rest, **options))
    reference, asked, words = reference.partition("?")
    if asked:
        options = {k: _value(v) for k, v in parse_qsl(words, keep_blank_values=True)} | options
    made = NAMED.get(reference)
    prefix = next((p for p in READERS if reference.startswith(p)), "")
    place = Path(reference.removeprefix(prefix))
    if made is None and prefix != TEXT and not place.is_dir():
        raise TaskError(
            f"expected a task name ({', '.join(NAMED)}) or a folder of image files, or {TEXT} and a file, got "
            f"{reference!r}.\n  Check the spelling."
        )
    try:
        return made(**options) if made else READERS[prefix](place, **options)
    except TypeError as err:
        raise TaskError(f"task {reference!r} does not take these options: {err}.\n  Leave them out.") from err


def _value(text: str) -> Any:
    """An option's value: JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
