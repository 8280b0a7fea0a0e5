"""Generative adversarial networks: the game's identities, both losses, DCGAN's sizes, training, the demonstration."""

import numpy as np
import pytest
from demo_support import demonstrate

import fastnn
from fastnn import Tensor, models, nn, optim
from fastnn import functional as F
from fastnn.models.gan import initialize

# ---- the game, for distributions over a few outcomes ----


def distributions(outcomes=12, seed=0):
    """p and q over so many outcomes, float64."""
    return np.random.default_rng(seed).dirichlet(np.ones(outcomes), 2)


def divergence(p, q):
    """Jensen-Shannon divergence in nats."""
    return float(F.js_divergence(p, q)) * np.log(2)


@pytest.mark.parametrize("seed", range(5))
def test_value(seed):
    """V(D, G) = Σ p log D + q log(1 - D)."""
    p, q = distributions(seed=seed)
    logits = np.random.default_rng(seed).standard_normal(12)
    d = 1 / (1 + np.exp(-logits))
    want = (p * np.log(d) + q * np.log(1 - d)).sum()
    assert abs(float(models.value_of_game(logits, p, q)) - want) < 1e-14


@pytest.mark.parametrize("seed", range(5))
def test_best_discriminator(seed):
    """At D* = p / (p + q) the tape's gradient is zero, and any other D has a lower value."""
    p, q = distributions(seed=seed)
    best = Tensor(np.log(p / q), True)  # the logits of p / (p + q)
    value = models.value_of_game(best, p, q)
    value.backward()
    np.testing.assert_allclose(best.grad, 0, atol=1e-16)
    rng = np.random.default_rng(seed)
    for scale in (1e-3, 0.1, 1, 10):
        assert models.value_of_game(best.data + scale * rng.standard_normal(12), p, q) < value.item()


@pytest.mark.parametrize("seed", range(5))
def test_divergence(seed):
    """2 log 2 + V(D*, G) = 2 JSD(p, q), to rounding."""
    p, q = distributions(seed=seed)
    value = float(models.value_of_game(np.log(p / q), p, q))
    assert abs(2 * np.log(2) + value - 2 * divergence(p, q)) < 4e-15


def test_equal_distributions():
    """D* = 1/2 everywhere, and V = -2 log 2."""
    p, _ = distributions()
    assert abs(float(models.value_of_game(np.zeros(12), p, p)) + 2 * np.log(2)) < 1e-15


def test_trained_table():
    """A discriminator with a logit per outcome, trained on V, finds D*: slowly where an outcome is rare."""
    p, q = distributions()
    logits = Tensor(np.zeros(12), True)
    optimizer = optim.Adam([logits], 0.1)
    for _ in range(1000):
        optimizer.zero_grad()
        (-models.value_of_game(logits, p, q)).backward()
        optimizer.step()
    np.testing.assert_allclose(F.sigmoid(logits.data), p / (p + q), rtol=0, atol=1e-3)


def test_trained_network_on_a_mixture():
    """Real samples come from a mixture of two normal distributions, generated ones from a wide one: a small network
    that sees samples of both comes within 0.06 of p / (p + q) wherever their density is at least 0.002; an untrained
    one is wrong by up to 0.5. V then is that of D* to 0.01, which the divergence tells.
    """

    def normal(x, mean, sigma):
        return np.exp(-0.5 * ((x - mean) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))

    rng = np.random.default_rng(0)
    fastnn.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = optim.Adam(net.parameters(), 1e-2)
    steps, n = 800, 1000
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        real = np.where(rng.random(n) < 0.4, rng.normal(-2, 0.6, n), rng.normal(1.5, 1, n)).astype(np.float32)
        fake = rng.normal(0, 2, n).astype(np.float32)
        loss = models.discriminator_loss(net(Tensor(real[:, None])), net(Tensor(fake[:, None])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    x = np.linspace(-8, 8, 1601)
    p, q = 0.4 * normal(x, -2, 0.6) + 0.6 * normal(x, 1.5, 1), normal(x, 0, 2)
    logits = net(x.astype(np.float32)[:, None])[:, 0].astype(np.float64)
    often = (p + q) / 2 >= 0.002
    assert abs(1 / (1 + np.exp(-logits)) - p / (p + q))[often].max() < 0.06
    p, q = p / p.sum(), q / q.sum()
    best = 2 * divergence(p, q) - 2 * np.log(2)
    assert best - 0.01 < models.value_of_game(logits, p, q) <= best


# ---- losses of logits ----


def test_losses():
    """-log D(x) - log(1 - D(G(z))); log(1 - D(G(z))) and -log D(G(z))."""
    real, fake = np.random.default_rng(0).standard_normal((2, 30)) * 3
    d, g = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    assert abs(models.discriminator_loss(real, fake) + np.log(d).mean() + np.log(1 - g).mean()) < 1e-14
    assert abs(models.generator_loss(fake, "minimax") - np.log(1 - g).mean()) < 1e-14
    assert abs(models.generator_loss(fake) + np.log(g).mean()) < 1e-14
    smooth = -(0.9 * np.log(d) + 0.1 * np.log(1 - d)).mean() - np.log(1 - g).mean()
    assert abs(models.discriminator_loss(real, fake, 0.1) - smooth) < 1e-14


def test_losses_are_stable():
    """Where D is 0 or 1 to rounding: no infinities, and the gradients that make one loss saturate and the other not."""
    logits = np.array([-1000.0, 1000.0], np.float32)
    assert models.discriminator_loss(logits[1:], logits[:1]) == 0
    assert models.discriminator_loss(logits[:1], logits[1:]) == 2000
    for kind, gradients in (("minimax", [0, -0.5]), ("non-saturating", [-0.5, 0])):
        fake = Tensor(logits, True)
        models.generator_loss(fake, kind).backward()
        np.testing.assert_array_equal(fake.grad, gradients)


def test_unknown_options():
    with pytest.raises(ValueError, match="generator_loss: kind is 'hinge', expected 'non-saturating' or 'minimax'"):
        models.generator_loss(np.zeros(3), "hinge")
    with pytest.raises(ValueError, match="GAN: loss is 'hinge', expected 'non-saturating' or 'minimax'"):
        models.dcgan(8, loss="hinge")
    with pytest.raises(ValueError, match=r"smoothing is 1\.0, expected from 0 to below 1"):
        models.discriminator_loss(np.zeros(3), np.zeros(3), 1.0)


# ---- DCGAN ----


@pytest.mark.parametrize(
    "size, channels, width, latent", [(8, 1, 4, 5), (14, 2, 4, 3), (28, 1, 8, 16), (32, 3, 4, 8), (64, 1, 2, 8)]
)
def test_sizes(size, channels, width, latent):
    fastnn.manual_seed(0)
    gan = models.dcgan(size, channels=channels, width=width, latent=latent)
    images = gan(gan.noise(3))
    assert images.shape == (3, channels, size, size) and images.dtype == np.float32
    assert abs(images).max() <= 1
    assert gan.discriminator(images).shape == (3,)


def test_parameters_of_the_paper():
    """Figure 1 of Radford et al.: 100 -> 4 × 4 × 1024 -> … -> 64 × 64 × 3, without biases before batch norm, and with
    kernels of 4 × 4."""
    generator = models.DCGANGenerator(64, channels=3, width=128, latent=100)
    maps = (1024, 512, 256, 128)
    want = 100 * 1024 * 16 + sum(16 * a * b for a, b in zip(maps, (*maps[1:], 3), strict=True)) + 2 * sum(maps) + 3
    assert sum(p.size for p in generator.parameters()) == want


def test_initial_values():
    fastnn.manual_seed(0)
    net = initialize(nn.Sequential(nn.ConvTranspose2d(32, 32, 4), nn.BatchNorm2d(4096), nn.Linear(100, 100)))
    for part, mean in zip(net, (0, 1, 0), strict=True):
        weight = part.weight.data
        assert abs(weight.mean() - mean) < 5 * 0.02 / np.sqrt(weight.size)
        assert abs(weight.std() - 0.02) < 5 * 0.02 / np.sqrt(2 * weight.size)
        assert not part.bias.data.any()


@pytest.mark.parametrize("size", [4, 7, 30, 72, 28.0, True])
def test_bad_sizes(size):
    for make in (models.DCGANGenerator, models.DCGANDiscriminator):
        with pytest.raises(ValueError, match=f"image_size is {size}, expected 3 to 7 times a power of two"):
            make(size)


def test_bad_counts():
    with pytest.raises(ValueError, match="DCGANGenerator: latent is 0, expected an integer of at least 1"):
        models.dcgan(latent=0)
    with pytest.raises(ValueError, match=r"DCGANDiscriminator: width is 1\.5, expected an integer of at least 1"):
        models.DCGANDiscriminator(width=1.5)


def test_classes():
    """The class asked for is part of the noise; the discriminator has a logit for each."""
    fastnn.manual_seed(0)
    gan = models.dcgan(8, width=4, latent=3, classes=5)
    y = np.eye(5, dtype=np.float32)[[0, 3, 4]]
    z = gan.noise(3)
    images = gan(z, y)
    generator = gan.generator
    assert np.array_equal(images, generator.grow(generator.project(np.concatenate([z, y], 1))))
    logits = gan.discriminator.layers(images)
    assert logits.shape == (3, 5)
    assert np.array_equal(gan.discriminator(images, y), logits[[0, 1, 2], [0, 3, 4]])
    gan.train_step(images, *optimizers_of(gan), y)


def test_bad_classes():
    gan, x, y = models.dcgan(8, width=4, latent=3, classes=5), np.zeros((2, 1, 8, 8), np.float32), np.zeros((2, 4))
    z = gan.noise(2)
    for part, given in ((gan.generator, z), (gan.discriminator, x)):
        with pytest.raises(ValueError, match=r"y is None, expected of shape \(N, 5\)"):
            part(given)
        with pytest.raises(ValueError, match=r"y is \(2, 4\), expected of shape \(N, 5\)"):
            part(given, y)
    with pytest.raises(ValueError, match=r"y is \(2, 4\), expected None"):
        models.DCGANGenerator(8, latent=3)(z, y)
    with pytest.raises(ValueError, match="classes is -1, expected an integer of at least 0"):
        models.dcgan(8, classes=-1)


# ---- training ----


def optimizers_of(gan):
    return [optim.SGD(part.parameters(), 0.1) for part in (gan.generator, gan.discriminator)]


def trainable(**options):
    """A small DCGAN, its optimisers, and a batch."""
    fastnn.manual_seed(0)
    gan = models.dcgan(8, width=4, latent=3, **options)
    return gan, optimizers_of(gan), np.random.default_rng(0).uniform(-1, 1, (6, 1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("kind", ["minimax", "non-saturating"])
def test_step(kind):
    """Both parts learn, each from its own loss: the generator's step is against the discriminator after its step."""
    gan, optimizers, real = trainable(loss=kind)
    twin, (twin_g, twin_d), _ = trainable(loss=kind)
    fastnn.manual_seed(1)
    losses = gan.train_step(real, *optimizers)
    fastnn.manual_seed(1)
    fake = twin(Tensor(twin.noise(6)))
    loss_d = models.discriminator_loss(twin.discriminator(Tensor(real)), twin.discriminator(fake.detach()))
    loss_d.backward()
    twin_d.step()
    loss_g = models.generator_loss(twin.discriminator(fake), kind)
    loss_g.backward()
    twin_g.step()
    assert losses == (loss_d.item(), loss_g.item())
    for (name, value), other in zip(gan.state_dict().items(), twin.state_dict().values(), strict=True):
        np.testing.assert_array_equal(value, other, err_msg=name)
    assert all(p.requires_grad for p in gan.parameters())


def test_step_is_broken_off():
    """The discriminator stays trainable if the generator's loss cannot be found."""
    gan, optimizers, real = trainable()
    gan.loss = "unknown"
    with pytest.raises(ValueError, match="kind is 'unknown'"):
        gan.train_step(real, *optimizers)
    assert all(p.requires_grad for p in gan.parameters())


def test_moving_average():
    """decay · copy + (1 - decay) · module, with decay (t / (t + 9)) at first, of weights and running statistics."""
    module, copy = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
    average = models.MovingAverage(module, copy, 0.5)
    expected = 1.0
    for t, value in enumerate((3.0, 5.0, 7.0), 1):
        module.weight.data.fill(value)
        module.running_mean.fill(value - 1)
        average.update()
        expected += (1 - min(0.5, t / (t + 9))) * (value - expected)
        assert abs(copy.weight.data[0] - expected) < 1e-6
        assert abs(copy.running_mean[0] - (expected - 1)) < 1e-6
    with pytest.raises(ValueError, match=r"decay is 1\.0, expected from 0 to below 1"):
        models.MovingAverage(module, copy, 1.0)


# ---- the demonstration ----


def test_demonstration():
    """The classifier is sure of many samples, where it was of none before training, and what a class was asked for is
    of that class more often than by chance, 10 %."""
    measures = demonstrate("gan").measures
    assert measures["sure_before"] < 0.05
    assert measures["sure"] > 0.1 and measures["classes"] >= 6
    assert measures["sure_told"] > 0.2 and measures["right"] > 0.8


def test_unknown_data():
    with pytest.raises(ValueError, match="data is 'cifar', expected 'mnist' or 'fashion'"):
        demonstrate("gan", data="cifar")
