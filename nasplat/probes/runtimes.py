"""Run a module by different programs: torch as it is, compiled, as one CUDA graph, or ONNX Runtime."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from nasplat.errors import ExportError, InputError
from nasplat.frontends.examples import Inputs, call
from nasplat.probes.onnx_writer import on_cpu, reason_of, to_onnx

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
"""Number formats of weights and input, by name."""
OPSET = 18
"""Version of the ONNX operator set that timed files use."""


def runner(
    module: nn.Module, arguments: Any, runtime: str, precision: str, device: torch.device, threads: int
) -> tuple[Callable[[], Any], str]:
    """Prepare the forward pass of a module.

    Args:
        module: Module in eval mode; it is copied where device or precision change it.
        arguments: Arguments of one forward pass on the CPU: a tuple by position, or a dict by name.
        runtime: Name of the program that runs the module, one of `RUNTIMES`.
        precision: Number format to which weights and floating-point inputs are converted, one of `PRECISIONS`;
            integers and booleans stay what they are.
        device: Torch device that runs the module.
        threads: Threads within one operator of ONNX Runtime; those of torch are set for the whole process.

    Returns:
        A function that runs one forward pass, and the runtime's name with its version.

    Raises:
        InputError: the runtime or the precision does not exist, or cannot run this module on these arguments here.
        ExportError: the module cannot be written as ONNX.
    """
    if runtime not in RUNTIMES or precision not in PRECISIONS:
        raise InputError(
            f"expected a runtime among {', '.join(RUNTIMES)} and a precision among {', '.join(PRECISIONS)}, "
            f"got {runtime!r} and {precision!r}.\n  Use one of these."
        )
    setting = Setting(module, arguments, precision, device, threads)
    try:
        one, name = RUNTIMES[runtime](setting)
    except (InputError, ExportError):
        raise
    except (Exception, SystemExit) as err:
        raise _failed(setting, err) from err

    def told() -> Any:
        """Run one forward pass; what it raises becomes an error that tells it."""
        try:
            return one()
        except (Exception, SystemExit) as err:
            raise _failed(setting, err) from err

    return told, name


@dataclass(frozen=True)
class Setting:
    """What a runtime is to run, and how."""

    module: nn.Module
    """Module in eval mode, wherever its parameters are."""
    arguments: Any
    """Arguments of one forward pass on the CPU: a tuple by position, or a dict by name."""
    precision: str
    """Number format asked for, a name in `PRECISIONS`."""
    device: torch.device
    """Torch device asked for."""
    threads: int
    """Threads within one operator, for runtimes that have threads of their own."""

    def placed(self) -> tuple[nn.Module, Any]:
        """Put module and arguments on the device and in the number format asked for.

        Returns:
            The module, copied where its device or format differ, and the arguments.
        """
        dtype, module = PRECISIONS[self.precision], self.module
        held = [*module.parameters(), *module.buffers()]
        if any(t.device != self.device or (t.is_floating_point() and t.dtype != dtype) for t in held):
            module = copy.deepcopy(module).to(self.device, dtype)

        def place(t: Tensor) -> Tensor:
            """The tensor on the device, floating-point numbers in the format asked for."""
            return t.to(self.device, dtype) if t.is_floating_point() else t.to(self.device)

        return module, tree_map_only(Tensor, place, self.arguments)


def _failed(setting: Setting, err: BaseException) -> InputError:
    """The error that tells what a network, or a device, raised."""
    shapes = ", ".join(f"{t.dtype} {tuple(t.shape)}" for t in Inputs.tensors(setting.arguments))
    return InputError(
        f"expected a network that runs on {shapes.replace('torch.', '')} in {setting.precision} on {setting.device}, "
        f"it raised {reason_of(err)}.\n  Check example_input: a shape stands for float32, a tensor for its own type, a "
        "tuple for several arguments, a dict for named ones."
    )


Running = tuple[Callable[[], Any], str]
"""A function that runs one forward pass, and the runtime's name with its version."""


def _eager(setting: Setting) -> Running:
    module, given = setting.placed()
    return lambda: call(module, given), f"torch {torch.__version__} eager"


def _compiled(setting: Setting) -> Running:
    module, given = setting.placed()
    call(module, given)  # what the network itself raises is not the compiler's
    compiled = torch.compile(module, dynamic=False)
    try:
        call(compiled, given)
    except Exception as err:  # whatever the compiler's many parts raise
        raise InputError(
            f"torch.compile failed with {reason_of(err)}\n"
            "  On a CPU it needs a C++ compiler; runtime='eager' needs none."
        ) from err
    return lambda: call(compiled, given), f"torch {torch.__version__} compiled"


def _cuda_graph(setting: Setting) -> Running:
    """One forward pass recorded as a CUDA graph, and what replays it."""
    if setting.device.type != "cuda":
        raise InputError("runtime cuda-graph expected device='cuda', got the CPU.\n  Use runtime='eager'.")
    module, given = setting.placed()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call(module, given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call(module, given)
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
    written = to_onnx(on_cpu(setting.module), setting.arguments, OPSET)
    made = open_session(written.data, setting.threads, provider)
    tensors = zip(written.names, Inputs.tensors(setting.arguments), strict=True)
    given = {name: t.numpy() for name, t in tensors}
    return lambda: made.run(None, given), f"ONNX Runtime {onnxruntime.__version__}"


RUNTIMES: dict[str, Callable[[Setting], Running]] = {
    "eager": _eager,
    "compiled": _compiled,
    "cuda-graph": _cuda_graph,
    "onnxruntime": _onnxruntime,
}
"""Programs that can run a network, by name; a new one is a function above and a line here."""


def open_session(data: bytes, threads: int | None = None, provider: str = "CPUExecutionProvider") -> Any:
    """Load an ONNX file into ONNX Runtime.

    Args:
        data: Bytes of the file.
        threads: Threads within one operator; None stands for torch's current number.
        provider: ONNX Runtime's name of what executes operators, such as 'CUDAExecutionProvider'.

    Returns:
        The session, whose `run(None, arrays)` gives the outputs for arrays by the names of its inputs.

    Raises:
        ExportError: ONNX Runtime refuses the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it raises tells all
    options.intra_op_num_threads = threads or torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(data, options, providers=[provider])
    except Exception as err:  # onnxruntime's errors have no common public base
        remedy = (
            "It has no such operator for this number format here; convert the network, as with .float()."
            if "NOT_IMPLEMENTED" in str(err)
            else "It is truncated, or no ONNX."
        )
        raise ExportError(f"ONNX Runtime refused the file: {str(err).splitlines()[0]}\n  {remedy}") from err
