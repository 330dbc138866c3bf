"""Stereo tasks: exact scenes, readers of every layout, losses and metrics against hand-computed cases, broken data."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import nasplat
from nasplat.errors import TaskError
from nasplat.task import Split
from nasplat.task.stereo import varied
from nasplat.task.stereo_loss import (
    DisparityMaps,
    disparity_errors,
    epe,
    likelihood,
    map_weights,
    stereo_errors,
    stereo_loss,
    with_likelihood,
)
from nasplat.task.stereo_pairs import Pair, find_pairs, listed_pairs, read_disparity, read_pair, read_pfm, write_pfm
from nasplat.task.stereo_pictures import ERRORS, FAR_TO_NEAR, UNKNOWN, stereo_pictures
from nasplat.task.stereo_scenes import scene, scenes

Image = pytest.importorskip("PIL.Image")


def test_scenes_are_exact_where_both_views_see() -> None:
    for seed in range(3):
        s = scene(64, 128, 24, seed, cameras=False)
        assert s.disparity.min() > 0
        assert s.disparity.max() < 24
        x = torch.arange(128.0) - s.disparity
        low = x.floor().clamp(0, 126).long()
        share = (x - low).clamp(0, 1)
        seen = (
            s.right.gather(2, low.expand(3, -1, -1)) * (1 - share)
            + s.right.gather(2, (low + 1).expand(3, -1, -1)) * share
        )
        error = (seen - s.left).abs().mean(0)
        assert error[~s.occluded].mean() < 0.02
        assert error[~s.occluded].mean() < 0.2 * (s.left - s.right).abs().mean()
        taken = scene(64, 128, 24, seed)
        assert torch.equal(taken.disparity, s.disparity)
        assert 0.003 < (taken.left - s.left).abs().mean() < 0.1


def test_scenes_have_slants_thin_things_and_hidden_places() -> None:
    _, disparity, occluded = scenes(8, 128, 256, 48, 0, "test")
    assert occluded.float().mean() > 0.05
    assert (disparity - disparity.mean()).abs().mean() > 8
    slopes = (disparity[:, :, 1:] - disparity[:, :, :-1]).abs()
    assert ((slopes > 1e-4) & (slopes < 0.2)).float().mean() > 0.5
    again = scenes(8, 128, 256, 48, 0, "test")[1]
    assert torch.equal(disparity, again)
    assert not torch.equal(disparity, scenes(8, 128, 256, 48, 0, "decide")[1])
    with pytest.raises(TaskError, match="a split among train, decide, test"):
        scene(64, 128, 24, 0, "validation")
    with pytest.raises(TaskError, match="largest disparity <= width / 2"):
        scene(64, 40, 24, 0)


def test_errors_are_counted_per_known_pixel() -> None:
    target = torch.tensor([[[0.0, 10.0, 100.0, 100.0, 20.0]]])
    predicted = torch.tensor([[[99.0, 10.5, 104.0, 106.0, 17.5]]])  # errors .5, 4, 6, 2.5 on known pixels
    found = disparity_errors(predicted, target)
    assert found == pytest.approx(
        {
            "epe_px": 13 / 4,
            "bad1_percent": 75.0,
            "bad2_percent": 75.0,
            "bad3_percent": 50.0,
            "d1_percent": 25.0,  # 4 px of 100 are below 5 %
            "pixels": 4.0,
        }
    )
    assert float(epe(predicted, target)) == pytest.approx(13 / 4)
    two = Split(torch.zeros(2, 6, 1, 5), torch.cat([target, torch.tensor([[[0, 0, 0, 0, 3.0]]])]))
    assert stereo_errors(lambda x: torch.zeros_like(x[:, 0]), two, 1)["epe_px"] == pytest.approx(
        233 / 5
    )  # not the mean of 57.5 and 3
    for wrong in (torch.zeros(1, 2, 5), torch.zeros(1, 1, 4)):
        with pytest.raises(TaskError, match="target's shape"):
            disparity_errors(wrong, target)
    with pytest.raises(TaskError, match="0 known"):
        disparity_errors(predicted, torch.zeros_like(target))


def test_the_loss_weighs_maps_from_coarse_to_fine() -> None:
    assert map_weights(6) == (1 / 3, 2 / 3, 1, 1, 1, 1)
    assert map_weights(5) == (1 / 3, 2 / 3, 1, 1, 1)
    assert map_weights(4) == (1 / 3, 2 / 3, 1, 1)
    target = torch.tensor([[[0.0, 4.0]]])
    near, far = torch.tensor([[[9.0, 4.5]]]), torch.tensor([[[9.0, 6.0]]])  # smooth L1 .125 and 1.5
    assert float(stereo_loss(near, target)) == pytest.approx(0.125)
    assert float(stereo_loss([far, near, near, near], target)) == pytest.approx(1.5 / 3 + 0.125 * 8 / 3)
    assert float(stereo_loss([near, near], torch.zeros_like(target))) == 0.0


def test_variations_change_both_views_alike_and_turn_the_truth_along() -> None:
    views, disparity, _ = scenes(6, 32, 64, 16, 0)
    same = Split(torch.cat([views[:, :3], views[:, :3]], 1), disparity)
    new = varied(same, 3)
    assert torch.equal(new.x[:, :3], new.x[:, 3:])
    turned = [not torch.equal(a, b) for a, b in zip(new.y, disparity, strict=True)]
    assert 0 < sum(turned) < 6
    assert all(torch.equal(b, a.flip(0)) for a, b, t in zip(disparity, new.y, turned, strict=True) if t)
    assert torch.equal(varied(same, 3).x, new.x)


def pfm(file: Path, values: np.ndarray, head: str, order: str) -> None:
    file.write_bytes(head.encode() + values[::-1].astype(f"{order}f4").tobytes())


def test_pfm_of_either_byte_order_and_with_blanks_is_read(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    for head, order in (
        ("Pf\n4 3\n-1.0\n", "<"),
        ("Pf\n4 3 \n-1\n", "<"),
        ("Pf\n4 3\n1.0\n", ">"),
        ("Pf 4 3 -1.0 \n", "<"),
    ):
        pfm(tmp_path / "d.pfm", values, head, order)
        assert np.array_equal(read_pfm(tmp_path / "d.pfm"), values)
    colours = np.stack([values, values + 50, values + 90], 2)
    pfm(tmp_path / "c.pfm", colours, "PF\n4 3\n-1.0\n", "<")
    assert np.array_equal(read_pfm(tmp_path / "c.pfm"), values)
    write_pfm(tmp_path / "w.pfm", values)
    assert np.array_equal(read_pfm(tmp_path / "w.pfm"), values)


@pytest.mark.parametrize("head", ["P5\n4 3\n255\n", "Pf\n4 4\n-1.0\n", "Pf\n4 3\n0\n", "Pf\nfour 3\n-1.0\n", ""])
def test_broken_pfm_is_refused_by_name(head: str, tmp_path: Path) -> None:
    pfm(tmp_path / "d.pfm", np.zeros((3, 4), np.float32), head, "<")
    with pytest.raises(TaskError, match=r"expected a PFM file, got '.*d\.pfm'"):
        read_pfm(tmp_path / "d.pfm")


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def disparity() -> np.ndarray:
    found = np.random.default_rng(1).uniform(1, 20, (40, 60)).astype(np.float32)
    found[:5] = 0
    return np.round(found * 64) / 64


def test_every_layout_is_found_and_read(tmp_path: Path, disparity: np.ndarray) -> None:
    sixteen = (disparity * 256).astype(np.uint16)
    three = np.stack([disparity // 4, (disparity % 4) * 64, np.zeros_like(disparity)], 2).astype(np.uint8)
    layouts = {
        "kitti2015": (
            "training/image_2/000001_10.png",
            "training/image_3/000001_10.png",
            "training/disp_occ_0/000001_10.png",
        ),
        "kitti2012": (
            "training/colored_0/000001_10.png",
            "training/colored_1/000001_10.png",
            "training/disp_occ/000001_10.png",
        ),
        "sceneflow": (
            "frames_cleanpass/TRAIN/A/0000/left/0006.png",
            "frames_cleanpass/TRAIN/A/0000/right/0006.png",
            "disparity/TRAIN/A/0000/left/0006.pfm",
        ),
        "sintel": ("final_left/alley/frame1.png", "final_right/alley/frame1.png", "disparities/alley/frame1.png"),
        "middlebury": ("Art/im0.png", "Art/im1.png", "Art/disp0.pfm"),
        "plain": ("one/left.png", "one/right.png", "one/disp.png"),
    }
    for name, (left, right, truth) in layouts.items():
        root = tmp_path / name
        save(root / left, picture(40, 60))
        save(root / right, picture(40, 60, 1))
        (root / truth).parent.mkdir(parents=True, exist_ok=True)
        if truth.endswith(".pfm"):
            write_pfm(root / truth, np.where(disparity > 0, disparity, np.inf).astype(np.float32))
        else:
            save(root / truth, three if name == "sintel" else sixteen)
        (pair,) = find_pairs(root)
        views, found = read_pair(pair)
        assert views.shape == (6, 40, 60)
        assert np.allclose(views[:3] * 255, picture(40, 60).transpose(2, 0, 1), atol=1e-3)
        assert np.allclose(found, disparity, atol=1e-6), name
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskError, match="expected a folder of stereo pairs"):
        find_pairs(tmp_path / "empty")


def test_broken_pairs_are_named(tmp_path: Path, disparity: np.ndarray) -> None:
    save(tmp_path / "left.png", picture(40, 60))
    save(tmp_path / "narrow.png", picture(40, 50))
    save(tmp_path / "disp.png", (disparity * 256).astype(np.uint16))
    save(tmp_path / "small.png", np.ones((20, 30), np.uint16))
    save(tmp_path / "nothing.png", np.zeros((40, 60), np.uint16))
    save(tmp_path / "eight.png", np.ones((40, 60), np.uint8))
    (tmp_path / "torn.png").write_bytes((tmp_path / "left.png").read_bytes()[:200])
    for right, truth, message in (
        ("narrow.png", "disp.png", r"'.*narrow\.png' to have the left image's size"),
        ("left.png", "small.png", r"'.*small\.png' to have the left image's size"),
        ("left.png", "nothing.png", "expected some known disparity"),
        ("left.png", "eight.png", "16-bit PNG or Sintel's RGB"),
        ("missing.png", "disp.png", r"expected a picture, got '.*missing\.png'"),
        ("torn.png", "disp.png", r"expected a picture, got '.*torn\.png'"),
    ):
        with pytest.raises(TaskError, match=message):
            read_pair(Pair(tmp_path / "left.png", tmp_path / right, tmp_path / truth, "one"))
    with pytest.raises(TaskError):
        read_disparity(tmp_path / "absent.pfm")


def write_scenes(root: Path, n: int) -> None:
    views, disparity, _ = scenes(n, 48, 96, 20, 0)
    for i in range(n):
        for name, part in (("left", views[i, :3]), ("right", views[i, 3:])):
            save(root / f"scene{i}" / f"{name}.png", (part * 255).byte().permute(1, 2, 0).numpy())
        save(root / f"scene{i}" / "disp.png", (disparity[i].numpy() * 256).astype(np.uint16))


def test_a_folder_becomes_a_task_and_bad_pairs_are_listed(tmp_path: Path) -> None:
    write_scenes(tmp_path, 6)
    (tmp_path / "scene5" / "right.png").unlink()
    task = nasplat.load_task(f"stereo:{tmp_path}", crop=(32, 64), crops=2)
    assert [len(s) for s in (task.train, task.decide, task.test)] == [6, 1, 1]
    assert len(task.notes) == 1
    assert "right.png" in task.notes[0]
    first, second = (next(iter(task.epoch(seed, 4)))[0] for seed in (0, 1))
    assert first.shape == (4, 6, 32, 64)
    assert not torch.equal(first, second)
    with pytest.raises(TaskError, match="at least 3 scenes"):
        nasplat.load_task(f"stereo:{tmp_path}", crop=(64, 128))
    with pytest.raises(TaskError, match="the nearest is crops"):
        nasplat.load_task(f"stereo:{tmp_path}?crps=2")


def test_the_small_space_learns_synthetic_scenes() -> None:
    task = nasplat.load_task("stereo-synthetic", height=48, width=96, largest=24, train=24, decide=8, test=8)
    space = nasplat.load_space("easnet-small", disparity=24, height=48, width=96)
    torch.manual_seed(0)
    module = space.extreme(False).build()
    before = stereo_errors(module, task.test)["epe_px"]
    optimiser = torch.optim.Adam(module.parameters(), 3e-3)
    module.train()
    for epoch in range(14):
        for x, y in task.epoch(epoch % 2, 4):
            optimiser.zero_grad()
            stereo_loss(module(x), y).backward()
            optimiser.step()
    assert stereo_errors(module, task.test)["epe_px"] < 0.8 * before


def test_listed_pairs_follow_the_list(tmp_path: Path) -> None:
    write_scenes(tmp_path, 4)
    lines = [f"scene{i}/left.png scene{i}/right.png scene{i}/disp.png" for i in (2, 0, 3)]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    assert [p.scene for p in listed_pairs(tmp_path / "list.txt", tmp_path)] == ["scene2", "scene0", "scene3"]
    task = nasplat.load_task(f"stereo:{tmp_path}", crop=(32, 64), crops=1, files=str(tmp_path / "list.txt"))
    assert [len(s) for s in (task.train, task.decide, task.test)] == [1, 1, 1]
    (tmp_path / "list.txt").write_text("left.png right.png\n", encoding="utf-8")
    with pytest.raises(TaskError, match="in line 1 of"):
        listed_pairs(tmp_path / "list.txt", tmp_path)


def test_mirrored_pairs_swap_the_views(tmp_path: Path) -> None:
    """A right view that is the left one moved by 4 pixels: its mirror is a pair of the same disparity."""
    for i in range(3):
        pixels = picture(40, 80, i)
        save(tmp_path / f"s{i}" / "left.png", pixels)
        save(tmp_path / f"s{i}" / "right.png", np.roll(pixels, -4, 1))
        for name in ("disp.png", "disp_right.png"):
            save(tmp_path / f"s{i}" / name, np.full((40, 80), 4 * 256, np.uint16))
    plain, more = (nasplat.load_task(f"stereo:{tmp_path}", crop=(40, 80), crops=1, mirror=m) for m in (False, True))
    assert (len(plain.train), len(more.train), len(more.test)) == (1, 2, 1)
    for views, disparity in zip(more.train.x, more.train.y, strict=True):
        assert (disparity == 4).all()
        assert torch.equal(views[:3, :, 4:], views[3:, :, :-4])
    assert torch.equal(more.train.x[1], torch.cat([more.train.x[0, 3:], more.train.x[0, :3]]).flip(2))


def test_other_seeds_train_on_other_scenes() -> None:
    tasks = [
        nasplat.load_task("stereo-synthetic", height=24, width=48, largest=8, train=2, decide=1, test=1, seed=s)
        for s in (0, 1)
    ]
    first, second = (next(iter(t.epoch(5, 2)))[1] for t in tasks)
    assert not torch.equal(first, second)


def test_volumes_should_peak_where_the_disparity_is() -> None:
    target = torch.zeros(1, 6, 9)
    target[0, 1, 1], target[0, 1, 7] = 6.0, 3.0  # middles of two blocks of 3 x 3; the other four are unknown
    similarities = torch.zeros(1, 4, 2, 3)
    flat = DisparityMaps([target], [(similarities, 3, 3)])
    assert float(likelihood(flat, target)) == pytest.approx(math.log(4))
    similarities = similarities.clone()
    similarities[0, 2, 0, 0], similarities[0, 1, 0, 2], similarities[0, 3, 1, 1] = (
        9.0,
        9.0,
        50.0,
    )  # the last at an unknown place
    peaked = DisparityMaps([target], [(similarities, 3, 3)])
    wanted = torch.softmax(-(torch.arange(4) - torch.tensor([[2.0], [1.0]])).abs() / 0.4, 1)
    told = torch.log_softmax(torch.tensor([[0.0, 0, 9, 0], [0, 9, 0, 0]]), 1)
    assert float(likelihood(peaked, target)) == pytest.approx(float(-(wanted * told).sum(1).mean()))
    assert float(with_likelihood(2.0)(peaked, target)) == pytest.approx(2 * float(likelihood(peaked, target)))
    assert with_likelihood(0.0) is stereo_loss
    assert float(likelihood([target], target)) == 0.0
    assert float(likelihood(flat, torch.zeros_like(target))) == 0.0


def test_pictures_show_both_disparities_on_one_scale_and_the_error() -> None:
    views, truth, answer = torch.rand(6, 4, 5), torch.full((4, 5), 8.0), torch.full((4, 5), 8.0)
    truth[0, 0], answer[1, 1] = 0.0, 2.0
    left, known, found, error = stereo_pictures(views, truth, answer)
    assert all(p.pixels.shape == (4, 5, 3) and p.pixels.dtype == np.uint8 for p in (left, known, found, error))
    assert np.abs(left.pixels / 255 - views[:3].permute(1, 2, 0).numpy()).max() < 0.003
    assert tuple(known.pixels[0, 0]) == tuple(error.pixels[0, 0]) == UNKNOWN
    assert tuple(known.pixels[2, 2]) == tuple(found.pixels[2, 2]) == FAR_TO_NEAR[-1]
    assert tuple(error.pixels[2, 2]) == ERRORS[0]
    assert tuple(error.pixels[1, 1]) == ERRORS[-1]
    assert "mean 0.32 px, 5.3 % off by more than 3 px" in error.caption  # one of 19 known pixels is off by 6
    assert stereo_pictures(views, torch.zeros(4, 5), answer)[3].pixels.tolist() == [[list(UNKNOWN)] * 5] * 4


def plain_pair(folder: Path, disparity: float) -> None:
    save(folder / "left.png", np.zeros((8, 16, 3), np.uint8))
    save(folder / "right.png", np.zeros((8, 16, 3), np.uint8))
    save(folder / "disp.png", np.full((8, 16), disparity * 256, np.uint16))


def test_drives_are_split_into_blocks(tmp_path: Path) -> None:
    for drive in ("a", "b"):
        for i in range(5):
            plain_pair(tmp_path / drive / f"{i:03d}", i + 1)
    task = nasplat.load_task(f"stereo:{tmp_path}", crop=(8, 16), contiguous=True)
    shown = [sorted({float(d.max()) for d in part.y}) for part in (task.train, task.decide, task.test)]
    assert shown == [[1.0, 2.0, 3.0], [4.0], [5.0]]
    for i in range(5):
        shutil.rmtree(tmp_path / "a" / f"{i:03d}")
    for i in range(3):
        shutil.rmtree(tmp_path / "b" / f"{i:03d}")
    plain_pair(tmp_path / "c" / "000", 1)
    with pytest.raises(TaskError, match="contiguous=true expected"):
        nasplat.load_task(f"stereo:{tmp_path}", crop=(8, 16), contiguous=True)
