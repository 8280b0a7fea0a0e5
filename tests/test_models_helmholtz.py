"""The Helmholtz machine: its delta rules are the tape's gradients, its likelihoods those of an enumeration."""

import numpy as np
import pytest
from demo_support import demonstrate

import fastnn
from fastnn.models import HelmholtzMachine
from fastnn.models.helmholtz import all_states


def machine(*sizes, scale=2.0):
    """With weights that are far from zero, so that states depend on each other."""
    fastnn.manual_seed(1)
    model = HelmholtzMachine(*sizes)
    for parameter in model.parameters():
        fastnn.init.normal_(parameter, std=scale)
    return model


def taken(parameters):
    """Their gradients, which they lose."""
    found = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    return found


@pytest.mark.parametrize("sizes", [(6, 4), (6, 5, 4, 3)])
def test_delta_rules(sizes):
    """Of a batch, the wake rule is the gradient of the mean of -log p, the sleep rule that of -log q."""
    model, rng = machine(*sizes), np.random.default_rng(0)
    generative, recognition = [*model.generative.parameters(), model.top], [*model.recognition.parameters()]
    x = (rng.random((7, 6)) < 0.5).astype(np.float32)
    for learn, log_p, states, parameters, others in (
        (model.wake, model.log_joint, model.recognise(x, rng), generative, recognition),
        (model.sleep, model.log_recognition, model.dream(7, rng), recognition, generative),
    ):
        learn(states)
        assert all(p.grad is None for p in others)
        rule = taken(parameters)
        (-log_p(states).mean()).backward()
        for a, b in zip(rule, taken(parameters), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_exact_likelihood():
    """Equal to the sum over all states of both hidden layers, and all images together have probability 1."""
    model = machine(5, 4, 3)
    images, first, second = map(all_states, model.sizes)
    log_p = model.exact_log_likelihood(images)
    rows = [np.repeat(image[None], 16 * 8, 0) for image in images]
    joint = [model.log_joint([row, np.repeat(first, 8, 0), np.tile(second, (16, 1))]).data for row in rows]
    np.testing.assert_allclose(log_p, np.logaddexp.reduce(np.array(joint, np.float64), 1), atol=1e-5)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1, rtol=1e-6)


def test_dreams():
    """Images are dreamt as often as their exact likelihood says, within five standard deviations."""
    model = machine(3, 2, 2, scale=1.0)
    x, *_ = model.dream(20000, np.random.default_rng(2))
    count = np.bincount(x.astype(np.int64) @ [1, 2, 4], minlength=8)
    p = np.exp(model.exact_log_likelihood(all_states(3)))
    assert (abs(count - 20000 * p) < 5 * np.sqrt(20000 * p * (1 - p))).all()


def test_estimated_likelihood():
    """By importance sampling; after training, when the recognition net is a proposal that fits, 1 % is reached."""
    rng = np.random.default_rng(3)
    patterns = (rng.random((3, 8)) < 0.5).astype(np.float32)
    x = np.abs(patterns[rng.integers(3, size=400)] - (rng.random((400, 8)) < 0.05)).astype(np.float32)
    fastnn.manual_seed(0)
    model = HelmholtzMachine(8, 6, 4)
    model.fit(x, epochs=60)
    exact = model.exact_log_likelihood(x)
    found = model.log_likelihood(x, np.random.default_rng(4), samples=2000)
    p = x.mean(0, dtype=np.float64)
    assert exact.mean() > (p * np.log(p) + (1 - p) * np.log1p(-p)).sum() + 1, "than independent pixels"
    assert abs(found - exact).mean() < 0.01 * abs(exact.mean())
    few = model.log_likelihood(x, np.random.default_rng(4), samples=1)
    assert few.mean() < exact.mean(), "the logarithm of an estimate is too small on average"


def test_determined_by_seed():
    x = all_states(4)
    found = []
    for _ in range(2):
        fastnn.manual_seed(5)
        model = HelmholtzMachine(4, 3)
        model.fit(x, epochs=2, seed=7)
        found.append(model.sample(5, np.random.default_rng(0)))
    assert found[0].shape == (5, 4)
    np.testing.assert_array_equal(*found)


def test_errors():
    with pytest.raises(ValueError, match=r"sizes are \(4,\), expected two or more"):
        HelmholtzMachine(4)
    model, rng = HelmholtzMachine(4, 9, 8), np.random.default_rng(0)
    x = np.zeros((2, 4), np.float32)
    with pytest.raises(TypeError, match="fit: x must be an array of float32, got float64"):
        model.fit(np.zeros((2, 4)), epochs=1)
    with pytest.raises(ValueError, match=r"recognise: x has shape \(2, 3\), expected \(N, 4\)"):
        model.recognise(x[:, 1:], rng)
    with pytest.raises(ValueError, match="samples is 0, expected at least 1"):
        model.log_likelihood(x, rng, samples=0)
    with pytest.raises(ValueError, match="17 units in a row of two layers, expected at most 16"):
        model.exact_log_likelihood(x)


def test_demonstration():
    """Better on digits held out than independent pixels, and than a mixture of ten of these, one for a class."""
    measures = demonstrate("wake_sleep").measures
    assert measures["nats"] < measures["mixture"] < measures["pixels"]
