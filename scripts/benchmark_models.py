"""The models of docs/benchmarks, as ``edgeport export`` takes them. Their weights are random.

edgeport export scripts.benchmark_models:transformer --input 'ids=int64[batch<=32,64]' -o t.edge
"""

import torch
from torch import Tensor, nn


def resnet18() -> nn.Module:
    """torchvision's ResNet18: images (batch, 3, 224, 224) to 1,000 logits; 11.7 M weights."""
    from edgeport.training.vision.torchvision_models import make_network

    torch.manual_seed(0)
    return make_network("resnet18", classes=1000).eval()


def mlp() -> nn.Module:
    """64 features to 128 hidden units to 10 logits; 9,610 weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).eval()


def digits() -> nn.Module:
    """The CNN of ``edgeport train digits``: images (batch, 1, 8, 8) to 10 logits."""
    from edgeport.training.models.small_cnn import SmallCnn

    torch.manual_seed(0)
    return SmallCnn().eval()


def transformer() -> nn.Module:
    """Tokens (batch, time) to 10 logits: an encoder of 4 layers, 128 wide; 1.3 M weights."""
    torch.manual_seed(0)
    return Encoder().eval()


class Encoder(nn.Module):
    """Tokens and learned places, pre-norm layers, the mean over time, a linear head."""

    def __init__(self, words: int = 4000, longest: int = 128, width: int = 128) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Parameter(0.02 * torch.randn(longest, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, ids: Tensor) -> Tensor:
        """Tokens (batch, time) to logits (batch, 10)."""
        x = self.words(ids) + self.places[: ids.shape[1]]
        logits: Tensor = self.head(self.layers(x).mean(1))
        return logits
