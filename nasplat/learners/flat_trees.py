"""Regression trees of any origin become flat arrays, and the arrays answer for many rows at once.

scikit-learn grows the trees (`nasplat.learners.forest`, `nasplat.learners.boosted`); what is kept are the nodes of all
trees, one tree after the other. Answers equal scikit-learn's: features are compared as float32, as it compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
LEAF = -1
"""Child index of a node that has no children."""
ROWS = 2048
"""Rows that are answered at once; more would only cost memory."""


@dataclass(frozen=True, eq=False)
class FlatTrees:
    """The nodes of several regression trees in one array per property; N nodes, T trees."""

    starts: NDArray[np.int32]
    """Index of the root node of each tree, shape (T,)."""
    feature: NDArray[np.int16]
    """Column that a node compares, shape (N,); 0 in leaves, where it means nothing."""
    threshold: NDArray[np.float32]
    """Largest value of the column with which a row goes to the left child, shape (N,)."""
    left: NDArray[np.int32]
    """Index of the left child among all nodes, shape (N,); `LEAF` in leaves."""
    right: NDArray[np.int32]
    """Index of the right child among all nodes, shape (N,); `LEAF` in leaves."""
    value: NDArray[np.float32]
    """Answer of a node, shape (N,); only the answers of leaves are given."""

    @staticmethod
    def from_sklearn(trees: Sequence[Any], scale: float = 1.0) -> FlatTrees:
        """Copy fitted trees of scikit-learn.

        Args:
            trees: Fitted `DecisionTreeRegressor`s, such as a forest's `estimators_`.
            scale: Factor of every answer, such as the learning rate of boosted trees.

        Returns:
            The same trees as flat arrays.
        """
        found = [t.tree_ for t in trees]
        starts = np.cumsum([0, *(t.node_count for t in found[:-1])]).astype(np.int32)
        exact = np.concatenate([t.threshold for t in found])
        # float32 towards -inf keeps every comparison with float32 features as scikit-learn makes it
        rounded = exact.astype(np.float32)
        left, right = (
            np.concatenate([np.where(c < 0, LEAF, c + start) for c, start in zip(children, starts, strict=True)])
            for children in ([t.children_left for t in found], [t.children_right for t in found])
        )
        return FlatTrees(
            starts,
            np.concatenate([np.maximum(t.feature, 0) for t in found]).astype(np.int16),
            np.where(rounded > exact, np.nextafter(rounded, np.float32(-np.inf)), rounded),
            left.astype(np.int32),
            right.astype(np.int32),
            (np.concatenate([t.value[:, 0, 0] for t in found]) * scale).astype(np.float32),
        )

    @staticmethod
    def from_padded(arrays: dict[str, NDArray[Any]]) -> FlatTrees:
        """Read the layout of older weights of boosted trees, where every tree was padded to the largest.

        Args:
            arrays: feature, threshold, left, right and value of shape (members, trees, nodes); children count within a
                tree.

        Returns:
            The trees of all members, one after the other, without the padding.
        """
        left, right = (arrays[side].astype(np.int32).reshape(-1, arrays[side].shape[2]) for side in ("left", "right"))
        sizes = np.maximum(left, right).max(1, initial=0) + 1  # every node but the root is somebody's child
        starts = np.cumsum([0, *sizes[:-1]]).astype(np.int32)
        kept = np.arange(left.shape[1]) < sizes[:, None]
        flat = {name: arrays[name].reshape(left.shape)[kept] for name in ("feature", "threshold", "value")}
        for name, side in (("left", left), ("right", right)):
            flat[name] = np.where(side < 0, LEAF, side + starts[:, None])[kept].astype(np.int32)
        return FlatTrees(starts, **flat)

    @staticmethod
    def from_arrays(arrays: dict[str, NDArray[Any]], prefix: str = "") -> FlatTrees:
        """Read back what `arrays` returned.

        Args:
            arrays: Arrays of a weights file.
            prefix: Beginning of the names of these trees' arrays.

        Returns:
            The trees.

        Raises:
            KeyError: an array is missing.
        """
        return FlatTrees(*(arrays[f"{prefix}{f.name}"] for f in fields(FlatTrees)))

    def arrays(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """List the arrays for a weights file.

        Args:
            prefix: Put before every name, so that several forests fit into one file.

        Returns:
            One array per field of this class.
        """
        return {f"{prefix}{f.name}": getattr(self, f.name) for f in fields(self)}

    def answers(self, x: Matrix) -> Matrix:
        """Answer for many rows; each row walks down all trees at once.

        Args:
            x: Features of shape (n, f).

        Returns:
            Every tree's answer to every row, shape (n, T).
        """
        cells = np.ascontiguousarray(x, np.float32)
        count = len(self.starts)
        out = np.empty((len(cells), count))
        for start in range(0, len(cells), ROWS):
            rows = cells[start : start + ROWS]
            node = np.broadcast_to(self.starts, (len(rows), count)).ravel().copy()
            row = np.repeat(np.arange(len(rows)), count)
            going = np.arange(len(node))
            while len(going):
                at = node[going]
                inner = self.left[at] != LEAF
                going, at = going[inner], at[inner]
                goes_left = rows[row[going], self.feature[at]] <= self.threshold[at]
                node[going] = np.where(goes_left, self.left[at], self.right[at])
            out[start : start + ROWS] = self.value[node].reshape(len(rows), -1)
        return out
