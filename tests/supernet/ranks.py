"""One of several processes of a training, for test_processes.py: `ranks.py FOLDER EPOCHS [strategy [teacher]]`, started as torchrun would."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

import nasplat
from nasplat.supernet.processes import join, leave


def main() -> None:
    folder, epochs, strategy = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "single-path"
    torch.set_num_threads(1)
    processes, device = join("cpu")
    space = nasplat.load_space("vit", size="mini", image=16, patch=4, channels=1, classes=10, head_dim=8)
    task = nasplat.load_task("digits-clutter", train=320, decide=64, test=64)
    supernet = nasplat.Supernet(space, task, seed=3, device=device)
    teacher = nasplat.Supernet(space, task, seed=4) if len(sys.argv) > 4 else None
    options = {"distill": "features", "pick": "best"} if teacher is not None else {}
    checkpoint = folder / "checkpoint" if folder.name != "none" else None
    history = supernet.train(
        epochs=epochs, strategy=strategy, batch_size=64, checkpoint=checkpoint, teacher=teacher, watch=False, **options
    )
    found = {
        "rank": processes.rank,
        "size": processes.size,
        "fingerprint": supernet.fingerprint,
        "losses": [e.loss for e in history],
    }
    (folder / f"{processes.rank}.json").write_text(json.dumps(found), encoding="utf-8")
    leave()


if __name__ == "__main__":
    main()
