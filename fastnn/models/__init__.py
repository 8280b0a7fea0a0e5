"""The networks of the literature, each readable in one file, built from `fastnn.nn`.

docs/models.md lists them with their papers and what they reach; `python -m fastnn run NAME` trains one on real data.
"""

from fastnn.models.gan import (
    GAN,
    DCGANDiscriminator,
    DCGANGenerator,
    MovingAverage,
    dcgan,
    discriminator_loss,
    generator_loss,
    value_of_game,
)
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
    "GAN",
    "VAE",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "LeNet",
    "MovingAverage",
    "bernoulli_log_likelihood",
    "conv_vae",
    "dcgan",
    "discriminator_loss",
    "gaussian_kl",
    "gaussian_log_likelihood",
    "generator_loss",
    "lenet",
    "vae",
    "value_of_game",
]
