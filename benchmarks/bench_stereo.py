"""The largest network of `easnet-small`, trained on synthetic pairs, beside census block matching and the mean; then on real pairs.

Training shows 2,048 rendered pairs in ever other colours; judged are 128 pairs whose textures training never shows. Block matching is ours: census
transform (5 x 7), Hamming distances summed over a window, winner takes all with sub-pixel parabola, left-right check, holes filled from the smaller
neighbour of the row, 3 x 3 median; its window (5, 9 or 15) is chosen on the decide split. Real pairs are split by scene, each folder of scenes into
blocks; the network is judged on the middle parts of held-back scenes before and after it is fine-tuned on the others. Errors are counted per pixel. One
row per (data, method, seed) is appended; those present are skipped, and a training that was stopped goes on from its last epoch. Under torchrun its
processes train together.

    torchrun --nproc-per-node 2 benchmarks/bench_stereo.py --cache cache
    python benchmarks/bench_stereo.py --pairs stereo --cache cache

With a GPU, more pairs and larger crops of the real ones, which are then also judged at that size:

    python benchmarks/bench_stereo.py --device cuda --train 8192 --batch 32 --minutes 4 --render 16 --crop 160 320 --pairs stereo --cache cache
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

import nasplat
from nasplat.runs.folder import hardware, versions
from nasplat.supernet.processes import current, join, leave
from nasplat.task import Split
from nasplat.task.stereo import varied
from nasplat.task.stereo_loss import stereo_errors
from nasplat.task.stereo_scenes import scene

Answer = Callable[[Tensor], Tensor]
LARGEST = 48
MEASURES = ("epe_px", "bad1_percent", "bad2_percent", "bad3_percent", "d1_percent")
COLUMNS = ("data", "method", "seed", "pairs", "pixels", *MEASURES, "epochs", "train_seconds", "ms_per_pair")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--train", type=int, default=2048, help="Pairs of an epoch.")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=6e-3)
    parser.add_argument(
        "--likelihood", type=float, default=2.0, help="Weight of the volumes' cross-entropy; 0 is the published loss."
    )
    parser.add_argument("--tune", type=int, default=30, help="Epochs of fine-tuning on real pairs, four crops of each.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, help="Of training on synthetic pairs, about; instead of --epochs.")
    parser.add_argument("--render", type=int, default=1, help="Processes that render.")
    parser.add_argument(
        "--crop",
        type=int,
        nargs=2,
        default=(128, 256),
        help="Height and width of the parts of real pairs that are learnt.",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--pairs", type=Path, help="Folder of real pairs.")
    parser.add_argument("--cache", type=Path, required=True, help="Folder of the weights while training.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "stereo.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    processes, _ = join(arguments.device)
    arguments.out.parent.mkdir(exist_ok=True)
    if not arguments.out.exists():
        arguments.out.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    task = None
    for seed in arguments.seeds:
        present = {(r["data"], r["seed"]) for r in rows(arguments.out)}
        for data in ("synthetic", "real") if arguments.pairs else ("synthetic",):
            if (data, str(seed)) in present:
                continue
            task = task or synthetic(arguments)
            found = run(data, task, seed, arguments)
            if not processes.is_first:
                continue
            with arguments.out.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerows(found)
    leave()
    if processes.is_first:
        print(f"\n{hardware()}, {versions()}\n\n{summary(rows(arguments.out))}")


def rows(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rendered(seed: int) -> tuple[Tensor, Tensor]:
    """One training pair, as `stereo-synthetic` renders it."""
    torch.set_num_threads(1)
    found = scene(128, 256, LARGEST, seed)
    return torch.cat([found.left, found.right]).numpy(), found.disparity.numpy()


def synthetic(arguments: argparse.Namespace) -> nasplat.Task:
    """The task with its training pairs on the device, rendered by several processes."""
    options: dict[str, Any] = {
        "largest": LARGEST,
        "decide": 32,
        "test": 128,
        "fresh": False,
        "likelihood": arguments.likelihood,
    }
    if arguments.render == 1:
        return nasplat.load_task("stereo-synthetic", train=arguments.train, **options)
    task = nasplat.load_task("stereo-synthetic", train=8, **options)
    with ProcessPoolExecutor(arguments.render) as pool:
        made = list(pool.map(rendered, range(arguments.train), chunksize=32))
    views, disparity = (torch.stack([torch.from_numpy(m[k]) for m in made]).to(arguments.device) for k in (0, 1))
    whole = Split(views, disparity)
    return replace(task, train=whole, renew=lambda epoch: varied(whole, epoch))


def run(data: str, task: nasplat.Task, seed: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    if arguments.minutes:
        brief = replace(task, train=Split(task.train.x[:1024], task.train.y[:1024]), renew=None)
        _, one = trained(brief, seed, 2, arguments.lr, arguments, None)
        arguments.epochs = max(2, round(arguments.minutes * 60 / (one / 2 * len(task.train) / len(brief.train))))
        arguments.minutes = None
    module, seconds = trained(task, seed, arguments.epochs, arguments.lr, arguments, arguments.cache / f"stereo_{seed}")
    if not current().is_first:
        return []
    device = torch.device(arguments.device)
    methods: dict[str, Answer] = {"easnet-small, largest": module}
    spent = {"easnet-small, largest": (arguments.epochs, seconds)}
    if data == "real":
        options = {"largest": LARGEST, "contiguous": True, "likelihood": arguments.likelihood}
        task = nasplat.load_task(f"stereo:{arguments.pairs}", **options)
        larger = nasplat.load_task(f"stereo:{arguments.pairs}", **options, crop=tuple(arguments.crop))
        print(larger, flush=True)
        tuned = arguments.cache / f"tuned_{seed}"
        other, more = trained(larger, seed, arguments.tune, arguments.lr / 4, arguments, tuned, module)
        methods = {"easnet-small, largest, not fine-tuned": module, "easnet-small, largest, fine-tuned": other}
        spent = {
            "easnet-small, largest, not fine-tuned": (0, 0.0),
            "easnet-small, largest, fine-tuned": (arguments.tune, more),
        }
    parts = {data: task.test}
    if data == "real" and tuple(arguments.crop) != (128, 256):
        parts[f"real, {arguments.crop[0]} x {arguments.crop[1]}"] = larger.test
    side = min((5, 9, 15), key=lambda s: stereo_errors(partial(matched, side=s), task.decide.to(device))["epe_px"])
    mean = float(task.train.y[task.train.y > 0].mean())
    methods[f"block matching, window {side}"] = partial(matched, side=side)
    methods["mean of the training scenes"] = lambda x: torch.full_like(x[:, 0], mean)
    found = []
    for part, split in parts.items():
        for method, answer in methods.items():
            started = time.perf_counter()
            measured = stereo_errors(answer, split.to(device), 1)
            pace = 1e3 * (time.perf_counter() - started) / len(split)
            epochs, took = spent.get(method, (0, 0.0))
            row = {"data": part, "method": method, "seed": seed, "pairs": len(split), "epochs": epochs}
            row |= {"train_seconds": round(took), "ms_per_pair": round(pace, 1), "pixels": int(measured["pixels"])}
            found.append(row | {m: measured[m] for m in MEASURES})
            print(
                f"{part}, {method}: EPE {measured['epe_px']:.2f} px, bad-3 {measured['bad3_percent']:.1f} %", flush=True
            )
    return found


def trained(
    task: nasplat.Task,
    seed: int,
    epochs: int,
    lr: float,
    arguments: argparse.Namespace,
    folder: Path | None,
    start: torch.nn.Module | None = None,
) -> tuple[torch.nn.Module, float]:
    """The largest network after a warm-up and a cosine, and the seconds of it; `largest.safetensors` in the folder keeps it."""
    height, width = task.input_shape[1:]
    space = nasplat.load_space("easnet-small", height=height, width=width)
    single = nasplat.Supernet(space.only(space.extreme(True)), task, seed, arguments.device)
    if start is not None:
        single.adopt(start)

    def report(epoch: Any, total: int) -> None:
        left = epoch.seconds * (total - epoch.epoch)
        error = "" if epoch.health is None else f", decide {epoch.health.largest:.2f} px"
        print(
            f"epoch {epoch.epoch} of {total}: loss {epoch.loss:.2f}{error}, {epoch.seconds:.0f} s, ETA {left:.0f} s",
            flush=True,
        )

    told = single.train(
        **{
            "epochs": epochs,
            "strategy": "single-path",
            "batch_size": arguments.batch,
            "lr": lr,
            "weight_decay": 1e-4,
            "clip": 10.0,
            "bf16": arguments.device != "cpu",
        },
        checkpoint=folder,
        report=report,
    )
    module = single.subnet(single.space.extreme())
    if current().is_first and folder is not None:
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / "largest.safetensors")
    return module, sum(e.seconds for e in told)


def matched(views: Tensor, side: int) -> Tensor:
    """Disparities of census block matching, shape (B, 6, H, W) to (B, H, W)."""
    codes = [census(v.mean(1, keepdim=True)) for v in views.chunk(2, 1)]
    left, right = volume(*codes, side), volume(*(c.flip(3) for c in reversed(codes)), side).flip(3)
    found, other = winner(left), winner(right)
    columns = torch.arange(views.shape[3], dtype=found.dtype, device=found.device)
    there = (columns - found).round().clamp(0, views.shape[3] - 1).long()
    agrees = (found - other.gather(2, there)).abs() <= 1.5
    return median(filled(torch.where(agrees, found, -1)))


def census(gray: Tensor) -> Tensor:
    """Which neighbours in a window of 5 x 7 are brighter: shape (B, 1, H, W) to (B, 35, H, W) of 0 and 1."""
    around = F.unfold(F.pad(gray, (3, 3, 2, 2), mode="replicate"), (5, 7)).unflatten(2, gray.shape[2:])
    return (around > gray).float()


def volume(left: Tensor, right: Tensor, side: int) -> Tensor:
    """Hamming distances summed over windows, shape (B, D, H, W); large where the right view ends."""
    found = []
    for d in range(LARGEST):
        shifted = F.pad(right, (d, 0))[..., : right.shape[3]]
        cost = (left - shifted).abs().sum(1, keepdim=True)
        cost[..., :d] = left.shape[1]
        found.append(F.avg_pool2d(F.pad(cost, (side // 2,) * 4, mode="replicate"), side, 1))
    return torch.cat(found, 1)


def winner(costs: Tensor) -> Tensor:
    """The cheapest disparity, between whole numbers by a parabola."""
    best = costs.argmin(1, keepdim=True)
    inner = best.clamp(1, costs.shape[1] - 2)
    below, at, above = (costs.gather(1, inner + k) for k in (-1, 0, 1))
    shift = ((below - above) / (2 * (below - 2 * at + above)).clamp_min(1e-6)).clamp(-0.5, 0.5)
    return torch.where(best == inner, inner + shift, best.to(shift.dtype))[:, 0]


def filled(disparity: Tensor) -> Tensor:
    """What is unknown (negative) takes the smaller of its nearest known neighbours in the row, as what is hidden lies behind."""

    def carried(x: Tensor) -> Tensor:
        place = torch.where(x >= 0, torch.arange(x.shape[2], device=x.device), -1).cummax(2).values
        return torch.where(place >= 0, x.gather(2, place.clamp_min(0)), torch.inf)

    nearest = torch.minimum(carried(disparity), carried(disparity.flip(2)).flip(2))
    return torch.where(disparity >= 0, disparity, torch.where(nearest.isinf(), 0, nearest))


def median(disparity: Tensor) -> Tensor:
    around = F.unfold(F.pad(disparity[:, None], (1, 1, 1, 1), mode="replicate"), 3)
    return around.median(1).values.unflatten(1, disparity.shape[1:])


def summary(found: list[dict[str, str]]) -> str:
    lines = ["| data | pairs | method | seed | EPE, px | bad-1 | bad-2 | bad-3 | D1 | ms a pair |", "|---" * 10 + "|"]
    for r in found:
        cells = [f"{float(r[m]):.2f}" + (" %" if m.endswith("percent") else "") for m in MEASURES]
        lines.append(
            f"| {r['data']} | {r['pairs']} | {r['method']} | {r['seed']} | {' | '.join(cells)} | {float(r['ms_per_pair']):.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
