"""Graphs as arrays: columns by hand, options of the view, eigenvalues on small and large graphs."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

import nasplat
from nasplat.features.arrays import DENSE, UNKNOWN, arrays, spectrum
from nasplat.graph import Graph, Node, ops

pytestmark = pytest.mark.fast


def net(kernel: int = 3, middle: bool = True) -> nn.Module:
    parts = [nn.Conv2d(3, 8, kernel, 2, kernel // 2, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    parts += [nn.Conv2d(8, 8, 3, 1, 1, groups=8)] if middle else []
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def test_columns_by_hand() -> None:
    graph = nasplat.capture(net(), (1, 3, 16, 16))
    a = arrays(graph, fold_views=False, fold_batchnorm=False)
    names = [ops.OPS[i] for i in a.op]
    assert names == ["input", "conv", "batchnorm", "relu", "depthwise", "adaptivepool", "view", "linear", "output"]
    assert a.sizes[1].tolist() == [16, 16, 3, 8, 8, 8]
    assert a.kernel[[1, 4]].tolist() == [[3, 3], [3, 3]]
    assert a.stride[[1, 4]].tolist() == [[2, 2], [1, 1]]
    assert (a.groups[4], a.flags[4].tolist()) == (8, [True, False])
    assert a.macs[[1, 4, 7]].tolist() == [64 * 8 * 27, 64 * 8 * 9, 32]
    assert a.params[[1, 2, 7]].tolist() == [216, 16, 36]
    assert a.depth.tolist() == list(range(9))
    assert a.edges.tolist() == [list(range(8)), list(range(1, 9))]


def test_folding_is_an_option_of_the_view() -> None:
    graph = nasplat.capture(net(), (1, 3, 16, 16))
    sizes = [len(arrays(graph, fold_views=v, fold_batchnorm=b)) for v in (False, True) for b in (False, True)]
    assert sizes == [9, 8, 8, 7]


def test_unknown_operations_have_an_id_of_their_own() -> None:
    graph = Graph(
        (Node("input", (), ((1,),)), Node("other:wonder", (), ((1,),)), Node("output", (), ((1,),))),
        ((0, 0, 1, 0), (1, 0, 2, 0)),
    )
    assert arrays(graph).op.tolist()[1] == UNKNOWN


def test_sparse_and_dense_eigenvalues_agree() -> None:
    rng = np.random.default_rng(0)
    n = DENSE
    edges = np.array([[i, i + 1] for i in range(n - 1)] + [[int(i), int(i) + 7] for i in rng.integers(0, n - 8, 60)]).T
    dense = spectrum(n, edges)
    longer = np.concatenate([edges, [[n - 1], [n]]], axis=1)
    sparse = spectrum(n + 1, longer)
    assert dense[0] == pytest.approx(0, abs=1e-9)
    assert np.all(np.diff(sparse) >= -1e-12)
    adjacency = np.zeros((n + 1, n + 1))
    adjacency[longer[0], longer[1]] = 1
    adjacency = np.maximum(adjacency, adjacency.T)
    scale = 1 / np.sqrt(adjacency.sum(1))
    wanted = np.linalg.eigvalsh(np.eye(n + 1) - scale[:, None] * adjacency * scale)[:21]
    assert np.abs(sparse - wanted).max() < 1e-8
    values, vectors = spectrum(5, np.array([[0, 1, 2, 3], [1, 2, 3, 4]]), 3, vectors=True)
    assert vectors.shape == (5, 3)
    assert np.allclose(values, spectrum(5, np.array([[0, 1, 2, 3], [1, 2, 3, 4]]), 3))
