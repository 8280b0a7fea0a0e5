"""Many images as one."""

import numpy as np


def tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (N, 1, H, W), row after row of so many, as one (N / columns * H, columns * W)."""
    n, _, h, w = images.shape
    return images.reshape(n // columns, columns, h, w).swapaxes(1, 2).reshape(n // columns * h, columns * w)
