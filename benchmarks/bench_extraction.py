"""Extraction is exact: random architectures of every space, extracted, against the network that shares the store's weights.

For each: largest output difference in eval mode with the same statistics (must be 0), parameters of the module against the count of its
graph, and the store's hash before and after a training step of the extracted module.

    python benchmarks/bench_extraction.py [--total 1000]
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import torch

import nasplat
from nasplat.runs.folder import hardware, versions

SMALL: dict[str, dict[str, Any]] = {
    "darts": {"width": 8, "cells": 3},
    "emo": {"base": 1.0, "depths": ((1, 2), (1, 2), (1, 2, 3), (1, 2)), "stem_stride": 1, "image": 32},
    "fbnet": {"base": 0.25, "layers": (1, 2, 2, 1), "last_width": 64, "stem_stride": 1, "image": 32},
    "hiaml": {"width": 8},
    "hybrid": {
        "widths": ((8, 16), (16, 32), (32, 48), (48, 64)),
        "depths": ((1, 2),) * 4,
        "head_dim": 8,
        "stem_stride": 1,
        "image": 32,
    },
    "inception": {"width": 8, "depths": (1, 2, 3), "stages": 3},
    "mnasnet": {"base": 0.25, "depths": ((1, 2),) * 7, "stem_stride": 1, "image": 32},
    "nasbench101": {"width": 16, "cells": 1},
    "nasbench201": {"width": [4, 8, 12, 16], "cells": 1},
    "nasbench_macro": {"base": 0.25},
    "nasnet": {"width": 12, "cells": 1, "stem": 8, "image": 32},
    "ofa_mobilenetv3": {"widths": [0.25, 0.5], "resolutions": [32], "depths": [1, 2, 3], "units": 3, "stem_stride": 1},
    "ofa_resnet50": {"base": 0.25, "resolutions": [32], "depths": [0, 1], "stages": 3, "stem_stride": 1},
    "pit": {
        "depths": ((1, 2), (1, 2), (1, 2)),
        "heads": ("2,2,2", "2,2,4", "2,4,4"),
        "widths": (8, 16),
        "image": 32,
        "patch": 4,
        "stride": 2,
    },
    "proxylessnas": {"base": 0.25, "resolutions": [32], "depths": ((1, 2),) * 6, "stem_stride": 1},
    "transnas_macro": {"width": 8, "image": 32, "stem_stride": 1},
    "transnas_micro": {"width": 8, "modules": (4, 1, 4), "cells": 1, "image": 32, "stem_stride": 1},
    "two_path": {"width": 8},
    "vit": {"size": "mini", "image": 32, "patch": 4, "head_dim": 8},
    **{name: {} for name in ("convnet", "convnext", "densenet", "mixer", "mlp", "resnet", "signal", "unet")},
}
"""Presets that make every space small."""


def one_space(name: str, total: int) -> dict[str, float]:
    space = nasplat.load_space(name, **SMALL[name], classes=10)
    shape = tuple(space.sample(seed=0).example_input)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, *shape[1:], generator=generator), torch.randint(0, 10, (64,), generator=generator)
    supernet = nasplat.Supernet(space, nasplat.Task.from_arrays((x, y), (x[:16], y[:16])), seed=0)
    supernet.train(epochs=3, batch_size=8, watch=False)
    before, found = (
        supernet.fingerprint,
        {"networks": 0.0, "largest difference": 0.0, "counts that differ": 0.0, "parameters": 0.0},
    )
    for i in range(total):
        architecture = space.sample(seed=10_000 + i)
        module, shared = supernet.subnet(architecture), supernet.shared(architecture)
        with torch.no_grad():
            found["largest difference"] = max(
                found["largest difference"], float((module(x[:16]) - shared(x[:16])).abs().max())
            )
        held = sum(p.numel() for p in module.parameters())
        found["counts that differ"] += held != architecture.graph().params
        found["networks"] += 1
        optimiser = torch.optim.SGD(module.train().parameters(), lr=0.5)
        output = module(x[:16])
        output.square().mean().backward()
        optimiser.step()
    found["store touched"] = float(supernet.fingerprint != before)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--total", type=int, default=1000, help="Architectures over all spaces.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{hardware()}, {versions()}\n")
    print(
        "| space | networks | largest difference of outputs | parameter counts that differ | store touched | seconds |\n|---|---|---|---|---|---|"
    )
    each, sums, refused = -(-arguments.total // len(SMALL)), [0.0] * 4, []
    for name in nasplat.list_spaces():
        started = time.perf_counter()
        try:
            found = one_space(name, each)
        except Exception as err:  # one space that fails is told, not the end
            refused.append(f"{name}: {str(err).splitlines()[0]}")
            continue
        row = [found[k] for k in ("networks", "largest difference", "counts that differ", "store touched")]
        sums = [sums[0] + row[0], max(sums[1], row[1]), sums[2] + row[2], sums[3] + row[3]]
        print(
            f"| {name} | {row[0]:.0f} | {row[1]:g} | {row[2]:.0f} | {row[3]:.0f} | {time.perf_counter() - started:.0f} |",
            flush=True,
        )
    print(f"| all | {sums[0]:.0f} | {sums[1]:g} | {sums[2]:.0f} | {sums[3]:.0f} | |")
    for line in refused:
        print(f"failed {line}")
    sys.exit(bool(refused) or sums[1:] != [0.0] * 3)


if __name__ == "__main__":
    main()
