"""Networks of the shapes of ResNet-50 and BERT-base, with the weights that they are made with."""

import torch
from torch import nn

WORDS, LENGTH = 30522, 128


class Bottleneck(nn.Module):  # type: ignore[misc]  # torch has no types here
    """Three convolutions and a way around them; `wide` channels in the middle, four times as many after."""

    def __init__(self, channels: int, wide: int, stride: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_convolution(channels, wide, 1, 1),
            nn.ReLU(),
            *_convolution(wide, wide, 3, stride),
            nn.ReLU(),
            *_convolution(wide, 4 * wide, 1, 1),
        )
        straight = channels == 4 * wide and stride == 1
        self.around = (
            nn.Identity() if straight else nn.Sequential(*_convolution(channels, 4 * wide, 1, stride))
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features, a half as high and wide where there is a stride of 2."""
        return torch.relu(self.convolutions(images) + self.around(images))


def _convolution(channels: int, wide: int, size: int, stride: int) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(channels, wide, size, stride, padding=size // 2, bias=False)
    return convolution, nn.BatchNorm2d(wide)


def resnet50() -> nn.Module:
    """Return a network from images of 3x224x224 to 1000 scores: 25.6 million weights."""
    layers: list[nn.Module] = [*_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for number, blocks in enumerate((3, 4, 6, 3)):
        wide = 64 << number
        for block in range(blocks):
            layers.append(Bottleneck(channels, wide, 2 if number and not block else 1))
            channels = 4 * wide
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


class Layer(nn.Module):  # type: ignore[misc]
    """Attention and a feed-forward network, each normalised after it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.looks, self.says = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.thinks = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Return the words, each with what it has taken from the others."""
        rows, length, width = words.shape
        parts = self.looks(words).view(rows, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = nn.functional.scaled_dot_product_attention(query, key, value)
        words = self.first(words + self.says(seen.transpose(1, 2).reshape(rows, length, width)))
        return self.second(words + self.thinks(words))


class Bert(nn.Module):  # type: ignore[misc]
    """Twelve layers over the numbers of words, and two scores from the first one: 109 million weights."""

    def __init__(self, width: int = 768, layers: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Embedding(512, width)
        self.normal = nn.LayerNorm(width)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.pooled, self.scores = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the scores of each row."""
        places = torch.arange(numbers.shape[1], device=numbers.device)
        words = self.layers(self.normal(self.words(numbers) + self.places(places)))
        return self.scores(torch.tanh(self.pooled(words[:, 0])))


def bert() -> nn.Module:
    """Return a network from rows of the numbers of words to two scores."""
    return Bert()
