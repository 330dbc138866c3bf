"""Forward passes that never end, that end the program, or that are no tree."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nasplat
from nasplat.errors import CaptureError, ContentError, InputError, SpaceError

pytestmark = pytest.mark.fast


class Run(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def endless(x: Tensor) -> None:
    while True:
        pass


def stubborn(x: Tensor) -> None:
    while True:
        try:
            sum(range(100))
        except BaseException:
            return endless(x)


@pytest.mark.parametrize("function", [endless, stubborn])
def test_a_forward_pass_that_never_ends_is_stopped(function: Callable[[Tensor], Any]) -> None:
    with pytest.raises(
        CaptureError, match=r"within 0.05 seconds, got one that runs longer, in .*test_time_limit.py:\d+"
    ):
        nasplat.capture(Run(function), (1, 4), seconds=0.05)


def test_the_environment_sets_the_limit_and_the_caller_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASPLAT_CAPTURE_SECONDS", "soon")
    with pytest.raises(CaptureError, match="expected a positive number of seconds for a capture, got 'soon'"):
        nasplat.capture(nn.Linear(4, 2), (1, 4))
    assert nasplat.capture(nn.Linear(4, 2), (1, 4), seconds=60).macs == 8


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit()])
def test_a_forward_pass_that_ends_the_program_ends_its_capture_alone(error: BaseException) -> None:
    def leave(x: Tensor) -> None:
        raise error

    with pytest.raises(CaptureError, match=f"the network raised {type(error).__name__}"):
        nasplat.capture(Run(leave), (1, 4))
    with pytest.raises(KeyboardInterrupt):
        nasplat.capture(Run(lambda x: (_ for _ in ()).throw(KeyboardInterrupt)), (1, 4))


def test_files_that_end_the_program_are_errors(tmp_path: Path) -> None:
    (tmp_path / "at_import.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    (tmp_path / "factory.py").write_text("import sys\n\ndef f():\n    sys.exit(0)\n", encoding="utf-8")
    for name in ("at_import.py:f", "factory.py:f"):
        with pytest.raises(ContentError, match=r"ended the program by SystemExit\(0\)"):
            nasplat.capture(f"{tmp_path}/{name}")

    @nasplat.space(example_input=(1, 4))
    def leaving(pick: nasplat.Pick) -> nn.Module:
        pick("width", [1, 2])
        sys.exit(0)

    with pytest.raises(SpaceError, match="'leaving' ended the program"):
        leaving.sample(seed=0)


def test_a_module_that_contains_itself_is_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[0].parent = net
    with pytest.raises(CaptureError, match="a tree of modules, got Sequential with a module that contains itself"):
        nasplat.capture(net, (1, 4))


def test_a_network_without_tensors_in_its_result_is_noted() -> None:
    assert nasplat.capture(Run(lambda x: "text"), (1, 4)).notes == (
        "the network returned no tensor that capture can find, but str",
    )


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y


def test_programs_of_torch_export_are_networks_with_their_example() -> None:
    net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    program = torch.export.export(net, (torch.zeros(2, 16),))
    for network, example in ((program, None), (program, (2, 16)), (program.module(), (2, 16))):
        graph = nasplat.capture(network, example)
        assert (graph.macs, graph.params) == (1280, 676)
    with pytest.raises(CaptureError, match="Guard failed"):
        nasplat.capture(program, (3, 16))
    x, y = torch.zeros(2, 3), torch.zeros(3, 4)
    assert nasplat.capture(torch.export.export(Two(), (), {"x": x, "y": y})).macs == 24
    mixed = torch.export.export(Two(), (x,), {"y": y})
    with pytest.raises(InputError, match="got one with both"):
        nasplat.capture(mixed)
    mixed._example_inputs = None
    with pytest.raises(InputError, match="got one without"):
        nasplat.capture(mixed)


class Held:
    """Something whose graph is no method, as that of a file's content."""

    graph = 3


@pytest.mark.parametrize(
    ("thing", "told"),
    [
        (nn.Linear, "got type Linear, a class: pass an instance"),
        (Held(), "got Held"),
        (lambda x: x, "pass an nn.Module whose forward calls it"),
        ({"weight": torch.zeros(1)}, "weights alone say nothing"),
        ("net.pt2", "a file of torch.\n  Such files can run code"),
    ],
)
def test_objects_that_are_no_network_say_what_to_pass(thing: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        nasplat.capture(thing, (1, 4))


def test_a_model_of_onnx_in_memory_asks_for_its_file() -> None:
    onnx = pytest.importorskip("onnx")
    with pytest.raises(InputError, match="got ModelProto: pass the path of its file"):
        nasplat.capture(onnx.ModelProto())
