"""One of several processes of a training, for test_processes.py: `ranks.py FOLDER EPOCHS [strategy [teacher]]`.

Environment variables name the processes, as torchrun sets them. The first process says in files how far it is: `saving`
holds the epoch whose checkpoint is being written, `saved` that whose checkpoint is whole.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

import nasplat
from nasplat.supernet import training
from nasplat.supernet.history import Epoch
from nasplat.supernet.processes import join, leave


def trained(
    folder: Path | None, epochs: int, strategy: str = "single-path", teaches: bool = False, device: str = "cpu"
) -> nasplat.Supernet:
    """The training that all processes do, or one does alone."""
    space = nasplat.load_space("vit", size="mini", image=16, patch=4, channels=1, classes=10, head_dim=8)
    task = nasplat.load_task("digits-clutter", train=320, decide=64, test=64)
    supernet = nasplat.Supernet(space, task, seed=3, device=device)
    teacher = nasplat.Supernet(space, task, seed=4) if teaches else None
    options = {"distill": "features", "pick": "best"} if teaches else {}

    def report(epoch: Epoch, total: int) -> None:
        if folder is not None:
            (folder / "saved").write_text(str(epoch.epoch), encoding="utf-8")

    supernet.train(
        epochs=epochs,
        strategy=strategy,
        batch_size=64,
        checkpoint=folder and folder / "checkpoint",
        teacher=teacher,
        watch=False,
        report=report,
        **options,
    )
    return supernet


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    write = training.write_checkpoint

    def write_checkpoint(into: Path, metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> None:
        (folder / "saving").write_text(metadata["epochs_done"], encoding="utf-8")
        write(into, metadata, tensors)

    training.write_checkpoint = write_checkpoint
    processes, device = join("cpu")
    supernet = trained(folder, int(sys.argv[2]), *sys.argv[3:4], teaches=len(sys.argv) > 4, device=device)
    found = {
        "rank": processes.rank,
        "size": processes.size,
        "fingerprint": supernet.fingerprint,
        "losses": [e.loss for e in supernet.history],
    }
    (folder / f"{processes.rank}.json").write_text(json.dumps(found), encoding="utf-8")
    leave()


if __name__ == "__main__":
    main()
