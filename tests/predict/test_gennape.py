"""View, spectra, contrastive targets, fuzzy clusters, and GENNAPE itself on a small scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import nasplat
from nasplat.errors import PredictorError
from nasplat.features.view import FEATURES, VOCABULARY, view
from nasplat.learners import contrastive, fuzzy
from nasplat.learners.encoder import Encoder, collate, encode
from nasplat.learners.heads import Heads
from nasplat.predict import load
from nasplat.predict.gennape import Gennape, divisor
from nasplat.tables.metrics import kendall_tau

TINY = {
    "hidden": 16,
    "layers": 2,
    "embedding": 16,
    "pretrain_epochs": 2,
    "tune_epochs": 8,
    "head_epochs": 20,
    "clusters": 3,
}
TINY |= {"batch_size": 16}
Labels = tuple[list[nasplat.Graph], list[float]]


def ops_of(module: nn.Module, shape: tuple[int, ...]) -> list[str]:
    return [VOCABULARY[i] for i in view(nasplat.capture(module, shape)).op]


def test_convolution_norm_and_activation_are_one_node() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
    assert ops_of(net, (1, 3, 8, 8)) == ["input", "conv", "conv", "output"]
    before = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    assert ops_of(before, (1, 3, 8, 8)) == ["input", "conv", "output"]


def test_view_is_the_same_after_batch_norm_was_folded() -> None:
    normed = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    folded = nn.Sequential(nn.Conv2d(3, 8, 3, bias=True), nn.ReLU())
    a, b = (view(nasplat.capture(net, (1, 3, 8, 8))) for net in (normed, folded))
    assert np.array_equal(a.op, b.op)
    assert np.array_equal(a.features, b.features)


def test_views_of_nasbench101_cells_have_at_most_100_nodes() -> None:
    # two of the widest among 16,030 published cells
    texts = ["111111000001101:conv1x1|conv3x3|conv1x1|conv3x3", "111110001100101:conv1x1|maxpool3x3|conv3x3|conv3x3"]
    space = nasplat.load_space("nasbench101")
    members = [space.parse(t) for t in texts] + [space.sample(seed=i) for i in range(20)]
    assert max(len(view(a.graph())) for a in members) <= 100


def test_order_of_a_sum_does_not_matter_and_scale_is_relative() -> None:
    small, large = (nn.Sequential(nn.Conv2d(3, w, 3, padding=1), nn.Conv2d(w, 2 * w, 3, 2, 1)) for w in (8, 64))
    a, b = (view(nasplat.capture(net, (1, 3, 32, 32))) for net in (small, large))
    column = FEATURES.index("widening")
    assert a.features[2, column] == b.features[2, column]
    assert a.gigaflops < b.gigaflops
    assert a.work.sum() == pytest.approx(1.0)


def test_spectrum_is_padded_and_tells_shapes_apart() -> None:
    chain = view(nasplat.capture(nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)]), (1, 4)))
    values = chain.spectrum()
    assert values.shape == (21,)
    assert values[0] == pytest.approx(0.0, abs=1e-9)  # one component
    assert np.all(values[5:] == values[4])
    longer = view(nasplat.capture(nn.Sequential(*[nn.Linear(4, 4) for _ in range(9)]), (1, 4)))
    assert np.abs(values - longer.spectrum()).max() > 0.1


def test_contrastive_targets_prefer_similar_spectra() -> None:
    alpha = contrastive.targets(torch.tensor([[0.0], [0.01], [1.0]]), 0.05)
    assert torch.allclose(alpha.sum(1), torch.ones(6))
    assert alpha.diagonal().abs().max() == 0
    assert alpha[0, 3] > alpha[0, 1] > 100 * alpha[0, 2]  # its own second encoding, a near graph, a far one


def test_contrastive_loss_is_lower_when_near_graphs_are_near() -> None:
    alpha = contrastive.targets(torch.tensor([[0.0], [1.0]]), 0.05)
    good = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    bad = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert contrastive.loss(good, alpha, 0.1) < contrastive.loss(bad, alpha, 0.1)


def test_pretraining_needs_no_label_and_lowers_its_loss(labelled: Labels) -> None:
    views = [view(g) for g in labelled[0]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        history = contrastive.pretrain(
            Encoder(16, 2, 16),
            views,
            np.array([v.spectrum() for v in views]),
            contrastive.Pretraining(8, batch_size=30),
            rng=np.random.default_rng(0),
        )
    assert history[-1] < history[0]


def test_embedding_does_not_depend_on_the_batch(labelled: Labels) -> None:
    views = [view(g) for g in labelled[0][:6]]
    encoder = Encoder(16, 2, 16)
    together, apart = encode(encoder, views), torch.cat([encode(encoder, [v]) for v in views])
    assert torch.allclose(together, apart, atol=1e-5)
    assert collate(views).size == 6


def test_memberships_follow_the_formula() -> None:
    x, centroids = np.array([[0.0], [1.0], [0.25]]), np.array([[0.0], [1.0]])
    found = fuzzy.memberships(x, centroids, 2.0)
    assert found[0, 0] == pytest.approx(1.0)  # on a centroid
    assert found[2, 0] == pytest.approx(0.75**2 / (0.25**2 + 0.75**2))  # 1 / Σ (d_i² / d_j²)
    assert np.allclose(found.sum(1), 1.0)


def test_fuzzy_clusters_find_two_clouds() -> None:
    rng = np.random.default_rng(0)
    x = np.vstack([rng.normal(0, 0.1, (50, 3)), rng.normal(4, 0.1, (50, 3))])
    centroids = fuzzy.fuzzy_centroids(x, 2, seed=1)
    assert sorted(np.round(centroids.mean(1)).tolist()) == [0.0, 4.0]


def test_heads_are_averaged_by_membership() -> None:
    heads, x = Heads(2, 4), torch.randn(3, 4)
    first = heads(x, torch.tensor([[1.0, 0.0]] * 3))[0]
    second = heads(x, torch.tensor([[0.0, 1.0]] * 3))[0]
    mixed, spread = heads(x, torch.tensor([[0.25, 0.75]] * 3))
    assert torch.allclose(mixed, 0.25 * first + 0.75 * second, atol=1e-6)
    assert (spread > 0).all()


def test_divisor_matches_the_paper() -> None:
    assert divisor(0.313) == pytest.approx(1.118, abs=1e-3)
    assert divisor(11.72) == pytest.approx(2.104, abs=1e-3)


def test_gennape_keeps_the_contract(labelled: Labels) -> None:
    nasplat.check_predictor(Gennape(**TINY), *labelled)


def test_gennape_learns_and_repeats_itself(labelled: Labels) -> None:
    graphs, _ = labelled
    labels = [float(g.macs) ** 0.3 for g in graphs]
    notes: list[str] = []
    one = Gennape(**(TINY | {"tune_epochs": 80})).fit(graphs, labels, lambda done, total, note: notes.append(note))
    again = Gennape(**(TINY | {"tune_epochs": 80})).fit(graphs, labels)
    assert one.rank_scores(graphs) == again.rank_scores(graphs)
    assert kendall_tau(one.rank_scores(graphs), labels) > 0.5
    assert any("contrastive" in n for n in notes)
    assert set(one.answers(graphs[:2])) == {"label", "scaled", "pairwise", "forest", "flops"}


def test_gennape_abstains_elsewhere_but_ranks(labelled: Labels) -> None:
    predictor = Gennape(**TINY).fit(*labelled)
    stranger = nasplat.load_space("vit").sample(seed=0).graph()
    (answer,) = predictor.predict([stranger])
    assert answer.mean is None
    assert answer.reason
    assert np.isfinite(predictor.rank_scores([stranger])).all()


def test_finetuned_gennape_survives_the_disk(labelled: Labels, tmp_path: Path) -> None:
    predictor = Gennape(**TINY).fit(*labelled)
    tuned = predictor.finetune(labelled[0][:30], labelled[1][:30])
    tuned.save(tmp_path)
    assert nasplat.predict.load(tmp_path).predict(labelled[0]) == tuned.predict(labelled[0])


def test_too_few_labels_are_refused(labelled: Labels) -> None:
    with pytest.raises(PredictorError, match="at least 40, got 10 and 10"):
        Gennape(**TINY).fit(labelled[0][:10], labelled[1][:10])


@pytest.mark.parametrize("trunk", ["kgnn", "gin", "gatv2", "transformer"])
def test_every_trunk_learns_and_survives_the_disk(labelled: Labels, tmp_path: Path, trunk: str) -> None:
    graphs, labels = labelled
    predictor = Gennape(**TINY, trunk=trunk).fit(graphs, labels)
    embedded = predictor.embed([view(g) for g in graphs[:5]])
    assert np.abs(embedded[0] - embedded[1]).max() > 1e-3
    assert np.allclose(predictor.embed([view(graphs[0])])[0], embedded[0], atol=1e-4)
    predictor.save(tmp_path)
    assert load(tmp_path).predict(graphs) == predictor.predict(graphs)


def test_messages_go_both_ways(labelled: Labels) -> None:
    seen = view(labelled[0][0])
    last = len(seen) - 1
    for trunk in ("flow", "kgnn", "gin", "gatv2"):
        encoder = Encoder(16, 2, 16, trunk=trunk).eval()
        whole = encode(encoder, [seen])
        for end in (0, last):  # what changes at one end reaches the readout through its neighbour
            changed = seen.features.copy()
            changed[end] += 1.0
            assert not torch.allclose(encode(encoder, [replace(seen, features=changed)]), whole)
        turned = replace(seen, edges=seen.edges[::-1].copy())
        assert not torch.allclose(encode(encoder, [turned]), whole)


def test_pretraining_learns_what_is_known_of_other_spaces(labelled: Labels) -> None:
    views = [view(g) for g in labelled[0]]
    known = np.array([[v.statistics["log_macs"], np.nan] for v in views])
    known = (known - known.mean(0)) / known.std(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Pretraining, options = contrastive.Pretraining, {"known": known, "rng": np.random.default_rng(0)}
        blind = Pretraining(30, batch_size=30, contrast=0.0)
        told = contrastive.pretrain(Encoder(16, 2, 16), views, np.zeros((len(views), 21)), blind, **options)
        hiding = Pretraining(4, batch_size=30, views_by="augment", sign=1.0)
        spectra = np.array([v.spectrum() for v in views])
        both = contrastive.pretrain(Encoder(16, 2, 16), views, spectra, hiding, **options)
    assert told[-1] < 0.5 * told[0]
    assert both[-1] < both[0]
    with pytest.raises(PredictorError, match="one row of known per unlabelled network, got 60 and 5"):
        Gennape(**TINY).fit(*labelled, unlabelled=views[:5], known=known)
    with pytest.raises(PredictorError, match="got 'rotate' and -1"):
        Gennape(**TINY, views_by="rotate").fit(*labelled)
    with pytest.raises(PredictorError, match="expected members among label"):
        Gennape(**TINY, members=("oracle",)).fit(*labelled)
