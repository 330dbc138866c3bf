from __future__ import annotations

import csv
import gzip
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import nasplat
from nasplat.errors import InputError
from nasplat.probes.zerocost import PROXIES, proxies
from nasplat.tables.metrics import spearman_rho

pytestmark = pytest.mark.fast


def net(bias: float = 0.0) -> nn.Sequential:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
    )
    with torch.no_grad():
        module[4].bias.fill_(bias)
    return module


def test_a_module_is_measured_and_stays_as_it_is() -> None:
    torch.manual_seed(0)
    module = net()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    state = torch.random.get_rng_state()
    found = proxies(module, (1, 1, 8, 8), batch_size=8, seed=3)
    assert set(found) == set(PROXIES)
    assert all(math.isfinite(v) for v in found.values())
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert proxies(module, (1, 1, 8, 8), batch_size=8, seed=3) == found
    assert proxies(module, (1, 1, 8, 8), ["nwot"], batch_size=8, seed=4)["nwot"] != found["nwot"]
    assert all(p.grad is None for p in module.parameters())


def test_synflow_is_the_sum_over_paths() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    first, second = torch.tensor([[1.0, -2.0], [3.0, 4.0]]), torch.tensor([[0.5, 1.0], [-1.0, 2.0]])
    with torch.no_grad():
        module[1].weight.copy_(first)
        module[3].weight.copy_(second)
    paths = float(second.abs().sum(0) @ first.abs().sum(1))  # every path counts once for each of its two layers
    assert proxies(module, (1, 2), ["synflow"])["synflow"] == pytest.approx(math.log(2 * paths))


def test_nwot_is_the_log_determinant_of_agreeing_activations() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3, 3, bias=False), nn.ReLU())
    with torch.no_grad():
        module[1].weight.copy_(torch.eye(3))
    x = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    agree = torch.tensor([[3.0, 2.0, 1.0], [2.0, 3.0, 2.0], [1.0, 2.0, 3.0]])
    found = proxies(module, (1, 3), ["nwot"], batch=(x, torch.zeros(3, dtype=torch.long)))
    assert found["nwot"] == pytest.approx(float(torch.logdet(agree)), rel=1e-5)


def test_what_reaches_no_input_is_nan_and_bad_calls_are_refused() -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bias.expand(len(x), 3)

    found = proxies(Deaf(), (1, 2), ["jacov", "synflow"])
    assert all(math.isnan(v) for v in found.values())
    with pytest.raises(InputError, match="expected proxies among synflow"):
        proxies(net(), (1, 1, 8, 8), ["oracle"])
    with pytest.raises(InputError, match="answers logits"):
        proxies(nn.Conv2d(1, 2, 3), (1, 1, 8, 8))


@pytest.mark.slow
@pytest.mark.skipif("NASPLAT_NAS" not in os.environ, reason="needs the published tables in NASPLAT_NAS")
@pytest.mark.parametrize(
    ("name", "least"),
    [("synflow", 0.99), ("nwot", 0.85), ("jacov", 0.8), ("snip", 0.9), ("grad_norm", 0.9), ("zen", 0.85)],
)
def test_ranks_agree_with_published_proxies(name: str, least: float) -> None:
    with gzip.open(Path(os.environ["NASPLAT_NAS"]) / "nb201_zerocost_9445.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    space = nasplat.load_space("nasbench201")
    chosen = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:40]]
    ours = []
    for row in chosen:
        torch.manual_seed(1)
        ours.append(proxies(space.parse(row["arch_str"]).build(), (1, 3, 32, 32), [name])[name])
    assert spearman_rho(ours, [float(row[f"{name}_c10"]) for row in chosen]) > least
