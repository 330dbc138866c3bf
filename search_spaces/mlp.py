"""Perceptrons over vectors or flattened images: linear layers, normalisation, activation, dropout, shortcuts.

Source: Gorishniy et al., NeurIPS 2021, arXiv:2106.11959, whose MLP and ResNet for tables these are; without shortcuts
and normalisation it is the perceptron of any textbook. Depth and width are choices, as are normalisation, activation,
dropout and shortcuts: 2,304 encodings. The input is an image, or a vector where preset `features` says its length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from nasplat import Pick, block, space
from nasplat.blocks import chain

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda width: nn.Sequential(),
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
}


@block
class Layer(nn.Module):
    """Linear layer, normalisation, activation and dropout, beside a shortcut where one is wanted."""

    def __init__(self, width: int, norm: str, activation: str, dropout: float, shortcut: bool) -> None:
        """Build a layer that keeps the width."""
        super().__init__()
        self.linear, self.norm = nn.Linear(width, width), NORMS[norm](width)
        self.act, self.dropout, self.shortcut = ACTIVATIONS[activation](), nn.Dropout(dropout), shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, width)."""
        y = self.dropout(self.act(self.norm(self.linear(x))))
        return x + y if self.shortcut else y


def example_input(features: int = 0, image: int = 28, channels: int = 1, **presets: object) -> tuple[int, ...]:
    """Give the shape of one vector, or of one image."""
    return (1, features) if features else (1, channels, image, image)


@space(example_input=example_input, shaped={"image": "image", "channels": "channels", "classes": "classes"})
def mlp(
    pick: Pick,
    widths: Sequence[int] = (16, 32, 64, 128, 192, 256),
    depths: Sequence[int] = (0, 1, 2, 3),
    features: int = 0,
    image: int = 28,
    channels: int = 1,
    classes: int = 10,
) -> nn.Module:
    """Build a perceptron with picked width, depth, normalisation, activation, dropout and shortcuts.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        widths: Options for the width of all hidden layers.
        depths: Options for the number of hidden layers behind the first.
        features: Numbers in an input vector, as in tables; 0 where the input is an image, which is flattened.
        image: Side of the square input images in pixels.
        channels: Channels of the input images; 3 for colour.
        classes: Number of classes that the head tells apart.

    Returns:
        A network from vectors (B, features) or images (B, channels, image, image) to class scores (B, classes).
    """
    width, depth = pick("width", tuple(widths)), pick("depth", tuple(depths))
    norm, activation = pick("norm", tuple(NORMS)), pick("activation", tuple(ACTIVATIONS))
    dropout, shortcut = pick("dropout", (0.0, 0.2, 0.5, 0.7)), pick("shortcut", ("no", "yes")) == "yes"
    first = nn.Linear(features or channels * image**2, width)
    layers = [(f"layer{i}", Layer(width, norm, activation, dropout, shortcut)) for i in range(depth)]
    return chain(
        [
            ("flat", nn.Flatten()),
            ("first", first),
            ("act", ACTIVATIONS[activation]()),
            ("layers", chain(layers)),
            ("head", nn.Linear(width, classes)),
        ]
    )
