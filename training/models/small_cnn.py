"""A convolutional network for small images."""

from torch import Tensor, nn


class SmallCnn(nn.Module):
    """Two convolutions and two linear layers; by default for 8x8 grey images of ten classes.

    Args:
        channels: Of the first convolution; the second has twice as many.
        hidden: Width of the layer before the last.
        planes: Of the image: 1 for grey, 3 for colours.
        height, width: Of the image, 2 or more.
        classes: 0 to predict a value.
    """

    def __init__(
        self,
        channels: int = 32,
        hidden: int = 128,
        planes: int = 1,
        height: int = 8,
        width: int = 8,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.classes = classes
        pooled = (height // 2) * (width // 2)
        self.features = nn.Sequential(
            nn.Conv2d(planes, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * channels * pooled, hidden),
            nn.ReLU(),
            nn.Linear(hidden, max(classes, 1)),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Classify.

        Args:
            image: (batch, planes, height, width) float32, 0 for paper to 1 for ink.

        Returns:
            Logits: (batch, classes), or values: (batch,).
        """
        # (B, P, H, W) -> (B, 2 * channels, H // 2, W // 2) -> (B, classes)
        found: Tensor = self.classifier(self.features(image))
        return found if self.classes else found[:, 0]
