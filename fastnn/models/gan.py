"""Generative adversarial networks (Goodfellow et al. 2014, "Generative adversarial nets"), with convolutions as in
Radford, Metz and Chintala 2015 ("Unsupervised representation learning with deep convolutional generative adversarial
networks").

A generator G makes images of noise, a discriminator D tells them from real ones, and each is trained against the other:
min over G, max over D of V(D, G) = E[log D(x)] + E[log(1 - D(G(z)))]. If real images have the density p, and those of a
fixed G the density q, the best D is p / (p + q), and then V = 2 JSD(p, q) - 2 log 2 in nats. Here D ends in logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn.nn as nn
from fastnn import functional as F
from fastnn.autograd import Tensor
from fastnn.descriptors import is_int, number
from fastnn.optim import Optimizer

__all__ = [
    "GAN", "DCGANDiscriminator", "DCGANGenerator", "MovingAverage", "dcgan", "discriminator_loss", "generator_loss",
    "initialize", "value_of_game",
]  # fmt: skip


def cross_entropy(logits, target: float, weight=None, reduction: str = "mean"):
    """Of σ(logits), where each should be `target`: -log D for 1, -log(1 - D) for 0, whatever the logits."""
    return F.binary_cross_entropy_with_logits(
        logits, np.full(logits.shape, target, logits.dtype), weight, reduction=reduction
    )


def discriminator_loss(real, fake, smoothing: float = 0.0):
    """-V(D, G), estimated from logits of real and of generated samples, of any shapes: a scalar.

    smoothing: real samples should be 1 - smoothing (Salimans et al. 2016), which keeps D from being too sure.
    """
    smoothing = number(smoothing, "discriminator_loss", "smoothing")
    if not 0 <= smoothing < 1:
        raise ValueError(f"discriminator_loss: smoothing is {smoothing}, expected from 0 to below 1")
    return cross_entropy(real, 1 - smoothing) + cross_entropy(fake, 0)


def generator_loss(fake, kind: str = "non-saturating"):
    """What G minimises, from D's logits of what it made: a scalar.

    kind: "minimax", mean log(1 - D), whose gradient by a logit, -D, vanishes where D is sure that an image is not real;
    "non-saturating", mean -log D, with the same fixed point, whose gradient D - 1 is largest there.
    """
    if kind not in LOSSES:
        raise ValueError(f"generator_loss: kind is {kind!r}, expected {' or '.join(map(repr, LOSSES))}")
    return LOSSES[kind](fake)


LOSSES: dict[str, Callable[[Any], Any]] = {
    "non-saturating": lambda fake: cross_entropy(fake, 1),
    "minimax": lambda fake: -cross_entropy(fake, 0),
}


def value_of_game(logits, p, q):
    """V(D, G) = Σ p log D + q log(1 - D) for discrete outcomes: logits of D, and the probabilities of real (p) and of
    generated ones (q), arrays of one shape: a scalar. Largest for D = p / (p + q)."""
    return -(cross_entropy(logits, 1, p, "sum") + cross_entropy(logits, 0, q, "sum"))


def halvings(image_size: int, op: str) -> tuple[int, int]:
    """(size of the smallest maps, at most 7; how often an image is halved to get there)."""
    size, times = image_size, 0
    while is_int(size) and size % 2 == 0 and size > 7:
        size, times = size // 2, times + 1
    if not times or size > 7:
        raise ValueError(
            f"{op}: image_size is {image_size!r}, expected 3 to 7 times a power of two, such as 8, 14, 28, 32, 64"
        )
    return size, times


def check_counts(op: str, classes: int, **counts: int) -> None:
    """ValueError unless classes is an integer from 0 on, and the others are from 1 on."""
    for name, count, least in (("classes", classes, 0), *((name, count, 1) for name, count in counts.items())):
        if not is_int(count) or count < least:
            raise ValueError(f"{op}: {name} is {count!r}, expected an integer of at least {least}")


def check_labels(op: str, y, classes: int) -> None:
    """ValueError unless y is what a network for so many classes takes: (N, classes), or None without classes."""
    shape = None if y is None else tuple(y.shape)
    if (shape is not None or classes) and (shape is None or shape[1:] != (classes,)):
        raise ValueError(f"{op}: y is {shape or y}, expected {f'of shape (N, {classes})' if classes else None}")


class DCGANGenerator(nn.Module):
    """Noise z (N, latent) -> images (N, channels, image_size, image_size) from -1 to 1.

    A linear layer makes small maps (7 × 7 for 28, 4 × 4 for 32 and 64), and up-convolutions with stride 2 double them;
    batch norm and ReLU after all but the last, tanh after that.

    width: maps before the last layer; twice as many in each one before. classes: 0, or what is asked for is told as y
    (N, classes), 1 at its class and 0 elsewhere, which is appended to z (Mirza and Osindero 2014, "Conditional
    generative adversarial nets").
    """

    def __init__(
        self, image_size: int = 28, *, channels: int = 1, width: int = 32, latent: int = 64, classes: int = 0
    ) -> None:
        super().__init__()
        size, times = halvings(image_size, "DCGANGenerator")
        check_counts("DCGANGenerator", classes, channels=channels, width=width, latent=latent)
        self.latent, self.classes = latent, classes
        maps = width << (times - 1)
        self.project = nn.Sequential(
            nn.Linear(latent + classes, maps * size * size, bias=False), nn.Unflatten(1, (maps, size, size)),
            nn.BatchNorm2d(maps), nn.ReLU(),
        )  # fmt: skip
        layers: list[nn.Module] = []
        for _ in range(times - 1):
            layers += [
                nn.ConvTranspose2d(maps, maps // 2, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(maps // 2), nn.ReLU(),
            ]  # fmt: skip
            maps //= 2
        self.grow = nn.Sequential(*layers, nn.ConvTranspose2d(maps, channels, 4, stride=2, padding=1), nn.Tanh())

    def forward(self, z, y=None):
        check_labels("DCGANGenerator", y, self.classes)
        return self.grow(self.project(z if y is None else F.cat([z, y], 1)))


class DCGANDiscriminator(nn.Module):
    """Images x (N, channels, image_size, image_size) -> logits (N,) of being real.

    Convolutions with stride 2 halve the maps, whose number doubles; LeakyReLU(0.2) after each, batch norm before it in
    all but the first, and a last convolution over all that remains.

    width: maps of the first layer. classes: 0, or there is a logit of being a real one of each, and that of the class
    told by y (N, classes) counts.
    """

    def __init__(self, image_size: int = 28, *, channels: int = 1, width: int = 32, classes: int = 0) -> None:
        super().__init__()
        size, times = halvings(image_size, "DCGANDiscriminator")
        check_counts("DCGANDiscriminator", classes, channels=channels, width=width)
        self.classes = classes
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for _ in range(times - 1):
            layers += [
                nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2),
            ]  # fmt: skip
            width *= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, max(classes, 1), size), nn.Flatten())

    def forward(self, x, y=None):
        check_labels("DCGANDiscriminator", y, self.classes)
        logits = self.layers(x)
        return logits[:, 0] if y is None else (logits * y).sum(1)


def initialize(module: nn.Module) -> nn.Module:
    """Radford's initial values, in place: weights from N(0, 0.02²), scales of batch norm from N(1, 0.02²), biases 0."""
    for part in module.modules():
        scale = isinstance(part, nn.BatchNorm2d)
        for name, parameter in part.own_parameters().items():
            if name == "bias":
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, 1.0 if scale else 0.0, 0.02)
    return module


class GAN(nn.Module):
    """A generator, a discriminator, and how they are trained. Called with noise (N, latent), it generates.

    generator: noise -> samples, with the attribute `latent`. discriminator: samples -> logits of any shape. Both take
    labels as second argument, if `train_step` is given any.
    loss, smoothing: kind of `generator_loss`, smoothing of `discriminator_loss`.
    """

    def __init__(
        self, generator: Any, discriminator: nn.Module, *, loss: str = "non-saturating", smoothing: float = 0.0
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"GAN: loss is {loss!r}, expected {' or '.join(map(repr, LOSSES))}")
        self.generator, self.discriminator = generator, discriminator
        self.loss, self.smoothing = loss, smoothing

    def forward(self, z, y=None):
        return self.generator(z) if y is None else self.generator(z, y)

    def noise(self, n: int) -> np.ndarray:
        """Of n samples: standard normal float32 (n, latent), as `fastnn.manual_seed` seeds it."""
        return nn.init.normal_(np.empty((n, self.generator.latent), np.float32))

    def train_step(
        self, real: np.ndarray, optimizer_g: Optimizer, optimizer_d: Optimizer, labels: np.ndarray | None = None
    ) -> tuple[float, float]:
        """A step of the discriminator with a batch of real samples and one of as many generated ones, with the same
        labels if there are any, then one of the generator against the new discriminator; (loss of D, loss of G).

        D sees the two batches apart, so that its batch norm does not mix them.
        """
        generator, discriminator = self.generator, self.discriminator
        given = () if labels is None else (Tensor(labels),)
        fake = generator(Tensor(self.noise(len(real))), *given)
        found = discriminator(Tensor(real), *given), discriminator(fake.detach(), *given)
        loss_d = discriminator_loss(*found, self.smoothing)
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()
        discriminator.requires_grad_(False)  # its gradients are not needed here
        try:
            loss_g = generator_loss(discriminator(fake, *given), self.loss)
        finally:
            discriminator.requires_grad_()
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()
        return loss_d.item(), loss_g.item()


class MovingAverage:
    """A copy of a Module whose weights and running statistics are averages over training: after each `update`,
    copy = decay · copy + (1 - decay) · module. A generator's copy makes better samples than what it follows, which goes
    on circling (Yazıcı et al. 2018, "The unusual effectiveness of averaging in GAN training").

    copy: a Module like `module`, which is overwritten. decay: at least 0 and below 1; the t-th update uses at most
    t / (t + 9), so that the first weights are soon forgotten.
    """

    def __init__(self, module: nn.Module, copy: nn.Module, decay: float = 0.99) -> None:
        decay = number(decay, "MovingAverage", "decay")
        if not 0 <= decay < 1:
            raise ValueError(f"MovingAverage: decay is {decay}, expected from 0 to below 1")
        copy.load_state_dict(module.state_dict())
        self.module, self.copy, self.decay, self.updates = module, copy, decay, 0

    def update(self) -> None:
        """After a step of training."""
        self.updates += 1
        rate = 1 - min(self.decay, self.updates / (self.updates + 9))
        state = self.copy.state_dict()
        for name, x in self.module.state_dict().items():
            average = state[name]
            state[name] = average + (rate * (x - average)).astype(x.dtype)
        self.copy.load_state_dict(state)


def dcgan(
    image_size: int = 28, *, channels: int = 1, width: int = 32, latent: int = 64, classes: int = 0,
    loss: str = "non-saturating", smoothing: float = 0.0,
) -> GAN:  # fmt: skip
    """DCGAN for images of this size, with Radford's initial values; the paper's has image_size=64, channels=3,
    width=128, latent=100."""
    generator = DCGANGenerator(image_size, channels=channels, width=width, latent=latent, classes=classes)
    discriminator = DCGANDiscriminator(image_size, channels=channels, width=width, classes=classes)
    gan = GAN(generator, discriminator, loss=loss, smoothing=smoothing)
    initialize(gan)
    return gan
