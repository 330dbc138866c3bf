"""Tables, images, settings and predictors that were made to harm."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hostile_input import Hostile, Loaded, text

import nasplat

CELL = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
ROWS = f"arch_str,acc\n{CELL},1\n"


def table(name: str, content: str | bytes, refused: str = "", value: object = None) -> Hostile:
    return Hostile(
        text(name, content),
        lambda file: nasplat.load_table(file, space="nasbench201", metric="acc", key="arch_str").labels,
        refused,
        value,
    )


def pickled(folder: Path) -> Path:
    """A npz file of images whose labels are a pickle."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, array in (("x_train", np.zeros((4, 8, 8), np.uint8)), ("y_train", np.array([Loaded()] * 4, object))):
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=True)
            file.writestr(f"{name}.npy", member.getvalue())
    text("images.npz", data.getvalue())(folder)
    return folder


def picture_bomb(folder: Path) -> Path:
    """A PNG file of a few bytes that says it is 50,000 pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        import zlib

        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    for split in ("train", "test"):
        for label in ("a", "b"):
            text(f"{split}/{label}/bomb.png", png)(folder)
    return folder


def predictor(recipe: str, weights: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        text("recipe.toml", recipe)(folder)
        text("weights.safetensors", weights)(folder)
        return folder

    return make


def toml(content: str | bytes, refused: str) -> Hostile:
    return Hostile(text("run.toml", content), lambda file: nasplat.SearchRun.from_toml(file), refused)


HOSTILE = {
    "table with a byte order mark": table("a.csv", b"\xef\xbb\xbf" + ROWS.encode(), value=[1.0]),
    "table with carriage returns": table("b.csv", ROWS.replace("\n", "\r"), value=[1.0]),
    "table with a cell of megabytes": table("c.csv", ROWS + "x" * 300_000 + ",3\n", r"c\.csv"),
    "table of a gzip bomb": table("d.csv.gz", gzip.compress(ROWS.encode() + b"0" * (64 << 20)), r"d\.csv\.gz"),
    "table of a broken gzip": table("e.csv.gz", gzip.compress(ROWS.encode())[:-9], r"e\.csv\.gz"),
    "table of JSON nested without end": table("f.json", "[" * 100_000, r"f\.json"),
    "table of bytes": table("g.csv", bytes(range(256)) * 4, r"g\.csv"),
    "table of nothing": table("h.csv", "", r"h\.csv"),
    "images with labels of a pickle": Hostile(pickled, lambda folder: nasplat.load_task(str(folder)), "images|npz|pickle"),
    "picture that says it is gigabytes": Hostile(
        picture_bomb, lambda folder: nasplat.load_task(str(folder)), r"bomb\.png"
    ),
    "settings that are no TOML": toml("space = \n", r"run\.toml"),
    "settings of bytes": toml(b"\xff\xfe", r"run\.toml"),
    "settings with an unknown key": toml('space = "vit"\ntrails = 3\n', "trails"),
    "settings of the wrong type": toml('space = "vit"\ntrials = "many"\n', "trials"),
    "settings nested without end": toml("a = " + "[" * 20_000, r"run\.toml"),
    "predictor with a recipe nested without end": Hostile(
        predictor("a = " + "[" * 20_000, b""), nasplat.load_predictor, r"recipe\.toml expected TOML"
    ),
    "predictor of a pickle": Hostile(
        predictor('family = "trees"\nweights_sha256 = "0"\n', pickle.dumps(Loaded())),
        nasplat.load_predictor,
        "expected sha256",
    ),
    "predictor that names code": Hostile(
        predictor('family = "os:system"\nweights_sha256 = "0"\n', b""), nasplat.load_predictor, "family|sha256"
    ),
    "predictor with a recipe of nothing": Hostile(predictor("", b""), nasplat.load_predictor, "sha256|family"),
}  # fmt: skip
