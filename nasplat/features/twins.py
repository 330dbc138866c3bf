"""Whether two views show one network, whatever the order in which its operations were met.

Source: Weisfeiler & Leman 1968, as for `nasplat.graph.key`, here on what predictors see.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nasplat.features.view import View

ROUNDS = 6
"""Rounds in which every operation hears of its neighbours; each also knows its depth, its costs and its shape."""
DIGITS = 4
"""Decimals of features that are compared: sums in another order differ in the last ones."""
_ODD = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)


def structure_key(seen: View) -> str:
    """Hash what a view shows of a network's structure; statistics, such as measured proxies, do not enter.

    Args:
        seen: View of the network.

    Returns:
        A text that is equal for views of equal computations.

    Example:
        >>> import nasplat
        >>> from nasplat.features.view import view
        >>> space = nasplat.load_space("nasbench201", width=4, cells=1, image=8)
        >>> one, other = (space.parse(f"|{a}~0|+|{b}~0|none~1|+|none~0|skip_connect~1|skip_connect~2|").graph()
        ...               for a, b in [("nor_conv_1x1", "nor_conv_3x3"), ("nor_conv_3x3", "nor_conv_1x1")])
        >>> structure_key(view(one)) == structure_key(view(other))
        True
    """
    rounded = np.round(seen.features.astype(np.float64), DIGITS) + 0.0  # no negative zeros
    colour = _mixed(seen.op.astype(np.uint64))
    for column in np.ascontiguousarray(rounded.T).view(np.uint64):
        colour = _mixed(colour ^ column)
    source, target = seen.edges
    for _ in range(ROUNDS):
        told = np.zeros((2, len(colour)), np.uint64)
        np.add.at(told[0], target, _mixed(colour[source] + _ODD[1]))
        np.add.at(told[1], source, _mixed(colour[target] + _ODD[2]))
        colour = _mixed(colour + _mixed(told[0]) + told[1])
    total = int(_mixed(colour).sum(dtype=np.uint64))
    return f"{total:016x} {len(seen)} {seen.edges.shape[1]} {seen.macs} {seen.params}"


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter 64-bit numbers so that sums of equal ones alone are equal. Source: splitmix64, Steele et al. 2014."""
    z = values + _ODD[0]
    z = (z ^ (z >> np.uint64(30))) * _ODD[1]
    z = (z ^ (z >> np.uint64(27))) * _ODD[2]
    return z ^ (z >> np.uint64(31))
