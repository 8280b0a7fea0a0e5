"""Variational auto-encoders: the terms of the bound, its gradients, PyTorch beside them, and that they learn."""

import numpy as np
import pytest
from demo_support import demonstrate

import fastnn
from fastnn import Tensor, models, nn, no_grad, optim
from fastnn.demos import vae as demo
from fastnn.differences import gradcheck

SMALL = {"shape": (1, 4, 4), "latent": 3, "hidden": (6,)}


def small(likelihood="bernoulli", seed=0):
    """A network in float64, images and noise."""
    fastnn.manual_seed(seed)
    model = models.vae(**SMALL, likelihood=likelihood).double()
    rng = np.random.default_rng(seed)
    return model, rng.random((5, 1, 4, 4)), rng.standard_normal((5, 3))


# ---- the terms ----


def test_divergence_against_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    mean, log_variance = rng.standard_normal((2, 7, 4))
    q = torch.distributions.Normal(torch.tensor(mean), torch.tensor(np.exp(log_variance / 2)))
    want = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
    got = models.gaussian_kl(Tensor(mean), Tensor(log_variance))
    np.testing.assert_allclose(got.data, want.numpy(), rtol=1e-12)


def test_divergence_is_a_mean_over_samples():
    """E[log q(h) - log N(h; 0, I)]; the bound is five standard errors."""
    rng = np.random.default_rng(1)
    mean, log_variance = rng.standard_normal((2, 1, 3))
    noise = rng.standard_normal((100_000, 3))
    h = mean + np.exp(log_variance / 2) * noise
    terms = 0.5 * (h**2 - noise**2 - log_variance).sum(1)
    error = terms.std() / np.sqrt(len(terms))
    assert abs(models.gaussian_kl(Tensor(mean), Tensor(log_variance)).item() - terms.mean()) < 5 * error


def test_divergence_of_the_prior():
    zero = Tensor(np.zeros((2, 3)))
    assert np.array_equal(models.gaussian_kl(zero, zero).data, np.zeros(2))


def test_bernoulli_sums_to_one():
    """Over all 2^4 images."""
    images = (np.arange(16)[:, None] >> np.arange(4) & 1).astype(np.float64)
    logits = np.tile(np.random.default_rng(0).standard_normal(4), (16, 1))
    found = models.bernoulli_log_likelihood(Tensor(images), Tensor(logits)).data
    assert abs(np.exp(found).sum() - 1) < 1e-14


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_likelihoods_against_torch(likelihood):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 6, 1, 3, 3)) * 4 - 2
    if likelihood == "bernoulli":
        x = (x > 0).astype(np.float64)
        got = models.bernoulli_log_likelihood(Tensor(x), Tensor(y))
        law = torch.distributions.Bernoulli(logits=torch.tensor(y))
    else:
        got = models.gaussian_log_likelihood(Tensor(x), Tensor(y), Tensor(np.array([0.3])))
        law = torch.distributions.Normal(torch.tensor(y), np.exp(0.15))
    np.testing.assert_allclose(got.data, law.log_prob(torch.tensor(x)).flatten(1).sum(1).numpy(), rtol=1e-12)


def test_grey_is_a_mean_over_black_and_white():
    """The bound is five standard errors."""
    rng = np.random.default_rng(2)
    grey, logits = rng.random((1, 8)), rng.standard_normal((1, 8))
    drawn = (rng.random((50_000, 8)) < grey).astype(np.float64)
    found = models.bernoulli_log_likelihood(Tensor(drawn), Tensor(np.repeat(logits, len(drawn), 0))).data
    error = found.std() / np.sqrt(len(found))
    assert abs(models.bernoulli_log_likelihood(Tensor(grey), Tensor(logits)).item() - found.mean()) < 5 * error


# ---- the bound ----


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_gradients(likelihood):
    """Of the ELBO by images and all parameters, against central differences."""
    model, x, noise = small(likelihood)
    model.encoder[2] = model.decoder[1] = nn.Tanh()  # a ReLU has a kink
    parameters = dict(model.named_parameters())
    assert ("log_variance" in parameters) == (likelihood == "gaussian")
    model.elbo(x, noise).sum().backward()
    for name, parameter in parameters.items():
        assert derivative_matches(model, parameter, x, noise), name
    assert gradcheck(lambda image: model.elbo(image, noise), Tensor(x, True))


def derivative_matches(model, parameter, x, noise, step=1e-5):
    """Is its gradient the derivative along a random direction, by central differences?"""
    direction = np.random.default_rng(0).standard_normal(parameter.shape)
    ends = []
    for sign in (1, -1):
        parameter.data[...] += sign * step * direction
        with no_grad():
            ends.append(model.elbo(x, noise).sum().item())
        parameter.data[...] -= sign * step * direction
    want = (ends[0] - ends[1]) / (2 * step)
    return abs((parameter.grad * direction).sum() - want) <= 1e-6 * max(1, abs(want))


def test_bounds_of_a_known_likelihood():
    """Linear and Gaussian, all that is here is known: x = W h + b + σ e, so that p(x) = N(b, W Wᵀ + σ² I), and q(h|x)
    can be p(h|x) but for its correlations. ELBO <= importance-weighted bound <= log p(x); five standard errors."""
    rng = np.random.default_rng(3)
    w, b, sigma = np.array([[1.0, 0], [0, 0.5], [0, 0]]), rng.standard_normal(3), 0.7
    decoder = nn.Linear(2, 3).double()
    decoder.weight.data[...], decoder.bias.data[...] = w, b
    precision = np.eye(2) + w.T @ w / sigma**2  # diagonal: q is exact, and both bounds are log p(x)
    encoder = nn.Linear(3, 4).double()
    encoder.weight.data[...] = np.vstack([np.linalg.solve(precision, w.T) / sigma**2, np.zeros((2, 3))])
    encoder.bias.data[...] = [*-encoder.weight.data[:2] @ b, *-np.log(np.diag(precision))]
    model = models.VAE(encoder, decoder, 2, likelihood="gaussian").double()
    model.log_variance.data[...] = 2 * np.log(sigma)

    x = rng.standard_normal((4, 3))
    covariance = w @ w.T + sigma**2 * np.eye(3)
    distance = np.einsum("ni,ij,nj->n", x - b, np.linalg.inv(covariance), x - b)
    truth = -0.5 * (distance + np.linalg.slogdet(2 * np.pi * covariance)[1])
    fastnn.manual_seed(0)
    np.testing.assert_allclose(model.importance_bound(x, 3), truth, rtol=1e-12)
    draws = model.elbo(np.repeat(x, 20_000, 0)).data.reshape(4, -1)
    assert np.all(abs(draws.mean(1) - truth) < 5 * draws.std(1) / np.sqrt(20_000))

    encoder.bias.data[2:] += 1.0  # a worse q
    loose = model.elbo(np.repeat(x, 20_000, 0)).data.reshape(4, -1).mean(1)
    tight = model.importance_bound(x, 500)
    assert np.all(loose + 0.2 < tight) and np.all(tight < truth + 0.1)


# ---- PyTorch ----


def test_same_as_torch():
    """The same weights, order and noise give the same losses: 30 steps of Adam, each with errors of rounding, which
    training may double every few steps."""
    torch = pytest.importorskip("torch")
    model, _, _ = small()
    encoder, decoder = demo.torch_twin(model)
    for theirs, ours in ((encoder.double(), model.encoder), (decoder.double(), model.decoder)):
        theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
    optimizer = optim.Adam(model.parameters(), 1e-2)
    other = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-2)
    rng = np.random.default_rng(0)
    curves = []
    for _ in range(30):
        x, noise = rng.random((8, 1, 4, 4)), rng.standard_normal((8, 3))
        bound = model.elbo(x, noise).mean()
        optimizer.zero_grad()
        (-bound).backward()
        optimizer.step()
        loss = -demo.torch_bound(encoder, decoder, torch.tensor(x), torch.tensor(noise))
        other.zero_grad()
        loss.backward()
        other.step()
        curves.append((-bound.item(), loss.item()))
    ours, theirs = np.transpose(curves)
    assert ours[-1] < ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


# ---- shapes, options, errors ----


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize(
    "make",
    [models.conv_vae, lambda **options: models.vae(hidden=(12, 8), **options), models.vae],
    ids=["conv_vae", "small", "vae"],
)
def test_shapes(make, likelihood):
    fastnn.manual_seed(0)
    model = make(shape=(3, 8, 12), latent=5, likelihood=likelihood)
    x = np.random.default_rng(0).random((4, 3, 8, 12), np.float32)
    assert model.elbo(x).shape == (4,)
    assert model.importance_bound(x, 2).shape == (4,)
    assert model.sample(6).shape == (6, 3, 8, 12)
    assert [h.shape for h in model.encode(x)] == [(4, 5), (4, 5)]
    again = model(x)
    assert isinstance(again, np.ndarray) and again.shape == x.shape
    assert np.array_equal(model(Tensor(x)).data, again)


def test_without_hidden_layers():
    model = models.vae((1, 4, 4), latent=2, hidden=())
    assert sum(p.size for p in model.parameters()) == 17 * 4 + 3 * 16


def test_noise_is_seeded():
    model, x, _ = small()
    drawn = [(fastnn.manual_seed(5), model.elbo(x).data, model.sample(2))[1:] for _ in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(*drawn, strict=True))
    assert not np.array_equal(model.elbo(x).data, drawn[0][0])


def test_errors():
    encoder, decoder = nn.Linear(4, 6), nn.Linear(3, 4)
    with pytest.raises(ValueError, match="VAE: latent is 0, expected a positive integer"):
        models.VAE(encoder, decoder, 0)
    with pytest.raises(ValueError, match="VAE: likelihood is 'poisson', expected 'bernoulli' or 'gaussian'"):
        models.VAE(encoder, decoder, 3, likelihood="poisson")
    with pytest.raises(ValueError, match=r"encoder gives \(2, 6\), expected \(N, 4\) for latent 2"):
        models.VAE(encoder, decoder, 2).elbo(np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="samples is 0, expected a positive integer"):
        models.VAE(encoder, decoder, 3).importance_bound(np.zeros((2, 4), np.float32), 0)
    with pytest.raises(ValueError, match=r"shape is \(1, 6, 8\), expected \(C, H, W\) with multiples of 4"):
        models.conv_vae((1, 6, 8))


# ---- the demonstration ----


def test_demonstration(capsys):
    """The bound is far above the log likelihood of independent pixels, two latent dimensions are worth less than
    twenty, and ten samples make a tighter bound than one."""
    measures = demonstrate("vae").measures
    assert measures["elbo"] > measures["baseline"] + 40
    assert measures["elbo"] > measures["elbo_plane"] > measures["baseline"]
    assert measures["importance_bound"] > measures["elbo"]
    assert "held out" in capsys.readouterr().out


def test_demonstration_beside_torch():
    """From their own initial weights and noise, both reach the same in eight epochs: over seeds, either's bound has a
    standard deviation of about a nat."""
    pytest.importorskip("torch")
    measures = demonstrate("vae", epochs=8, torch=2).measures
    assert abs(measures["elbo_seeds"] - measures["elbo_torch"]) < 5
