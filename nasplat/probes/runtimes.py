"""Run a module by different programs: torch as it is, compiled, as one CUDA graph, or ONNX Runtime."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasplat.errors import ExportError, InputError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Number formats of weights and input, by name."""
OPSET = 18
"""Version of the ONNX operator set that timed files use."""


def runner(
    module: nn.Module, x: Tensor, runtime: str, precision: str, device: torch.device, threads: int
) -> tuple[Callable[[], Any], str]:
    """Prepare the forward pass of a module.

    Args:
        module: Module in eval mode; it is copied where device or precision change it.
        x: Input batch in float32 on the CPU.
        runtime: Name of the program that runs the module, one of `RUNTIMES`.
        precision: Number format to which weights and input are converted, one of `PRECISIONS`.
        device: Torch device that runs the module.
        threads: Threads within one operator of ONNX Runtime; those of torch are set for the whole process.

    Returns:
        A function that runs one forward pass, and the runtime's name with its version.

    Raises:
        InputError: the runtime or the precision does not exist, or cannot run this module here.
        ExportError: the module cannot be written as ONNX.
    """
    if runtime not in RUNTIMES or precision not in PRECISIONS:
        raise InputError(
            f"expected a runtime among {', '.join(RUNTIMES)} and a precision among {', '.join(PRECISIONS)}, "
            f"got {runtime!r} and {precision!r}.\n  Use one of these."
        )
    return RUNTIMES[runtime](Setting(module, x, precision, device, threads))


@dataclass(frozen=True)
class Setting:
    """What a runtime is to run, and how."""

    module: nn.Module
    """Module in eval mode, wherever its parameters are."""
    x: Tensor
    """Input batch in float32 on the CPU."""
    precision: str
    """Number format asked for, a name in `PRECISIONS`."""
    device: torch.device
    """Torch device asked for."""
    threads: int
    """Threads within one operator, for runtimes that have threads of their own."""

    def placed(self) -> tuple[nn.Module, Tensor]:
        """Put module and input on the device and in the number format asked for.

        Returns:
            The module, copied where its device or format differ, and the input batch.
        """
        dtype, module = PRECISIONS[self.precision], self.module
        here = next((p for p in module.parameters()), self.x)
        if here.device != self.device or here.dtype != dtype:
            module = copy.deepcopy(module).to(self.device, dtype)
        return module, self.x.to(self.device, dtype)


Running = tuple[Callable[[], Any], str]
"""A function that runs one forward pass, and the runtime's name with its version."""


def _eager(setting: Setting) -> Running:
    module, x = setting.placed()
    return lambda: module(x), f"torch {torch.__version__} eager"


def _compiled(setting: Setting) -> Running:
    module, x = setting.placed()
    compiled = torch.compile(module, dynamic=False)
    try:
        compiled(x)
    except Exception as err:  # whatever the compiler's many parts raise
        raise InputError(
            f"torch.compile failed with {type(err).__name__}: {str(err).splitlines()[0][:200]}\n"
            "  On a CPU it needs a C++ compiler; runtime='eager' needs none."
        ) from err
    return lambda: compiled(x), f"torch {torch.__version__} compiled"


def _cuda_graph(setting: Setting) -> Running:
    """One forward pass recorded as a CUDA graph, and what replays it."""
    if setting.device.type != "cuda":
        raise InputError("runtime cuda-graph expected device='cuda', got the CPU.\n  Use runtime='eager'.")
    module, x = setting.placed()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            module(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(x)
    return graph.replay, f"torch {torch.__version__} CUDA graph"


def _onnxruntime(setting: Setting) -> Running:
    """The module exported, and run as a file."""
    import onnxruntime

    if setting.precision != "float32":
        raise InputError(
            f"runtime onnxruntime expected precision float32, got {setting.precision!r}.\n  Convert the file instead."
        )
    provider = "CUDAExecutionProvider" if setting.device.type == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise InputError(f"this ONNX Runtime has no {provider}.\n  Install onnxruntime-gpu, or use device='cpu'.")
    data = to_onnx(_on_cpu(setting.module), tuple(setting.x.shape), OPSET)
    made = open_session(data, setting.threads, provider)
    given = {made.get_inputs()[0].name: setting.x.numpy()}
    return lambda: made.run(None, given), f"ONNX Runtime {onnxruntime.__version__}"


RUNTIMES: dict[str, Callable[[Setting], Running]] = {
    "eager": _eager,
    "compiled": _compiled,
    "cuda-graph": _cuda_graph,
    "onnxruntime": _onnxruntime,
}
"""Programs that can run a network, by name; a new one is a function above and a line here."""


def _on_cpu(module: nn.Module) -> nn.Module:
    """Return the module, or a copy on the CPU where it stands elsewhere."""
    return copy.deepcopy(module).cpu() if any(p.device.type != "cpu" for p in module.parameters()) else module


def to_onnx(module: nn.Module, shape: tuple[int, ...], opset: int) -> bytes:
    """Export a module to ONNX with a batch of any size, without checking the result.

    Args:
        module: Module in eval mode on the CPU.
        shape: Shape of one input batch; the first axis becomes symbolic.
        opset: Version of the ONNX operator set.

    Returns:
        Bytes of the file, with one input called 'input' and one output called 'output'.

    Raises:
        ExportError: torch's exporter failed.
    """
    example = torch.randn(2, *shape[1:], generator=torch.Generator().manual_seed(0))
    quiet = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")
    levels = [q.level for q in quiet]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        for q in quiet:
            q.setLevel(logging.ERROR)
        file = Path(folder) / "net.onnx"
        try:
            torch.onnx.export(
                module,
                (example,),
                file,
                opset_version=opset,
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except Exception as err:
            raise ExportError(
                f"torch's ONNX exporter failed with {type(err).__name__}: {str(err).splitlines()[0]}\n"
                "  The module uses something ONNX cannot say; `nasplat inspect` lists its operators."
            ) from err
        finally:
            for q, level in zip(quiet, levels, strict=True):
                q.setLevel(level)
        return file.read_bytes()


def open_session(data: bytes, threads: int | None = None, provider: str = "CPUExecutionProvider") -> Any:
    """Load an ONNX file into ONNX Runtime.

    Args:
        data: Bytes of the file.
        threads: Threads within one operator; None stands for torch's current number.
        provider: ONNX Runtime's name of what executes operators, such as 'CUDAExecutionProvider'.

    Returns:
        The session, whose `run(None, {"input": array})` gives the outputs.

    Raises:
        ExportError: ONNX Runtime refuses the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(data, options, providers=[provider])
    except Exception as err:  # onnxruntime's errors have no common public base
        raise ExportError(
            f"ONNX Runtime refused the file: {str(err).splitlines()[0]}\n  It is truncated, or no ONNX."
        ) from err
