"""Data: arrays in batches, shuffled by a seed, augmented by threads; images in IDX files and in other packages.

x_train, y_train, x_test, y_test = fastnn.data.fashion_mnist()
augment = Compose([RandomHorizontalFlip(), ToFloat(1 / 255)])
loader = DataLoader((x_train, y_train), batch_size=128, shuffle=True, transform=augment, workers=1)
for x, y in loader:  # an epoch, the next one the next time
    ...
"""

from fastnn.data.dataset import ArrayDataset, Dataset, Subset, random_split
from fastnn.data.idx import FASHION_MNIST_CLASSES, fashion_mnist, mnist, read_idx
from fastnn.data.loader import DataLoader
from fastnn.data.packages import PHOTOGRAPHS, digits, every_fifth, mnist_subset, photographs
from fastnn.data.transforms import Compose, Draws, Normalize, RandomCrop, RandomHorizontalFlip, ToFloat

__all__ = [
    "FASHION_MNIST_CLASSES",
    "PHOTOGRAPHS",
    "ArrayDataset",
    "Compose",
    "DataLoader",
    "Dataset",
    "Draws",
    "Normalize",
    "RandomCrop",
    "RandomHorizontalFlip",
    "Subset",
    "ToFloat",
    "digits",
    "every_fifth",
    "fashion_mnist",
    "mnist",
    "mnist_subset",
    "photographs",
    "random_split",
    "read_idx",
]
