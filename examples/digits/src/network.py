"""The network, shared by the training script and the inference script."""

from torch import nn

WIDTH = 8
BRIGHTEST = 16


class DigitNetwork(nn.Module):
    """From rows of 64 pixels (0 to 16) to one score per digit."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, WIDTH, WIDTH)),
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(32 * 4 * 4, 10),
        )

    def forward(self, pixels):
        return self.layers(pixels / BRIGHTEST)
