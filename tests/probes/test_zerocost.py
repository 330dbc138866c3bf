from __future__ import annotations

import csv
import gzip
import math
import os
from copy import deepcopy
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


TOKENS = torch.tensor([[3, 1, 4, 1]])


class Reads(nn.Module):
    """Sums the rows of tokens, adds numbers where there are some, and classifies."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head, self.seen = nn.Embedding(9, 6), nn.Linear(6, 3), list[int]()

    def forward(self, ids: torch.Tensor, x: torch.Tensor | None = None) -> torch.Tensor:
        self.seen += ids.flatten().tolist()
        h = self.rows(ids).sum(1)
        return self.head(nn.functional.gelu(h if x is None else h + x))


def test_proxies_of_tokens_are_those_that_need_no_numbers() -> None:
    module = Reads()
    found = proxies(module, TOKENS, batch_size=4)
    assert list(found) == ["nwot", "snip", "grad_norm"]
    assert all(math.isfinite(found[n]) for n in ("snip", "grad_norm"))
    loss = nn.functional.cross_entropy(module(TOKENS), torch.tensor([2]))
    loss.backward()
    by_hand = math.log(sum(float((p.detach() * p.grad).abs().sum()) for p in (module.rows.weight, module.head.weight)))
    assert proxies(module, TOKENS, ["snip"], batch=(TOKENS, torch.tensor([2])))["snip"] == pytest.approx(by_hand)
    with pytest.raises(InputError, match="floating-point inputs for synflow, zen, got integers or booleans alone"):
        proxies(module, TOKENS, ["synflow", "nwot", "zen"])


def test_tokens_are_drawn_among_all_rows_and_numbers_beside_them_are_what_proxies_change() -> None:
    module = Reads()
    module.__deepcopy__ = lambda _: module  # type: ignore[attr-defined]
    found = proxies(module, {"ids": TOKENS, "x": (1, 6)}, ["jacov", "nwot"], batch_size=64)
    assert set(module.seen) == set(range(9))
    assert math.isfinite(found["jacov"])
    del module.__deepcopy__
    assert set(proxies(module, {"ids": TOKENS, "x": (1, 6)}, batch_size=8)) == set(PROXIES)


def test_half_precision_is_computed_in_float32() -> None:
    module = net().half()
    assert proxies(module, (1, 1, 8, 8), batch_size=8) == proxies(net_of(module), (1, 1, 8, 8), batch_size=8)
    double = proxies(net_of(module).double(), torch.zeros(1, 1, 8, 8).double(), ["snip", "synflow"], batch_size=8)
    assert all(math.isfinite(v) for v in double.values())


def net_of(module: nn.Sequential) -> nn.Sequential:
    """The same network in float32."""
    return deepcopy(module).float()


def test_networks_that_do_not_run_say_why() -> None:
    with pytest.raises(InputError, match="it raised RuntimeError: mat1 and mat2"):
        proxies(nn.Linear(4, 2), (1, 5))
    with pytest.raises(InputError, match="Expected tensor for argument #1 'indices'"):
        proxies(Reads(), (1, 4))
    with pytest.raises(InputError, match="answers logits"):
        proxies(nn.LSTM(4, 4), (1, 2, 4))


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
