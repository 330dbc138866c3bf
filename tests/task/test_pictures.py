"""Pictures as they lie on people's disks: upright, whole, in their own depth, or refused by file and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nasplat
from nasplat.errors import TaskError
from nasplat.task import pictures
from nasplat.task.pictures import read_pictures
from nasplat.task.stereo_pairs import read_picture

Image: Any = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.fast

GREY = np.arange(36, dtype=np.uint8).reshape(6, 6) * 7
COLOUR = np.stack([GREY, GREY.T, 255 - GREY], -1)


def saved(file: Path, pixels: Any, mode: str | None = None, **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    (picture if mode is None else picture.convert(mode)).save(file, **options)
    return file


def alone(folder: Path) -> Any:
    return read_pictures(folder).images[0]


def test_pictures_stand_upright_as_their_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90°
    saved(tmp_path / "a" / "1.png", GREY, exif=exif)
    assert np.array_equal(alone(tmp_path), np.rot90(GREY, -1))


@pytest.mark.parametrize("mode", ["P", "CMYK", "RGBA", "YCbCr"])
def test_colours_of_any_kind_become_rgb(tmp_path: Path, mode: str) -> None:
    saved(tmp_path / "a" / ("1.tif" if mode in {"CMYK", "YCbCr"} else "1.png"), COLOUR, mode)
    assert alone(tmp_path).shape == (6, 6, 3)
    assert alone(tmp_path).dtype == np.uint8
    assert np.abs(alone(tmp_path).astype(int) - COLOUR).mean() < 20


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_stays_grey(tmp_path: Path, mode: str) -> None:
    saved(tmp_path / "a" / "1.png", GREY, mode)
    assert alone(tmp_path).shape == (6, 6)


def test_sixteen_bits_keep_their_depth_beside_eight(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 257
    for ending in ("png", "tif"):
        saved(tmp_path / ending / f"1.{ending}", deep)
    saved(tmp_path / "flat" / "1.png", GREY)
    found = read_pictures(tmp_path).images
    assert found.dtype == np.float32
    assert np.allclose(found, GREY / 255, atol=1e-6)
    assert np.allclose(read_pictures(tmp_path, side=3).images.mean(), GREY.mean() / 255, atol=0.02)


def test_of_several_frames_the_first_counts_and_is_told(tmp_path: Path) -> None:
    frames = [Image.fromarray(p) for p in (GREY, GREY.T)]
    (tmp_path / "a").mkdir()
    frames[0].save(tmp_path / "a" / "1.tif", save_all=True, append_images=frames[1:])
    found = read_pictures(tmp_path)
    assert np.array_equal(found.images[0], GREY)
    assert found.notes == ("1 pictures have several frames, of which the first was taken",)


def test_hidden_and_foreign_files_are_passed_by_and_told(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for i in range(6):
            saved(tmp_path / name / f"{i}.png", GREY)
    for hidden in (".DS_Store", "cat/.DS_Store", "cat/._1.png", "dog/Thumbs.db"):
        (tmp_path / hidden).write_bytes(b"")
    for folder in (".ipynb_checkpoints", "__MACOSX", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "cat" / "new.heic").write_bytes(b"")
    saved(tmp_path / "stray.png", GREY)
    task = nasplat.load_task(str(tmp_path))
    assert (task.classes, task.class_names) == (2, ("cat", "dog"))
    assert len(task.train) + len(task.decide) + len(task.test) == 12
    assert task.notes[0] == "left out: 1 files .heic, 1 pictures in no folder of a class"
    assert task.notes[1] == "folders without a picture are no classes: empty"
    with pytest.raises(TaskError, match=r"expected 5 classes in .*, got 2 folders"):
        nasplat.load_task(str(tmp_path), classes=5)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0", b"not a picture"])
def test_broken_pictures_are_named(tmp_path: Path, data: bytes) -> None:
    saved(tmp_path / "a" / "1.png", GREY)
    (tmp_path / "a" / "2.png").write_bytes(data)
    with pytest.raises(TaskError, match=r"expected a picture, got .*2\.png.*\n  Take it out"):
        read_pictures(tmp_path)


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "tif", "bmp", "webp"])
def test_torn_pictures_are_named(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    whole = saved(tmp_path / f"a/1.{ending}", noise).read_bytes()
    (tmp_path / f"a/1.{ending}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TaskError, match="expected a picture"):
        read_pictures(tmp_path)


def test_bombs_are_refused_before_they_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "a" / "1.png", GREY)
    monkeypatch.setattr(pictures, "PIXELS", 35)
    with pytest.raises(TaskError, match=r"1\.png' \(6×6 pixels are more than 35\)"):
        read_pictures(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(TaskError, match="decompression bomb"):
        read_pictures(tmp_path)


@pytest.mark.parametrize("pixels", [GREY.astype(np.float32), GREY.astype(np.int32) * 100_000])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, pixels: Any) -> None:
    saved(tmp_path / "a" / "1.tif", pixels)
    with pytest.raises(TaskError, match="save them with 8 or 16 bits"):
        read_pictures(tmp_path)


def test_folders_that_were_not_read_are_told(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        for i in range(6):
            saved(tmp_path / part / "cat" / f"{i}.png", GREY)
            saved(tmp_path / part / "dog" / f"{i}.png", COLOUR if part == "test" else GREY)
    task = nasplat.load_task(str(tmp_path))
    assert task.input_shape == (3, 6, 6)
    assert task.notes == ("not read: folders val; decisions rest on a part of train",)


def test_views_of_sixteen_bits_keep_their_contrast(tmp_path: Path) -> None:
    deep, plain = saved(tmp_path / "16.png", GREY.astype(np.uint16) * 257), saved(tmp_path / "8.png", GREY)
    assert np.allclose(read_picture(deep), read_picture(plain), atol=1e-6)
    assert np.array_equal(
        read_picture(saved(tmp_path / "c.png", COLOUR)), (COLOUR / np.float32(255)).transpose(2, 0, 1)
    )
