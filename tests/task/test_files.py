"""Folders of arrays: what comes back is standardised by the training images alone."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nasplat
from nasplat.errors import TaskError
from nasplat.task import files

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 3)])
def test_slices_are_standardised_as_the_whole_would_be(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    n = 2 * files.AT_ONCE + 7
    whole = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
    for name, x in (("train", whole), ("test", whole[::-1])):
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(n) % 5)
    task = nasplat.load_task(str(tmp_path))
    kept = np.random.default_rng(0).permutation(n)[n // 5 :]
    scaled = whole[kept].astype(np.float32) / 255.0
    values = (scaled - scaled.mean((0, 1, 2))) / (scaled.std((0, 1, 2)) + 1e-6)
    expected = values[:, None] if len(shape) == 2 else values.transpose(0, 3, 1, 2)
    assert np.array_equal(task.train.x.numpy(), expected)
    assert task.train.x.is_contiguous()


# -- labels and images as people keep them -----------------------------------------------------------------------------


def arrays(folder: Path, x: Any = None, y: Any = None, tx: Any = None, ty: Any = None) -> str:
    """A folder of two npz files of 20 and 10 small images of three classes, in parts other ones."""
    rng = np.random.default_rng(0)
    made = [rng.integers(0, 256, (n, 6, 6, 3), dtype=np.uint8) if v is None else v for v, n in ((x, 20), (tx, 10))]
    labels = [np.arange(n) % 3 if v is None else v for v, n in ((y, 20), (ty, 10))]
    for part, images, numbers in zip(("train", "test"), made, labels, strict=True):
        np.savez(folder / f"{part}.npz", x=images, y=numbers)
    return str(folder)


@pytest.mark.parametrize(
    "form",
    [
        lambda y: y[:, None],
        lambda y: np.eye(3)[y],
        lambda y: y + 1,
        lambda y: y.astype(float),
        lambda y: np.array(["a", "b", "c"])[y],
    ],
)
def test_labels_of_files_are_read_as_those_of_arrays(tmp_path: Path, form: Any) -> None:
    task = nasplat.load_task(arrays(tmp_path, y=form(np.arange(20) % 3), ty=form(np.arange(10) % 3)))
    assert task.test.y.tolist() == [i % 3 for i in range(10)]
    assert task.classes == 3


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"y": np.arange(20) / 2}, r"targets of split 'train' .* got 0.5 in row 1"),
        ({"ty": np.full(10, np.nan)}, r"targets of split 'test' .* got nan in row 0"),
        ({"y": np.arange(30) % 3}, "as many labels as images in 'train' .* 20 images and 30 labels"),
        ({"ty": np.arange(9) % 3}, "in 'test' .* 10 images and 9 labels"),
        ({"y": np.arange(20) % 2 * 7}, r"2 different ones from 0 to 7|different ones from 0 to 7"),
        ({"x": np.zeros((20, 36))}, r"images of 'train' .* expected an array \(n, h, w\) or .* shape \(20, 36\)"),
        (
            {"x": np.full((20, 6, 6), np.nan)},
            "images of 'train' .* got NaN or infinity in 20 images, first in number 0",
        ),
        ({"tx": np.zeros((10, 6, 6, 3))}, "one kind of numbers, got bytes in 'train' and float64 in 'test'"),
        ({"tx": np.zeros((10, 8, 8, 3), np.uint8)}, r"'test' .* expected inputs of shape \(3, 6, 6\), got \(3, 8, 8\)"),
        ({"x": np.zeros((1, 6, 6, 3), np.uint8), "y": [0]}, "two training images or more .* got 1"),
        ({"x": np.zeros((0, 6, 6, 3), np.uint8), "y": np.zeros(0)}, "images of 'train' .* expected an array"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, parts: dict[str, Any], says: str) -> None:
    with pytest.raises(TaskError, match=says):
        nasplat.load_task(arrays(tmp_path, **parts))


def test_channels_first_are_turned_and_maps_are_not_moved(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
    right = nasplat.load_task(arrays(tmp_path, x=x))
    turned = nasplat.load_task(arrays(tmp_path, x=x.transpose(0, 3, 1, 2)))
    assert torch.equal(right.train.x, turned.train.x)
    assert "have their channels first, and were turned round" in turned.notes[0]
    maps = nasplat.load_task(arrays(tmp_path, y=x[..., 0] % 3, ty=np.zeros((10, 6, 6), int)))
    assert maps.augment is None
    assert maps.train.y.shape == (16, 6, 6)


def test_options_keep_class_numbers_and_are_checked(tmp_path: Path) -> None:
    folder = arrays(tmp_path, y=np.arange(20) % 2 * 7, ty=np.arange(10) % 2 * 7)
    task = nasplat.load_task(f"{folder}?classes=10")
    assert (task.classes, sorted(set(task.train.y.tolist()))) == (10, [0, 7])
    for word in ("side=0", "limit=-1", "decide=half", "classes=2.5", "limit=true"):
        with pytest.raises(TaskError, match=f"expected {word.partition('=')[0]} as a whole number from 1"):
            nasplat.load_task(f"{folder}?{word}")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY no archive", b"text"])
def test_broken_archives_are_named(tmp_path: Path, data: bytes) -> None:
    folder = arrays(tmp_path)
    (tmp_path / "test.npz").write_bytes(data)
    with pytest.raises(TaskError, match=r"expected an npz file of images, got .*test\.npz"):
        nasplat.load_task(folder)


def test_archives_and_idx_files_do_not_unpack_beyond_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LEAST_LIMIT", 2**16)
    np.savez_compressed(tmp_path / "train.npz", x=np.zeros((2000, 32, 32)), y=np.zeros(2000))
    with pytest.raises(TaskError, match=r"bytes unpack to 16,"):
        files.read_npz(tmp_path / "train.npz")
    head = bytes([0, 0, 8, 1]) + struct.pack(">I", 2**24)
    (tmp_path / "x.gz").write_bytes(gzip.compress(head + bytes(2**24)))
    with pytest.raises(TaskError, match=r"bytes cannot hold \(16777216,\)"):
        files.read_idx(tmp_path / "x.gz")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (bytes([0, 0, 8, 1]) + struct.pack(">I", 4) + b"abc", r"shape \(4,\) needs 4 bytes, there are 3"),
        (bytes([0, 0, 8, 1]) + struct.pack(">I", 4) + b"abcde", "there are more"),
        (bytes([0, 0, 13, 1]) + struct.pack(">I", 1) + bytes(4), "element type 13"),
        (b"\x89PNG", "it begins with"),
        (b"", "it begins with"),
    ],
)
def test_torn_idx_files_are_named(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(TaskError, match=says):
        files.read_idx(tmp_path / "x")


def test_files_that_were_not_read_are_told(tmp_path: Path) -> None:
    folder = arrays(tmp_path)
    (tmp_path / "val.npz").write_bytes((tmp_path / "test.npz").read_bytes())
    assert nasplat.load_task(folder).notes == ("not read: val.npz; decisions rest on a part of train.npz",)


def test_images_of_arrays_are_resized_as_pictures_are(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    folder = arrays(tmp_path, x=x, tx=x[:10])
    whole, small = nasplat.load_task(folder), nasplat.load_task(f"{folder}?side=4")
    assert (whole.input_shape, small.input_shape) == ((3, 8, 8), (3, 4, 4))
    assert torch.allclose(small.train.x.mean((2, 3)), whole.train.x.mean((2, 3)), atol=0.1)
    assert torch.equal(nasplat.load_task(f"{folder}?side=8").test.x, whole.test.x)
    maps = arrays(tmp_path, x=x, tx=x[:10], y=x[..., 0] % 3, ty=x[:10, ..., 0] % 3)
    with pytest.raises(TaskError, match=r"expected side with classes, got maps of shape \(8, 8\)"):
        nasplat.load_task(f"{maps}?side=4")
