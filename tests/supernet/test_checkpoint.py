"""A checkpoint is taken as it was written, or refused by name: no weight keeps its random initial value unnoticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from disk import largest_file
from safetensors.torch import save_file
from torch import Tensor, nn

import nasplat
from nasplat.errors import SpaceWarning, StorageError, SupernetError
from nasplat.supernet.belonging import FINGERPRINT, WITNESSES
from nasplat.supernet.checkpoint import FILE, HASH, read_checkpoint, read_history

Tensors = dict[str, Tensor]
KEY = "weight/1.weight"


def tiny(pick: nasplat.Pick) -> nn.Module:
    width = pick("width", (4, 8))
    return nn.Sequential(nn.Flatten(), nn.Linear(256, width), nn.ReLU(), nn.Linear(width, 10))


SPACE = nasplat.space(example_input=(1, 1, 16, 16))(tiny)


@pytest.fixture(scope="module")
def task() -> nasplat.Task:
    return nasplat.load_task("digits-clutter", train=32, decide=16, test=16)


@pytest.fixture(scope="module")
def written(task: nasplat.Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the checkpoint of a training of one epoch, which nobody changes."""
    folder = tmp_path_factory.mktemp("written")
    nasplat.Supernet(SPACE, task, seed=0).train(epochs=1, checkpoint=folder, watch=False)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copy(written / FILE, tmp_path / FILE)
    return tmp_path


def changed(folder: Path, change: Callable[[Tensors], object], hashed: bool, **metadata: str) -> Path:
    """The checkpoint with other tensors, as it would be from an older nasplat where its hash is left out."""
    about, tensors = read_checkpoint(folder / FILE)
    change(tensors)
    save_file(tensors, folder / FILE, {k: v for k, v in (about | metadata).items() if hashed or k != HASH})
    return folder


def put(value: Callable[[Tensor], Tensor], key: str = KEY) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({key: value(tensors[key]).contiguous()})


def not_finite(value: float) -> Callable[[Tensor], Tensor]:
    def change(t: Tensor) -> Tensor:
        t = t.clone()
        t.view(-1)[3] = value
        return t

    return change


CHANGES: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "missing": (lambda t: t.pop(KEY), "lacks 1 weights of .*'1.weight'"),
    "renamed": (lambda t: t.update({f"{KEY}x": t.pop(KEY)}), "lacks 1 weights of .*'1.weight'"),
    "more": (lambda t: t.update({"weight/9.weight": torch.zeros(2)}), "has weight '9.weight', which"),
    "flat": (put(lambda w: w.flatten()[:3]), r"'1.weight' as \(8, 256\) torch.float32, got \(3,\)"),
    "smaller": (put(lambda w: w[:4]), r"as \(8, 256\) torch.float32, got \(4, 256\)"),
    "half": (put(lambda w: w.half()), r"got \(8, 256\) torch.float16"),
    "nan": (put(not_finite(float("nan"))), "'1.weight' that are not finite"),
    "infinite": (put(not_finite(float("-inf"))), "'1.weight' that are not finite"),
}


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("what", CHANGES)
def test_changed_weights_are_refused_by_name_and_nothing_is_copied(
    folder: Path, task: nasplat.Task, what: str, hashed: bool
) -> None:
    change, reason = CHANGES[what]
    changed(folder, change, hashed)
    for attempt in (
        lambda s: s.load(folder),
        lambda s: s.train(epochs=1, checkpoint=folder, watch=False),
    ):
        supernet = nasplat.Supernet(SPACE, task, seed=0)
        before = supernet.fingerprint
        with pytest.raises(SupernetError, match="is not as it was written" if hashed else reason):
            attempt(supernet)
        assert supernet.fingerprint == before


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("mean/1.weight", lambda m: m.t(), r"mean of weight '1.weight' as \(8, 256\)"),
        ("square/1.weight", lambda m: m.flatten(), r"square of weight '1.weight' as \(8, 256\)"),
        ("steps/1.weight", lambda m: m[None], r"steps of weight '1.weight' as \(\), got \(1,\)"),
        ("mean/1.weight", not_finite(float("nan")), "finite mean of weight '1.weight'"),
    ],
)
def test_moments_that_do_not_fit_are_refused_when_a_training_goes_on(
    folder: Path, task: nasplat.Task, key: str, value: Callable[[Tensor], Tensor], reason: str
) -> None:
    changed(folder, put(value, key), hashed=False)
    with pytest.raises(SupernetError, match=reason):
        nasplat.Supernet(SPACE, task, seed=0).train(epochs=1, checkpoint=folder, watch=False)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("epochs_done", "many", "says its epochs"),
        ("epochs_done", "2", "got 2 of 1"),
        ("epochs_done", "0", "tells of 1 epochs, got 0 done"),
        ("config", "{", "says its epochs"),
        ("config", "[]", "says its epochs"),
        ("config", '{"epochs": null}', "got 1 of None"),
        ("history", "[5]", "history of its training"),
        ("history", '[{"epoch": 1, "mood": "good"}]', "history of its training"),
        ("history", "[" * 10_000, "history of its training"),
    ],
)
def test_a_description_that_cannot_be_is_refused(folder: Path, name: str, text: str, reason: str) -> None:
    changed(folder, lambda t: None, hashed=False, **{name: text})
    with pytest.raises(SupernetError, match=reason):
        read_history(folder / FILE)


def test_another_space_and_other_settings_are_refused_by_name(folder: Path, task: nasplat.Task) -> None:
    about = json.loads(read_checkpoint(folder / FILE)[0]["config"])
    changed(folder, lambda t: None, hashed=False, config=json.dumps(about | {"mood": "good"}))
    with pytest.raises(SupernetError, match="expected config"):
        nasplat.Supernet(SPACE, task, seed=0).train(epochs=1, checkpoint=folder, watch=False)
    with pytest.raises(SupernetError, match="expected space"):
        nasplat.Supernet(space_with(nn.Tanh()).renamed("other"), task, seed=0).load(folder)


def space_with(activation: nn.Module) -> nasplat.Space:
    """The space with a layer that has no weights, under the same name."""

    @nasplat.space(example_input=(1, 1, 16, 16))
    def tiny(pick: nasplat.Pick) -> nn.Module:
        width = pick("width", (4, 8))
        return nn.Sequential(nn.Flatten(), nn.Linear(256, width), activation, nn.Linear(width, 10))

    return tiny


def test_weights_go_on_in_the_same_networks_alone(folder: Path, task: nasplat.Task) -> None:
    nasplat.Supernet(SPACE.renamed("of/another/machine/tiny.py"), task, seed=0).load(folder)
    other = nasplat.Supernet(space_with(nn.Tanh()), task, seed=0)
    for refused in (lambda: other.load(folder), lambda: other.train(epochs=1, checkpoint=folder, watch=False)):
        with pytest.raises(SupernetError, match=r"other code of space 'tiny' .* has become another one"):
            refused()
    same = nasplat.Supernet(space_with(nn.ReLU()), task, seed=0)
    with pytest.warns(SpaceWarning, match="4 networks are the same computations"):
        same.load(folder)
    changed(folder, lambda t: None, hashed=False, witnesses="[5]")
    with pytest.raises(SupernetError, match="networks and their keys"):
        same.load(folder)


def test_a_checkpoint_without_a_fingerprint_loads(folder: Path, task: nasplat.Task) -> None:
    about, tensors = read_checkpoint(folder / FILE)
    save_file(tensors, folder / FILE, {k: v for k, v in about.items() if k not in {HASH, FINGERPRINT, WITNESSES}})
    nasplat.Supernet(SPACE, task, seed=0).load(folder)


def test_a_checkpoint_that_was_cut_anywhere_is_refused(folder: Path, task: nasplat.Task) -> None:
    supernet, data = nasplat.Supernet(SPACE, task, seed=0), (folder / FILE).read_bytes()
    for size in (0, 1, 7, 8, 100, 2000, len(data) // 2, len(data) - 1):
        (folder / FILE).write_bytes(data[:size])
        with pytest.raises(SupernetError, match="expected a supernet checkpoint"):
            supernet.load(folder)
    for place in (9, 300, len(data) - 5):
        (folder / FILE).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(SupernetError):
            supernet.load(folder)


def test_a_full_disk_leaves_the_checkpoint_before_and_the_training_goes_on_from_there(
    task: nasplat.Task, tmp_path: Path
) -> None:
    def train(report: Callable[..., None] | None = None) -> nasplat.Supernet:
        supernet = nasplat.Supernet(SPACE, task, seed=0)
        supernet.train(epochs=2, checkpoint=tmp_path / "run", watch=False, report=report)
        return supernet

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stop)
    before = (tmp_path / "run" / FILE).read_bytes()
    with largest_file(4096), pytest.raises(StorageError, match=r"(?s)supernet.safetensors.*Free some space"):
        train()
    assert [p.read_bytes() for p in (tmp_path / "run").iterdir()] == [before]
    whole = nasplat.Supernet(SPACE, task, seed=0)
    whole.train(epochs=2, watch=False)
    assert train().fingerprint == whole.fingerprint


def test_weights_that_grew_come_back(task: nasplat.Task, folder: Path) -> None:
    supernet = nasplat.Supernet(SPACE, task, seed=0)
    supernet.load(folder)
    value = supernet.store.weights["1.weight"]
    supernet.store.grow(
        "1.weight", torch.randn(9, 256), supernet.store.rules["1.weight"], (SPACE.extreme(), "1.weight")
    )
    assert torch.equal(supernet.store.weights["1.weight"][:8], value)
    supernet.load(folder)  # one that is smaller than what grew here
    assert torch.equal(supernet.store.weights["1.weight"], value)
