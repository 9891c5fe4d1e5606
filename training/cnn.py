"""A convolutional network for small grey images."""

from torch import Tensor, nn


class SmallCnn(nn.Module):
    """Two convolutions and two linear layers, for 8x8 grey images of ten classes.

    Args:
        channels: Of the first convolution; the second has twice as many.
        hidden: Width of the layer before the last.
    """

    def __init__(self, channels: int = 32, hidden: int = 128) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * channels * 4 * 4, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 10),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Classify.

        Args:
            image: (batch, 1, 8, 8) float32, 0 for paper to 1 for ink.

        Returns:
            Logits: (batch, 10).
        """
        # (B, 1, 8, 8) -> (B, 2 * channels, 4, 4) -> (B, 10)
        return self.classifier(self.features(image))  # type: ignore[no-any-return]  # torch says Any
