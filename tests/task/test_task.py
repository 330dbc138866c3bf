from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nasplat
from nasplat.errors import TaskError
from nasplat.task import digits
from nasplat.task.files import flip_and_shift, unpredict
from nasplat.task.judging import distance

pytestmark = pytest.mark.fast


def test_splits_come_from_disjoint_scans() -> None:
    ranges = [set(range(*r)) for r in digits.SOURCES.values()]
    assert not ranges[0] & ranges[1]
    assert not ranges[0] & ranges[2]
    assert not ranges[1] & ranges[2]
    assert max(map(max, ranges)) < 1797


def test_composites_are_seeded_and_fresh_each_epoch() -> None:
    task = nasplat.load_task("digits-clutter", train=128, decide=64, test=64)
    first, again = list(task.epoch(1, 32)), list(task.epoch(1, 32))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], next(iter(task.epoch(2, 32)))[0])
    assert len(first) == task.batches_per_epoch(32) == 4
    assert task.input_shape == (1, 16, 16)
    assert task.classes == 10


def test_upright_digit_alone_is_the_label() -> None:
    clean = digits.compose("test", 200, 0, noise=0.0, clutter=0.3)
    assert clean.x.shape == (200, 1, 16, 16)
    assert set(clean.y.tolist()) == set(range(10))


def test_arrays_and_loaders_become_tasks() -> None:
    x, y = np.random.default_rng(0).integers(0, 255, (20, 3, 4, 4), dtype=np.uint8), np.arange(20) % 3
    task = nasplat.Task.from_arrays((x, y), (x[:5], y[:5]), name="mine")
    assert task.train.x.dtype == torch.float32
    assert float(task.train.x.max()) <= 1.0
    assert len(task.test) == 5
    batches = [(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))] * 3
    loaded = nasplat.Task.from_loader(batches, batches[:1])
    assert (len(loaded.train), len(loaded.decide)) == (12, 4)
    with pytest.raises(TaskError, match="as many targets as inputs"):
        nasplat.Task.from_arrays((x, y[:3]), (x, y))
    with pytest.raises(TaskError, match="expected inputs of shape"):
        nasplat.Task.from_arrays((x, y), (x[:, :1], y))
    with pytest.raises(TaskError, match=r"a loader of \(x, y\) batches"):
        nasplat.Task.from_loader([], batches)


def test_accuracy_is_a_percentage() -> None:
    x, y = torch.eye(4), torch.tensor([0, 1, 2, 0])
    task = nasplat.Task.from_arrays((x, y), (x, y))
    assert task.evaluate(nn.Identity()) == 75.0
    with pytest.raises(TaskError, match="'train', 'decide' or 'test', got 'val'"):
        task.evaluate(nn.Identity(), "val")


def idx(path: Path, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


def test_idx_files_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, n in (("train", 50), ("t10k", 20)):
        idx(tmp_path / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 255, (n, 6, 6), dtype=np.uint8))
        idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", rng.integers(0, 3, n, dtype=np.uint8))
    task = nasplat.load_task(str(tmp_path))
    assert (len(task.train), len(task.decide), len(task.test)) == (40, 10, 20)
    assert task.input_shape == (1, 6, 6)
    assert abs(float(task.train.x.mean())) < 0.01
    assert len(nasplat.load_task(str(tmp_path), limit=7).train) == 7
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes([0, 0, 8, 3, 0, 0])))
    with pytest.raises(TaskError, match="expected an IDX file"):
        nasplat.load_task(str(tmp_path))


def test_npz_files_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        np.savez(
            tmp_path / f"{part}.npz", x=rng.integers(0, 255, (30, 5, 5, 3), dtype=np.uint8), y=rng.integers(0, 4, 30)
        )
    assert nasplat.load_task(str(tmp_path)).input_shape == (3, 5, 5)
    np.savez(tmp_path / "train.npz", pictures=np.zeros(3))
    with pytest.raises(TaskError, match=r"expected arrays x and y .* got pictures"):
        nasplat.load_task(str(tmp_path))
    np.savez(tmp_path / "train.npz", x=np.array([{}], dtype=object), y=np.zeros(1))
    with pytest.raises(TaskError, match="expected an npz file"):
        nasplat.load_task(str(tmp_path))


def test_predicted_residuals_are_undone() -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, 5, 6, 3)).astype(np.int16)
    planes = np.stack([image[..., 1], image[..., 0] - image[..., 1], image[..., 2] - image[..., 1]])
    residual = np.zeros((3, 3, 5, 6), np.uint8)
    for c, plane in enumerate(planes):
        for i in range(5):
            for j in range(6):
                if i and j:
                    left, up, corner = plane[:, i, j - 1], plane[:, i - 1, j], plane[:, i - 1, j - 1]
                    guess = np.clip(left + up - corner, np.minimum(left, up), np.maximum(left, up))
                else:
                    guess = plane[:, 0, j - 1] if j else plane[:, i - 1, 0] if i else 0
                residual[c, :, i, j] = (plane[:, i, j] - guess) & 255
    assert np.array_equal(unpredict(residual), image.astype(np.uint8))


def test_augmentation_moves_pixels_but_keeps_shape() -> None:
    x = torch.arange(2 * 3 * 6 * 6).float().reshape(2, 3, 6, 6)
    y = flip_and_shift(x, torch.Generator().manual_seed(0))
    assert y.shape == x.shape
    assert not torch.equal(x, y)


def test_unknown_names_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"\(digits-clutter, digits-mask, digits-place, stereo-synthetic.*\) or a folder"
    ):
        nasplat.load_task("imagenet")
    with pytest.raises(TaskError, match="got nothing"):
        nasplat.load_task(str(tmp_path))
    with pytest.raises(TaskError, match="does not take these options"):
        nasplat.load_task("digits-clutter", colour=True)


def picture(path: Path, value: int, side: int = 6, mode: str = "L") -> None:
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new(mode, (side, side), value if mode == "L" else (value, 0, 0)).save(path)


def test_folders_of_pictures_are_read(tmp_path: Path) -> None:
    for part, n in (("train", 15), ("test", 4)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(n):
                picture(tmp_path / part / name / f"{i}.png", 100 * label + i)
    task = nasplat.load_task(str(tmp_path))
    assert (len(task.train), len(task.decide), len(task.test)) == (24, 6, 8)
    assert task.input_shape == (1, 6, 6)
    assert task.classes == 2
    bright = task.test.x.flatten(1).mean(1)
    assert bright[task.test.y == 1].min() > bright[task.test.y == 0].max()
    picture(tmp_path / "train" / "cat" / "odd.png", 1, side=9, mode="RGB")
    with pytest.raises(TaskError, match=r"(?s)pictures of one size, got 6×6 and 9×9.*\?side=32"):
        nasplat.load_task(str(tmp_path))
    resized = nasplat.load_task(f"{tmp_path}?side=8&limit=10")
    assert resized.train.x.shape == (10, 3, 8, 8)  # one picture has colours
    with pytest.raises(TaskError, match="does not take these options"):
        nasplat.load_task(f"{tmp_path}?speed=8")


def test_pictures_without_a_test_set_give_a_sixth(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for i in range(30):
            picture(tmp_path / name / f"{i}.jpg", 10 * i % 250)
    task = nasplat.load_task(str(tmp_path))
    assert (len(task.train), len(task.decide), len(task.test)) == (40, 10, 10)
    (tmp_path / "a" / "0.jpg").write_bytes(b"no picture")
    with pytest.raises(TaskError, match=r"expected a picture, got .*0.jpg"):
        nasplat.load_task(str(tmp_path))


def test_classes_of_training_and_test_must_agree(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "cat" / "1.png", 1)
    picture(tmp_path / "test" / "dog" / "1.png", 1)
    with pytest.raises(TaskError, match="the same classes for training and test, got cat and dog"):
        nasplat.load_task(str(tmp_path))


def test_pictures_without_pillow_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cat").mkdir()
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(nasplat.errors.MissingExtraError, match=r"nasplat\[images\]"):
        nasplat.load_task(str(tmp_path))


def test_chance_is_the_commonest_class() -> None:
    x, y = torch.zeros(8, 2), torch.tensor([0, 1, 1, 1, 2, 2, 0, 1])
    assert nasplat.Task.from_arrays((x, y), (x, y)).chance == 50.0
    assert nasplat.Task.from_arrays((x, y), (x, y), metric=lambda o, t: o).chance is None


def test_a_part_of_a_split_is_spread_over_it() -> None:
    x, y = torch.arange(100.0)[:, None], torch.zeros(100, dtype=torch.long)
    task = nasplat.Task.from_arrays((x, y), (x, y), metric=lambda output, target: output[:, 0])
    assert task.evaluate(nn.Identity(), limit=4) == (0 + 25 + 50 + 75) / 4


def test_a_task_prints_in_one_line_and_as_a_small_table() -> None:
    x = np.zeros((6, 3, 8, 8))
    task = nasplat.Task.from_arrays((x, np.arange(6) % 2), (x, np.arange(6) % 2), name="<mine>")
    assert repr(task) == "Task(<mine>: 6 train, 6 decide, 6 test of shape (3, 8, 8), accuracy_percent)"
    shown = task._repr_html_()
    assert "&lt;mine&gt;" in shown
    assert "3 × 8 × 8" in shown
    assert "one of 2 classes" in shown
    numbers = nasplat.Task.from_arrays((x, np.zeros(6)), (x, np.zeros(6)), loss=F.mse_loss, metric=distance)
    assert "a number" in numbers._repr_html_()
