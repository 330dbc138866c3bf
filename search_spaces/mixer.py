"""MLP-Mixer: linear layers across patches and across channels in turn, without convolution or attention.

Source: Tolstikhin et al., NeurIPS 2021, arXiv:2105.01601. Width, depth and both inner widths are choices. In size
'base' the member of width 768, depth 12, 384 inner numbers across patches and 3072 across channels is Mixer-B/16 with
59,880,472 parameters, for images of 224 and patches of 16. Size 'small', for images of 16 to 64 pixels, has 144
encodings.
"""

from __future__ import annotations

from torch import Tensor, nn

from nasplat import Pick, SpaceError, block, space
from nasplat.blocks import chain

SIZES = {
    "small": {"widths": (16, 32, 48, 64), "depths": (1, 2, 3, 4), "across": (8, 16, 32), "within": (32, 64, 128)},
    "base": {"widths": (512, 768), "depths": (8, 12), "across": (256, 384), "within": (2048, 3072)},
}


def perceptron(width: int, hidden: int) -> nn.Sequential:
    """Build two linear layers with a GELU between them."""
    return chain([("expand", nn.Linear(width, hidden)), ("act", nn.GELU()), ("project", nn.Linear(hidden, width))])


@block
class Block(nn.Module):
    """A perceptron across tokens and one within each token, both beside a shortcut."""

    def __init__(self, tokens: int, width: int, across: int, within: int) -> None:
        """Build both perceptrons with their inner widths."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.across, self.within = perceptron(tokens, across), perceptron(width, within)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, tokens, width)."""
        x = x + self.across(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.within(self.norm2(x))


class Mixer(nn.Module):
    """Patches, blocks, normalisation, mean over tokens, linear head."""

    def __init__(self, patches: nn.Module, blocks: nn.Module, width: int, classes: int) -> None:
        """Put the parts together."""
        super().__init__()
        self.patches, self.blocks = patches, blocks
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to class scores (B, classes)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(tokens)).mean(1))


@space(example_input=lambda image=32, channels=3, **presets: (1, channels, image, image))
def mixer(
    pick: Pick, size: str = "small", patch: int = 4, image: int = 32, channels: int = 3, classes: int = 10
) -> nn.Module:
    """Build an MLP-Mixer with picked width, depth and inner widths.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        size: Set of options: 'small' is ours; 'base' holds Mixer-B/16, with patch=16 and image=224.
        patch: Side of a patch in pixels.
        image: Side of the square input images in pixels; a multiple of the patch.
        channels: Channels of the input images; 3 for colour.
        classes: Number of classes that the head tells apart.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).

    Raises:
        SpaceError: the image is not a multiple of the patch, so that its margin would not be seen.
    """
    if image % patch:
        raise SpaceError(f"image expected a multiple of patch={patch}, got {image}.\n  Set another patch.")
    options = SIZES[size]
    width, depth = pick("width", options["widths"]), pick("depth", options["depths"])
    across, within = pick("across", options["across"]), pick("within", options["within"])
    tokens = (image // patch) ** 2
    blocks = chain([(f"block{i}", Block(tokens, width, across, within)) for i in range(depth)])
    return Mixer(nn.Conv2d(channels, width, patch, patch), blocks, width, classes)
