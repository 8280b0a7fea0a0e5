"""The networks of the literature, each readable in one file, built from `fastnn.nn`.

docs/models.md lists them with their papers and what they reach; `python -m fastnn run NAME` trains one on real data.
"""

from fastnn.models.lenet import LeNet, lenet
from fastnn.models.vae import (
    VAE,
    bernoulli_log_likelihood,
    conv_vae,
    gaussian_kl,
    gaussian_log_likelihood,
    vae,
)

__all__ = [
    "VAE",
    "LeNet",
    "bernoulli_log_likelihood",
    "conv_vae",
    "gaussian_kl",
    "gaussian_log_likelihood",
    "lenet",
    "vae",
]
