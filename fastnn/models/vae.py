"""Variational auto-encoder (Kingma and Welling 2013, "Auto-encoding variational Bayes").

A decoder makes of h, drawn from N(0, I), a distribution p(x|h) of images. Which h belong to an image x is told by an
encoder, q(h|x) = N(mean, variance I). Both are trained to raise the evidence lower bound (ELBO),
log p(x) >= E[log p(x|h)] - KL(q(h|x) ‖ N(0, I)), h drawn from q. All logarithms are natural: the unit is the nat.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log, pi, prod

import numpy as np

import fastnn.nn as nn
from fastnn import functional as F
from fastnn.autograd import Tensor, no_grad
from fastnn.descriptors import is_int

__all__ = ["VAE", "bernoulli_log_likelihood", "conv_vae", "gaussian_kl", "gaussian_log_likelihood", "vae"]

LIKELIHOODS = "bernoulli", "gaussian"


def gaussian_kl(mean, log_variance):
    """KL(N(mean, variance I) ‖ N(0, I)) = 1/2 Σ (mean² + variance - 1 - log variance): Tensors (N, latent) -> (N,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def bernoulli_log_likelihood(x, logits):
    """log p(x) = Σ x log σ(logits) + (1 - x) log σ(-logits): Tensors (N, …) -> (N,).

    Values between 0 and 1 count as probabilities: then it is the mean over images whose pixels are drawn black or white
    by them.
    """
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)


def gaussian_log_likelihood(x, mean, log_variance):
    """log N(x; mean, variance I) = -1/2 Σ ((x - mean)² / variance + log variance + log 2π): Tensors (N, …) -> (N,).

    log_variance: of a shape that broadcasts to that of x.
    """
    return -0.5 * ((x - mean).square() / log_variance.exp() + log_variance + log(2 * pi)).flatten(1).sum(1)


class VAE(nn.Module):
    """Encoder, decoder, and the bound that trains both: `(-model.elbo(x).mean()).backward()`.

    Called with images, it reconstructs them. Methods take arrays or Tensors, float32 or float64 like the parameters.

    encoder: x (N, …) -> (N, 2 latent), means and logarithms of variances. decoder: h (N, latent) -> of x's shape, for
    likelihood "bernoulli" logits of the pixels, which are 0 or 1, or between as probabilities; for "gaussian" their
    means, with one variance for all, whose logarithm is the parameter `log_variance`.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent: int, *, likelihood: str = "bernoulli") -> None:
        super().__init__()
        if not is_int(latent) or latent < 1:
            raise ValueError(f"VAE: latent is {latent!r}, expected a positive integer")
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"VAE: likelihood is {likelihood!r}, expected {' or '.join(map(repr, LIKELIHOODS))}")
        self.encoder, self.decoder = encoder, decoder
        self.latent, self.likelihood = latent, likelihood
        self.log_variance = nn.Parameter(np.zeros(1, np.float32)) if likelihood == "gaussian" else None

    def forward(self, x):
        """Means of p(x|h) at the mean of q(h|x), of x's shape."""
        return self.decode(self.encode(x)[0])

    def encode(self, x):
        """(mean, log variance) of q(h|x), each (N, latent)."""
        y = self.encoder(x)
        if y.shape[1:] != (2 * self.latent,):
            raise ValueError(f"VAE: encoder gives {y.shape}, expected (N, {2 * self.latent}) for latent {self.latent}")
        return y[:, : self.latent], y[:, self.latent :]

    def decode(self, h):
        """Means of p(x|h), of x's shape."""
        y = self.decoder(h)
        return F.sigmoid(y) if self.likelihood == "bernoulli" else y

    def log_likelihood(self, x, h):
        """log p(x|h), (N,)."""
        y = self.decoder(tensor(h))
        if self.log_variance is None:
            return bernoulli_log_likelihood(tensor(x), y)
        return gaussian_log_likelihood(tensor(x), y, self.log_variance)

    def noise(self, n: int) -> np.ndarray:
        """Standard normal numbers (n, latent), as `fastnn.manual_seed` seeds them, in the dtype of the parameters."""
        return nn.init.normal_(np.empty((n, self.latent), next(self.parameters()).dtype))

    def elbo(self, x, noise=None):
        """A draw of the ELBO of each image, in nats: a Tensor (N,).

        log p(x|h) - KL(q(h|x) ‖ N(0, I)) with h = mean + σ noise: so h depends on the encoder in a way that gradients
        can be taken of. noise: standard normal (N, latent), None to draw it.
        """
        mean, log_variance = self.encode(tensor(x))
        noise = self.noise(len(x)) if noise is None else noise
        h = mean + (0.5 * log_variance).exp() * noise
        return self.log_likelihood(x, h) - gaussian_kl(mean, log_variance)

    @no_grad()
    def importance_bound(self, x, samples: int = 100) -> np.ndarray:
        """A tighter bound, log 1/K Σ p(x|h) N(h; 0, I) / q(h|x) over K samples h of q (Burda et al. 2015): (N,).

        Its mean rises with K from the ELBO's, at 1, to log p(x).
        """
        if not is_int(samples) or samples < 1:
            raise ValueError(f"importance_bound: samples is {samples!r}, expected a positive integer")
        mean, log_variance = self.encode(tensor(x))
        total = np.full(len(x), -np.inf)
        for _ in range(samples):
            noise = self.noise(len(x))
            h = mean + (0.5 * log_variance).exp() * noise
            ratio = 0.5 * (noise**2 + log_variance - h.square()).sum(1)  # log of N(h; 0, I) / q(h|x)
            total = np.logaddexp(total, (self.log_likelihood(x, h) + ratio).data)
        return total - log(samples)

    def sample(self, n: int) -> np.ndarray:
        """Means of p(x|h) for n draws of h, (n, …)."""
        return self.decode(self.noise(n))


def tensor(x):
    """x as a Tensor."""
    return x if isinstance(x, Tensor) else Tensor(x)


def vae(
    shape: Sequence[int] = (1, 28, 28), *, latent: int = 20, hidden: Sequence[int] = (500,),
    likelihood: str = "bernoulli",
) -> VAE:  # fmt: skip
    """VAE of fully connected layers for images (N, *shape).

    hidden: widths of the encoder's layers between image and h, with ReLU after each; the decoder has them in reverse.
    """
    shape, sizes = tuple(shape), (prod(shape), *hidden)
    encoder: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        encoder += [nn.Linear(before, after), nn.ReLU()]
    decoder: list[nn.Module] = []
    for before, after in pairwise((latent, *sizes[:0:-1])):
        decoder += [nn.Linear(before, after), nn.ReLU()]
    return VAE(
        nn.Sequential(*encoder, nn.Linear(sizes[-1], 2 * latent)),
        nn.Sequential(*decoder, nn.Linear(sizes[1] if hidden else latent, sizes[0]), nn.Unflatten(1, shape)),
        latent, likelihood=likelihood,
    )  # fmt: skip


def conv_vae(
    shape: Sequence[int] = (1, 28, 28), *, latent: int = 20, width: int = 16, likelihood: str = "bernoulli"
) -> VAE:
    """VAE of two convolutions with stride 2 (width and 2 width maps), a linear layer, and the reverse, for images
    (N, *shape) with shape (C, H, W), where H and W are multiples of 4."""
    c, h, w = shape
    if h % 4 or w % 4:
        raise ValueError(f"conv_vae: shape is {tuple(shape)}, expected (C, H, W) with multiples of 4")
    small = 2 * width, h // 4, w // 4
    encoder = nn.Sequential(
        nn.Conv2d(c, width, 4, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(prod(small), 2 * latent),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(latent, prod(small)), nn.ReLU(), nn.Unflatten(1, small),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(width, c, 4, stride=2, padding=1),
    )  # fmt: skip
    return VAE(encoder, decoder, latent, likelihood=likelihood)
