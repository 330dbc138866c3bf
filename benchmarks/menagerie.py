"""The menagerie: networks of every classification space, trained on many tasks by one recipe, with learning curves.

The table `tables/menagerie.csv.gz` is made by `nasplat.label_across`. Interrupt it at will: the journal keeps what is
done, and rows of a table that is there are not trained again, so that the same command goes on on another machine.
Real images are read from folders below `--images`; without it, tasks that are drawn and digits remain.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive nice python benchmarks/menagerie.py --images DIR
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import optuna
import torch

import nasplat
from nasplat.study.storage import open_storage
from nasplat.task.training import Budget
from nasplat.workflows.label_across import NAME, label_across, read_across

HERE = Path(__file__).parent
TABLE = HERE / "tables" / "menagerie.csv.gz"
SPACES = (
    *("convnet", "resnet", "densenet", "convnext", "mixer", "mlp", "unet", "signal"),
    "darts?width=4&cells=2",
    "emo?base=0.35&depths=[[1,2],[1,2],[1,2,3],[1,2]]&stem=8&stem_stride=1&window=4",
    "fbnet?base=0.35&layers=[1,1,2,1,2,1,1]&last_width=128&stem_stride=1",
    "hiaml?width=8&stem_stride=1",
    "hybrid?widths=[[8,16,32],[16,32,64]]&depths=[[1,2,3],[1,2,3]]&stem_stride=1&window=4&head_dim=8",
    "inception?width=[4,8,16]&stages=3&depths=[1,2]&budget=2&stem_stride=2",
    "mnasnet?base=0.35&depths=[[1],[1,2],[1,2],[1,2],[1],[1,2],[1]]&stem_stride=1",
    "nasbench101?width=16&cells=1",
    "nasbench201?width=8&cells=1",
    "nasbench_macro?base=0.35",
    "nasnet?width=8&cells=1&stem=8",
    "ofa_mobilenetv3?base=0.5&widths=[0.25,1.0,2.0]&depths=[1,2,3]&expands=[1,3,6]&units=3&stem_stride=1",
    "ofa_resnet50?base=0.25&stem_stride=2&stages=3&depths=[0,1]",
    'pit?patch=4&stride=2&widths=[8,12,16]&heads=["1,2,4","2,2,4","2,4,4"]&depths=[[1,2],[1,2],[1,2]]',
    "proxylessnas?base=0.35&depths=[[1,2],[1,2],[1,2],[1,2],[1],[1]]&stem_stride=1",
    "transnas_macro?width=8&stem_stride=1",
    "transnas_micro?width=8&stem_stride=1",
    "two_path?width=6&stem_stride=1",
    "vit?size=mini&patch=4&head_dim=8",
)
"""Every space of classifiers at a size for one core, one of maps and one of sequences."""
DRAWN = ("digits-clutter", "shapes", "textures", "noisy:digits-clutter", "shapes-mask", "waves", "motifs")
"""Tasks that need no data."""
PICTURES = (
    "fashion_mnist?limit=10000&side=20",
    "cifar10?limit=10000&side=16",
    "rotation:fashion_mnist?limit=10000&side=16",
    "small:fashion_mnist?side=16",
    "imbalanced:cifar10?side=16",
    "cifar100?side=16",
    "noisy:fashion_mnist?limit=10000&side=16",
)
"""Tasks of real images, by their folders."""
LEFT_OUT = ("tinyimagenet16",)
"""Tasks that do not tell networks apart: 120 classes of 16 training images each gave ten networks of ten spaces 1.5 to 4.7 %
after this recipe, on 600 test images, whose standard error is 0.7 points."""
RECIPE = Budget(batch_size=32, lr=2e-3, steps=300)
"""AdamW, weight decay 0.01, gradients clipped at 1, warm-up of a tenth and cosine; see `nasplat.task.training`."""
EVERY = 20
"""Trainings after which the table is written."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="Folder of fashion_mnist, cifar10, cifar100.")
    parser.add_argument("--journal", type=Path, default=HERE / "results" / "menagerie.journal")
    parser.add_argument("--networks", type=int, default=10, help="Of each space on each task.")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    journal, started = str(arguments.journal.resolve()), time.monotonic()
    if arguments.images is not None:
        os.chdir(arguments.images)  # the folders' names name the tasks
    tasks = tuple(t for pair in zip(DRAWN, PICTURES, strict=True) for t in pair) if arguments.images else DRAWN

    def save(progress: nasplat.study.Progress) -> None:
        if progress.done % EVERY == 0:
            write(read_across(optuna.load_study(study_name=NAME, storage=open_storage(journal))))
        hours = (time.monotonic() - started) / 3600
        print(f"{progress.done} of {progress.total}, {hours:.2f} h", progress.trial.user_attrs["job"], flush=True)

    table = label_across(
        SPACES,
        tasks,
        RECIPE,
        n=arguments.networks,
        each_task=100,
        limits={"macs": 4e6},
        seeds=2,
        repeat=0.1,
        storage=journal,
        known=nasplat.load_table(TABLE, metric="decide") if TABLE.exists() else None,
        report=save,
        tell=lambda sentence: print(sentence, flush=True),
    )
    write(table)


def write(table: nasplat.Table) -> None:
    """Save the rows of all tasks but those that were left out after a look at them."""
    table.take([i for i, row in enumerate(table.rows) if row["task"] not in LEFT_OUT]).save(TABLE)


if __name__ == "__main__":
    main()
