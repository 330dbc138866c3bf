"""The small presets and budgets of the benchmarks: two cores, minutes."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "nasbench201": {"width": 8, "cells": 1, "image": 16, "channels": 1},
    "ofa_mobilenetv3": {
        "base": 0.5,
        "widths": [0.25, 1.0, 2.0],
        "resolutions": [16],
        "depths": [1, 2, 3],
        "expands": [1, 3, 6],
        "units": 3,
        "stem_stride": 1,
        "channels": 1,
        "classes": 10,
    },
    "vit": {"size": "mini", "image": 16, "patch": 4, "channels": 1, "classes": 10, "head_dim": 8},
    "inception": {
        "width": [4, 8, 16],
        "stages": 3,
        "depths": [1, 2],
        "budget": 2,
        "stem_stride": 2,
        "image": 16,
        "channels": 1,
    },
    "hybrid": {
        "widths": [[8, 16, 32], [16, 32, 64]],
        "depths": [[1, 2, 3], [1, 2, 3]],
        "stem_stride": 1,
        "window": 4,
        "head_dim": 8,
        "classes": 10,
        "image": 16,
        "channels": 1,
    },
}
BUDGETS: dict[str, dict[str, Any]] = {
    "nasbench201": {"epochs": 3, "batch_size": 32, "lr": 5e-3},
    "ofa_mobilenetv3": {"epochs": 5, "batch_size": 32, "lr": 4e-3},
    "vit": {"epochs": 6, "batch_size": 32, "lr": 3e-3},
    "inception": {"epochs": 5, "batch_size": 64, "lr": 5e-3},
    "hybrid": {"epochs": 4, "batch_size": 32, "lr": 3e-3},
}
LABEL_BUDGETS: dict[str, dict[str, Any]] = BUDGETS | {
    "nasbench201": {"epochs": 6, "batch_size": 32, "lr": 5e-3},
    "vit": {"epochs": 12, "batch_size": 32, "lr": 3e-3},
}
"""Of our own labelled benchmark: long enough that two seeds agree (three epochs of cells: τ-b .645, six: .758; six of
transformers: .684)."""
FAMILIES = {
    "cell": "nasbench201",
    "mobile": "ofa_mobilenetv3",
    "branch": "inception",
    "transformer": "vit",
    "hybrid": "hybrid",
}
"""Families of our own labelled benchmark, and the space of each."""
