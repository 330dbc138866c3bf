"""Plain convolutional networks as people write them: stages of convolutions that pool, then a head (VGG-like).

Source: Simonyan & Zisserman, ICLR 2015, arXiv:1409.1556 for size 'vgg', whose member of depths 2, 2, 3, 3, 3 without
normalisation and with head 'hidden' of 4096 is VGG-16 at 5 stages and kernels of 3: 138,357,544 parameters. Every stage
has its own depth, width and kernel; normalisation, activation, pooling and head hold for the whole network. Size
'small', for images of 16 to 64 pixels, has 629,856 encodings with its three stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from nasplat import Pick, block, space
from nasplat.blocks import chain

SIZES = {
    "small": {"depths": ((1, 2, 3),) * 5, "widths": ((8, 16, 24), (16, 32, 48), (32, 64, 96), (64, 96), (64, 96))},
    "vgg": {
        "depths": ((1, 2), (1, 2), (1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)),
        "widths": ((32, 64), (64, 128), (128, 256), (256, 512), (256, 512)),
    },
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}
NORMS = ("none", "batch", "group")
POOLS = ("max", "average", "stride")
HEADS = ("mean", "flat", "hidden")


def normalisation(name: str, channels: int) -> nn.Module:
    """Build a normalisation of so many channels, by its name in `NORMS`; groups have eight channels."""
    return nn.BatchNorm2d(channels) if name == "batch" else nn.GroupNorm(channels // 8, channels)


@block
class Layer(nn.Module):
    """Convolution, normalisation and activation; the convolution has a bias, as people leave it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, norm: str, activation: str) -> None:
        """Build the three parts; norm 'none' leaves out the second."""
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm = nn.Sequential() if norm == "none" else normalisation(norm, outputs)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride), rounded up."""
        return self.act(self.norm(self.conv(x)))


class Head(nn.Module):
    """Mean over pixels, or all pixels, then one linear layer or three."""

    def __init__(self, kind: str, channels: int, grid: int, hidden: int, classes: int) -> None:
        """Build what follows the last stage, whose maps are pooled to `grid` pixels a side unless the mean is taken."""
        super().__init__()
        self.grid = 1 if kind == "mean" else grid
        features = channels * self.grid**2
        if kind == "hidden":
            self.layers = chain(
                [
                    ("first", nn.Linear(features, hidden)),
                    ("act1", nn.ReLU()),
                    ("drop1", nn.Dropout()),
                    ("second", nn.Linear(hidden, hidden)),
                    ("act2", nn.ReLU()),
                    ("drop2", nn.Dropout()),
                    ("fc", nn.Linear(hidden, classes)),
                ]
            )
        else:
            self.layers = chain([("fc", nn.Linear(features, classes))])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to class scores (B, classes)."""
        return self.layers(F.adaptive_avg_pool2d(x, self.grid).flatten(1))


class ConvNet(nn.Module):
    """Stages one after another, each ending with half the size, and a head."""

    def __init__(self, stages: Sequence[nn.Module], head: nn.Module) -> None:
        """Put the parts together."""
        super().__init__()
        self.stages = chain([(f"stage{i}", stage) for i, stage in enumerate(stages)])
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to class scores (B, classes)."""
        return self.head(self.stages(x))


@space(example_input=lambda image=32, channels=3, **presets: (1, channels, image, image))
def convnet(
    pick: Pick,
    size: str = "small",
    stages: int = 3,
    kernels: Sequence[int] = (3, 5),
    hidden: int = 64,
    image: int = 32,
    channels: int = 3,
    classes: int = 10,
) -> nn.Module:
    """Build a plain convolutional network with picked depth, width and kernel of each stage.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        size: Set of options for depths and widths: 'small' is ours, 'vgg' has the published widths.
        stages: Number of stages, 1 to 5; each halves the size of the image.
        kernels: Options for the side of a stage's kernels; one alone is no choice.
        hidden: Width of the two hidden layers of head 'hidden'; VGG-16 has 4096.
        image: Side of the square input images in pixels.
        channels: Channels of the input images; 3 for colour.
        classes: Number of classes that the head tells apart.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).
    """
    options = SIZES[size]
    norm, activation = pick("norm", NORMS), pick("activation", tuple(ACTIVATIONS))
    pool, head = pick("pool", POOLS), pick("head", HEADS)
    plan = []
    for i in range(stages):
        depth, width = pick(f"stage{i}.depth", options["depths"][i]), pick(f"stage{i}.width", options["widths"][i])
        kernel = pick(f"stage{i}.kernel", tuple(kernels)) if len(kernels) > 1 else kernels[0]
        plan.append((depth, width, kernel))
    made, last, side = [], channels, image
    for depth, width, kernel in plan:
        parts: list[tuple[str, nn.Module]] = []
        # a stride is in the first layer, so that layers keep their place whatever the depth
        for j in range(depth):
            stride = 2 if pool == "stride" and j == 0 else 1
            parts.append((f"layer{j}", Layer(last, width, kernel, stride, norm, activation)))
            last = width
        if pool != "stride":
            parts.append(("pool", (nn.MaxPool2d if pool == "max" else nn.AvgPool2d)(2, ceil_mode=True)))
        made.append(chain(parts))
        side = -(-side // 2)
    return ConvNet(made, Head(head, last, side, hidden, classes))
