"""Networks written once for any `nn` with torch.nn's names: `resnet18(torch.nn)` and `resnet18(fastnn.nn)` are the same
network, with the same parameter names."""

__all__ = ["VGG16", "lenet", "resnet18", "vgg"]

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
"""Filters of the convolutions, and "M" for a pooling: configuration D of Simonyan & Zisserman (2015)."""


def lenet(nn, num_classes=10):
    """LeNet-5 with maxima and ReLU, on (N, 1, 28, 28)."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, num_classes),
    )


def vgg(nn, filters=VGG16, norm=False, hidden=4096, grid=7, num_classes=1000):
    """3x3 convolutions, each with batch norm if norm is true, on (N, 3, H, W), and three linear layers.

    The names are torchvision's, whose grid is 7: the pixels across what the linear layers see. No dropout, so that a
    training step is a function of its input.
    """

    class VGG(nn.Module):
        def __init__(self):
            super().__init__()
            layers, channels = [], 3
            for entry in filters:
                if entry == "M":
                    layers.append(nn.MaxPool2d(2))
                    continue
                layers.append(nn.Conv2d(channels, entry, 3, padding=1))
                if norm:
                    layers.append(nn.BatchNorm2d(entry))
                layers.append(nn.ReLU(inplace=True))
                channels = entry
            self.features = nn.Sequential(*layers)
            self.avgpool = nn.AdaptiveAvgPool2d(grid)
            self.flatten = nn.Flatten()
            self.classifier = nn.Sequential(
                nn.Linear(channels * grid * grid, hidden),
                nn.ReLU(inplace=True),
                nn.Identity(),
                nn.Linear(hidden, hidden),
                nn.ReLU(inplace=True),
                nn.Identity(),
                nn.Linear(hidden, num_classes),
            )

        def forward(self, x):
            return self.classifier(self.flatten(self.avgpool(self.features(x))))

    return VGG()


def resnet18(nn, num_classes=1000, width=64):
    """He et al. (2016), Table 1, 18 layers, with torchvision's names, on (N, 3, H, W). width: filters of the stem."""

    class BasicBlock(nn.Module):
        def __init__(self, channels, filters, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(filters)
            self.relu = nn.ReLU(inplace=True)
            self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(filters)
            self.downsample = None
            if stride != 1 or channels != filters:  # option B of section 3.3
                shortcut = nn.Conv2d(channels, filters, 1, stride=stride, bias=False)
                self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(filters))

        def forward(self, x):
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(y + (x if self.downsample is None else self.downsample(x)))

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            channels = width
            for i in range(4):
                filters = width << i
                blocks = BasicBlock(channels, filters, 1 if i == 0 else 2), BasicBlock(filters, filters, 1)
                setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
                channels = filters
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.flatten = nn.Flatten()
            self.fc = nn.Linear(channels, num_classes)

        def forward(self, x):
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(self.flatten(self.avgpool(x)))

    return ResNet()
