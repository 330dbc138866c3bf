from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nasplat
from nasplat.errors import ExportError
from nasplat.frontends.examples import Inputs
from nasplat.probes import onnx_writer
from nasplat.probes.onnx_network import OnnxNetwork
from nasplat.probes.onnx_writer import Written
from nasplat.workflows import export as exporting


def test_exported_file_agrees_and_has_a_certificate(
    small_space: nasplat.Space, task: nasplat.Task, tmp_path: Path
) -> None:
    architecture = small_space.sample(seed=0)
    module = architecture.build()
    path = tmp_path / "net.onnx"
    certificate = nasplat.export(module, path, architecture.example_input, task=task)
    assert certificate.max_relative_error <= certificate.tolerance == 1e-4
    assert {row["batch"] for row in certificate.checks} == {1, 2, 7, 33}
    assert certificate.task_metric is not None
    assert certificate.graph_key == architecture.graph().key
    written = json.loads(path.with_suffix(".certificate.json").read_text(encoding="utf-8"))
    assert written["sha256"] == certificate.sha256
    assert certificate.batch is None
    assert certificate.inputs == [{"name": "input", "dtype": "float", "shape": ["batch", 1, 16, 16]}]
    assert [o["name"] for o in certificate.outputs] == ["output"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = torch.randn(5, 1, 16, 16)
    with torch.no_grad():
        wanted = module.eval()(x).numpy()
    assert np.abs(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0] - wanted).max() < 1e-4
    assert nasplat.check_export(module, path, (1, 1, 16, 16)) <= 1e-4


def test_windowed_attention_is_exported(tmp_path: Path) -> None:
    space = nasplat.load_space(
        "hybrid", widths=[[8, 16], [16, 32]], depths=[[1], [1]], window=4, head_dim=8, image=16, channels=1
    )
    found = next(a for i in range(20) if "attention" in str((a := space.sample(seed=i)).choices))
    module, shape = space.construct(found)
    assert nasplat.export(module, tmp_path / "net.onnx", shape).max_relative_error < 1e-4


def test_corrupted_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module, other = nn.Linear(4, 3), nn.Linear(4, 3)
    convert = exporting.to_onnx
    monkeypatch.setattr(exporting, "to_onnx", lambda m, *a: convert(other, *a))
    with pytest.raises(ExportError, match=r"expected max \|difference\| <= 0.0001 · spread"):
        nasplat.export(module, tmp_path / "net.onnx", (1, 4))
    assert not list(tmp_path.iterdir())


def test_other_modules_and_broken_files_do_not_pass_the_check(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "net.onnx"
    nasplat.export(nn.Linear(4, 3), path, (1, 4))
    with pytest.raises(ExportError, match="Nothing was written"):
        nasplat.check_export(nn.Linear(4, 3), path, (1, 4))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ExportError, match="ONNX Runtime refused the file"):
        nasplat.check_export(nn.Linear(4, 3), path, (1, 4))
    with pytest.raises(ExportError, match="expected an ONNX file"):
        nasplat.check_export(nn.Linear(4, 3), tmp_path / "none.onnx", (1, 4))


def test_what_cannot_be_exported_says_so(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    with pytest.raises(ExportError, match=r"ONNX exporter failed with DispatchError: No ONNX function found .*bessel"):
        nasplat.export(Odd(), tmp_path / "net.onnx", (1, 4))
    with pytest.raises(ExportError, match=r"ending in .onnx"):
        nasplat.export(nn.Linear(4, 2), tmp_path / "net.bin", (1, 4))
    with pytest.raises(ExportError, match="expected a torch module, got function"):
        nasplat.export(lambda x: x, tmp_path / "net.onnx", (1, 4))  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="got one on the meta device"):
        nasplat.export(nn.Linear(4, 2, device="meta"), tmp_path / "net.onnx", (1, 4))
    assert not list(tmp_path.iterdir())


@dataclass
class Found:
    """What a detector answers."""

    logits: Tensor
    classes: Tensor
    states: tuple[Tensor, None]
    size: int
    loss: Tensor | None = None


class Reader(nn.Module):
    """Takes tokens, a mask, a picture in double precision and what it may do without; answers many kinds of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(40, 8)
        self.head = nn.Linear(8, 5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(
        self, ids: Tensor, mask: Tensor, picture: dict[str, Tensor], scale: float = 1.0, extra: Tensor | None = None
    ) -> Found:
        self.calls += 1
        self.last = ids
        found = (self.rows(ids) * mask[..., None]).sum(1) * scale + picture["pixels"].mean((1, 2)).float()[:, None]
        if extra is not None:
            found = found + extra
        logits = self.head(found)
        return Found(logits, logits.argmax(-1).to(torch.uint8), (found, None), ids.shape[0])


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reader, Path, exporting.Certificate]:
    torch.manual_seed(0)
    module, path = Reader(), tmp_path_factory.mktemp("reader") / "net.onnx"
    module.rows.eval()  # a part that somebody froze
    example = {
        "ids": torch.tensor([[1, 2, 3]]),
        "mask": torch.ones(1, 3, dtype=torch.bool),
        "picture": {"pixels": torch.rand(1, 4, 4).double()},
        "scale": 2.0,
        "extra": None,
    }
    return module, path, nasplat.export(module, path, example)


def test_networks_of_many_inputs_and_outputs_are_exported(reader: Any) -> None:
    module, path, certificate = reader
    assert certificate.inputs == [
        {"name": "ids", "dtype": "int64", "shape": ["batch", 3]},
        {"name": "mask", "dtype": "bool", "shape": ["batch", 3]},
        {"name": "picture_pixels", "dtype": "double", "shape": ["batch", 4, 4]},
    ]
    assert [(o["name"], o["dtype"], o["shape"]) for o in certificate.outputs] == [
        ("logits", "float", ["batch", 5]), ("classes", "uint8", ["batch"]), ("states_0", "float", ["batch", 8])
    ]  # fmt: skip
    assert certificate.outputs[1]["relative_error"] == 0.0
    assert certificate.notes == ["left out of the file, being no tensors: size (int)"]
    generator = torch.Generator().manual_seed(0)
    ids, mask = torch.randint(40, (16, 3), generator=generator), torch.rand(16, 3, generator=generator) < 0.5
    pixels = torch.rand(16, 4, 4, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        wanted = module(ids, mask, {"pixels": pixels}, 2.0)
    logits, classes, states = OnnxNetwork(path)(ids, mask, pixels)
    assert torch.allclose(logits, wanted.logits, atol=1e-5)
    assert torch.equal(classes, wanted.classes)
    assert torch.allclose(states, wanted.states[0], atol=1e-5)


def test_a_file_agrees_with_itself_on_inputs_of_its_own(reader: Any) -> None:
    file = OnnxNetwork(reader[1])
    assert {k: (t.dtype, tuple(t.shape)) for k, t in file.example.items()} == {
        "ids": (torch.int64, (1, 3)), "mask": (torch.bool, (1, 3)), "picture_pixels": (torch.float64, (1, 4, 4))
    }  # fmt: skip
    assert nasplat.check_export(file, reader[1], file.example) == 0.0


def test_an_exported_module_is_what_it_was(reader: Any) -> None:
    module = Reader()
    module.load_state_dict(reader[0].state_dict())
    module.head.eval()
    state = torch.random.get_rng_state()
    example = (torch.tensor([[1, 2, 3]]), torch.ones(1, 3).bool(), {"pixels": torch.rand(1, 4, 4).double()}, 2.0)
    calls = module.calls.item()
    torch.random.set_rng_state(state)
    assert nasplat.check_export(module, reader[1], example) < 1e-4
    assert torch.equal(torch.random.get_rng_state(), state)
    assert module.calls.item() == calls
    assert (module.training, module.rows.training, module.head.training) == (True, True, False)
    assert not hasattr(module, "last")
    assert not reader[0].rows.training


def test_files_with_other_inputs_do_not_pass_the_check(reader: Any) -> None:
    with pytest.raises(ExportError, match="expected a file with 1 inputs, got one with 3: ids, mask, picture_pixels"):
        nasplat.check_export(nn.Linear(4, 2), reader[1], (1, 4))
    example = (torch.tensor([[1, 2]]), torch.ones(1, 2).bool(), {"pixels": torch.rand(1, 4, 4).double()}, 2.0)
    with pytest.raises(ExportError, match=r"ONNX Runtime failed on ids: int64 \(1, 2\).*Got: 2 Expected: 3"):
        nasplat.check_export(reader[0], reader[1], example)


class Does(nn.Module):
    """A linear layer, and a function of it and the inputs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(8, 4), function

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.layer, *inputs)


@pytest.mark.parametrize(("function", "guard"), [
    (lambda f, x: f(x) if len(x) <= 8 else -f(x), "batch <= 8"),
    (lambda f, x: f(x) * (1 if x.shape[0] % 16 else 2), r"batch % 16\) != 0"),
    (lambda f, x: f(x) if x.shape[0] != 64 else -f(x), "batch != 64"),
    (lambda f, x: f(x) if x.numel() < 1000 else -f(x), "batch <= 124"),
])  # fmt: skip
def test_networks_that_treat_batches_differently_are_refused_with_torchs_reason(
    function: Any, guard: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=rf"same for batches of every size.*{guard}[^\n]*\n  Give one batch size"):
        nasplat.export(Does(function), tmp_path / "net.onnx", (1, 8))
    assert not list(tmp_path.iterdir())


def test_networks_that_need_their_batch_get_a_file_of_that_batch(tmp_path: Path) -> None:
    module, path = Does(lambda f, x: torch.stack([f(row) for row in x])), tmp_path / "net.onnx"
    certificate = nasplat.export(module, path, (3, 8))
    assert certificate.batch == 3
    assert certificate.inputs[0]["shape"] == [3, 8]
    assert {row["batch"] for row in certificate.checks} == {3}
    assert certificate.notes[0].startswith("the file takes a batch of 3 alone: torch.export read it with a batch of 3")
    assert nasplat.check_export(module, path, (3, 8)) < 1e-4
    file, x = OnnxNetwork(path), torch.randn(6, 8)
    assert torch.allclose(file(x), module(x), atol=1e-5)
    with pytest.raises(ExportError, match=r"expected batches of 3 examples, .* got 7"):
        file(torch.randn(7, 8))


def test_weights_that_one_file_cannot_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tied = nn.Sequential(nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False))
    tied[1].weight = tied[0].weight
    monkeypatch.setattr(onnx_writer, "MOST_BYTES", 16 * 16 * 4 - 1)
    with pytest.raises(ExportError, match=r"expected weights of at most 0.00 GiB, which one ONNX file can hold"):
        nasplat.export(tied, tmp_path / "net.onnx", (1, 16))
    monkeypatch.setattr(onnx_writer, "MOST_BYTES", 16 * 16 * 4)
    onnx_writer._check_size(tied)


def test_a_batch_can_be_asked_for(tmp_path: Path) -> None:
    module = Does(lambda f, x: f(x) if len(x) <= 8 else -f(x))
    assert nasplat.export(module, tmp_path / "net.onnx", (1, 8), batch=9).batch == 9
    with torch.no_grad():
        wanted = -module.layer(torch.ones(9, 8))
    assert torch.allclose(OnnxNetwork(tmp_path / "net.onnx")(torch.ones(9, 8)), wanted, atol=1e-5)
    with pytest.raises(ExportError, match="expected a batch of at least 1"):
        nasplat.export(module, tmp_path / "net.onnx", (1, 8), batch=0)


@pytest.mark.parametrize(("function", "message"), [
    (lambda f, x: f(x[:, :3]), r"runs on its example input \(float32 \(1, 8\)\), it raised RuntimeError: mat1 and mat2"),
    (lambda f, x: 1 / 0, "it raised ZeroDivisionError: division by zero"),
    (lambda f, x: sys.exit(), "it raised SystemExit"),
    (lambda f, x: 3, "expected a network that answers tensors, got int"),
    (lambda f, x: torch.fft.fft(f(x)), "ONNX has no complex tensors"),
    (lambda f, x: f(x) if x.sum() > 0 else -f(x), "torch.export failed with GuardOnDataDependentSymNode: Could not"),
])  # fmt: skip
def test_the_reason_of_a_failure_reaches_the_user(function: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        nasplat.export(Does(function), tmp_path / "net.onnx", (1, 8))
    assert len(str(caught.value)) < 900
    assert not list(tmp_path.iterdir())


class File:
    """Stands for a file that computes a function."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        self.function = function

    def run(self, given: dict[str, Tensor]) -> list[np.ndarray]:
        found = self.function(given["input"])
        return [t.numpy() for t in (found if isinstance(found, tuple) else (found,))]


def compared(module: Any, file: Any, example: Any = (1, 8), outputs: int = 1) -> Any:
    """The verdict on a module and what stands for its file."""
    names = tuple(f"y{i}" for i in range(outputs))
    written = Written(b"", Inputs.of(example), ("input",), names, None)
    with exporting._undisturbed(module) as network:
        return exporting._compare(network, cast(Any, File(file)), written, None)


def test_every_output_is_judged_by_its_own_spread() -> None:
    module = Does(lambda f, x: (x * 1e6, x))
    assert compared(module, lambda x: (x * 1e6, x), outputs=2).error == 0.0
    with pytest.raises(ExportError, match="y1: expected max"):
        compared(module, lambda x: (x * 1e6, x + 0.01), outputs=2)
    found = compared(module, lambda x: (x * 1e6, x + 1e-5), outputs=2)
    assert [o["relative_error"] > 0 for o in found.outputs] == [False, True]
    assert {row["output"] for row in found.checks} == {"y1"}
    with pytest.raises(ExportError, match="expected 2 outputs, the file gives 1"):
        compared(module, lambda x: x * 1e6, outputs=2)


def test_a_difference_in_large_batches_alone_is_found() -> None:
    with pytest.raises(ExportError, match="batch 33, seed 1"):
        compared(Does(lambda f, x: x), lambda x: x if len(x) < 33 else -x)


def test_a_file_that_agrees_on_other_batches_says_how_to_get_one_for_a_single_size() -> None:
    with pytest.raises(ExportError, match=r"batch 1, seed 0, y0.*\n.*\n  It agrees on batches of 2, 7, 33: give one"):
        compared(Does(lambda f, x: x), lambda x: x if len(x) > 1 else -x)
    with pytest.raises(ExportError, match=r"expected shape \(8,\), the file gives \(1, 8\)"):
        compared(Does(lambda f, x: x.squeeze()), lambda x: x)
    with pytest.raises(
        ExportError, match=r"expected shape \(2, 8\), the file gives \(16,\)[^\0]*agrees on batches of 1:"
    ):
        compared(Does(lambda f, x: x), lambda x: x if len(x) == 1 else x.flatten())


def test_networks_that_answer_differently_from_call_to_call_are_refused() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            return x * self.count

    for module in (Does(lambda f, x: x + torch.rand_like(x)), Does(lambda f, x: F.dropout(x)), Counts()):
        with pytest.raises(ExportError, match="answers the same input alike in every call"):
            compared(module, lambda x: x)


def test_networks_that_refuse_drawn_values_are_compared_on_their_own() -> None:
    def sorted_only(f: nn.Module, x: Tensor) -> Tensor:
        if not bool((x.diff(dim=1) >= 0).all()):
            raise ValueError("expected sorted rows")
        return x

    found = compared(Does(sorted_only), lambda x: x, torch.arange(8)[None])
    assert len(found.checks) == 10
    note = "compared on the example's own values alone; on others the network raises ValueError: expected sorted rows"
    assert found.notes[0] == note


def test_outputs_that_never_vary_are_named() -> None:
    assert compared(Does(lambda f, x: x * 0), lambda x: x * 0).notes == (
        "y0: did not vary over the inputs that were compared",
    )


def test_inputs_of_which_one_value_alone_was_tried_are_named() -> None:
    found = compared(Does(lambda f, x: x * 2), lambda x: x * 2, torch.full((1, 8), 5))
    assert found.notes == ("input: no value but 5 was compared", "y0: did not vary over the inputs that were compared")


def test_inputs_that_a_network_changes_are_given_afresh() -> None:
    assert compared(Does(lambda f, x: x.mul_(2) + 1), lambda x: x * 2 + 1).error == 0.0
