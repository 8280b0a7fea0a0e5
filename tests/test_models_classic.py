"""Perceptrons of one, two and more layers, and naive Bayes; their demonstrations learn."""

import fastnn.nn.functional as F
import numpy as np
import pytest
from demo_support import demonstrate

import fastnn
from fastnn import models, optim, train
from fastnn.demos import backpropagation, distributions, perceptron

XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([0, 1, 1, 0])
SIGNED = 2 * XOR[0] - 1, 2 * XOR[1] - 1


def separable(seed, integers=False, n=60, features=5):
    """Samples at least 0.3 away from a plane through a point, and that plane (w, b), |w| = 1."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-9, 10, (4 * n, features)).astype(float) if integers else rng.standard_normal((4 * n, features))
    w = rng.standard_normal(features)
    w /= np.linalg.norm(w)
    distance = x @ w - 0.4
    x = x[np.abs(distance) > 0.3][:n]
    return x, np.where(x @ w > 0.4, 1, -1), w, -0.4


# ---- perceptrons ----


@pytest.mark.parametrize("order", [None, 0, 1])
@pytest.mark.parametrize("eta", [1.0, 0.25])
def test_dual_is_primal(order, eta):
    """Bit for bit, of integers and a power of two: all sums are exact. Mistake for mistake."""
    for seed in range(5):
        x, y, *_ = separable(seed, integers=True)
        primal, dual = (kind(eta).fit(x, y, 100, order) for kind in (models.Perceptron, models.DualPerceptron))
        assert primal.separated
        assert primal.mistakes == dual.mistakes
        np.testing.assert_array_equal(primal.weight, dual.weight)
        assert primal.bias == dual.bias
        assert dual.alpha.sum() == sum(dual.mistakes)
        np.testing.assert_array_equal(primal.decision_function(x), dual.decision_function(x))


def test_dual_is_primal_but_for_rounding():
    """Of real numbers: M additions of terms of at most R err by at most M u Σ|terms| each."""
    for seed in range(5):
        x, y, *_ = separable(seed)
        primal, dual = (kind(0.1).fit(x, y) for kind in (models.Perceptron, models.DualPerceptron))
        assert primal.mistakes == dual.mistakes
        m = sum(primal.mistakes) + len(x)
        terms = 0.1 * dual.alpha @ np.abs(x)
        assert np.all(np.abs(primal.weight - dual.weight) <= 2 * m * 2.0**-53 * terms)


@pytest.mark.parametrize("kind", [models.Perceptron, models.DualPerceptron])
def test_mistakes_are_bounded(kind):
    """(R/γ)², Novikoff 1962, with 1 appended to samples and b to w; all are on their sides afterwards."""
    for seed in range(8):
        x, y, w, b = separable(seed)
        model = kind().fit(x, y, 1000, seed)
        long = np.append(w, b)
        margin = np.min(y * (x @ w + b)) / np.linalg.norm(long)
        radius = np.sqrt(np.max((x * x).sum(1) + 1))
        assert model.separated
        assert sum(model.mistakes) <= (radius / margin) ** 2
        np.testing.assert_array_equal(model.predict(x), y)
        assert model.report() == f"separated after {len(model.mistakes)} epochs and {sum(model.mistakes)} mistakes"


def test_rule():
    """w <- w + η y x, b <- b + η y, of the first sample on the border, and of the second, which is a mistake then."""
    model = models.Perceptron(0.5).fit(np.array([[1.0, 2.0], [3.0, 1.0]]), np.array([1, -1]), epochs=1)
    np.testing.assert_array_equal(model.weight, [0.5 * 1 - 0.5 * 3, 0.5 * 2 - 0.5 * 1])
    assert model.bias == 0
    assert model.mistakes == [2]
    assert not model.separated


@pytest.mark.parametrize("kind", [models.Perceptron, models.DualPerceptron])
@pytest.mark.parametrize("seed", [None, 0])
def test_xor_is_not_separated(kind, seed):
    model = kind().fit(*SIGNED, epochs=50, seed=seed)
    assert not model.separated
    assert len(model.mistakes) == 50
    assert min(model.mistakes) > 0
    assert model.report().startswith("not separated within 50 epochs: ")
    assert np.any(model.predict(SIGNED[0]) != SIGNED[1])


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_kernel_separates_xor(degree):
    model = models.DualPerceptron(kernel=models.polynomial(degree)).fit(*SIGNED)
    assert model.separated
    np.testing.assert_array_equal(model.predict(SIGNED[0]), SIGNED[1])
    with pytest.raises(AttributeError, match="of the linear kernel"):
        _ = model.weight


def test_polynomial_kernel():
    """Degree 2 is the scalar product of 1, √2 x_i, x_i x_j."""
    a, b = np.random.default_rng(0).standard_normal((2, 4, 3))

    def features(x):
        return np.hstack([np.ones((4, 1)), np.sqrt(2) * x, (x[:, :, None] * x[:, None]).reshape(4, 9)])

    np.testing.assert_allclose(models.polynomial(2)(a, b), features(a) @ features(b).T)


def test_not_fitted():
    assert models.Perceptron().report() == "not fitted"
    assert not models.Perceptron().separated


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: models.Perceptron(0), ValueError, "Perceptron: eta is 0, expected above 0"),
        (lambda: models.DualPerceptron("1"), TypeError, "DualPerceptron: eta must be a number"),
        (
            lambda: models.Perceptron().fit(*XOR),
            ValueError,
            r"Perceptron: y of shape \(4,\) must be \+1 or -1, for",
        ),
        (lambda: models.Perceptron().fit(SIGNED[0], [1, -1]), ValueError, r"y of shape \(2,\) must be .* of 4 samples"),
        (lambda: models.Perceptron().fit(SIGNED[0][0], [1]), ValueError, r"x has shape \(2,\), expected \(samples, f"),
        (
            lambda: models.Perceptron().fit(*SIGNED, epochs=0),
            ValueError,
            "epochs is 0, expected an integer of at l",
        ),
        (
            lambda: models.DualPerceptron().fit(*SIGNED).predict(np.ones((1, 3))),
            ValueError,
            r"DualPerceptron: x has shape \(1, 3\), expected \(samples, 2\) as in fit",
        ),
    ],
)
def test_perceptron_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- two layers, and more ----


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_two_layers_solve_xor(activation):
    """Whatever the initial weights."""
    for seed in range(12):
        fastnn.manual_seed(seed)
        model = models.TwoLayerPerceptron(2, activation=activation)
        found = model.fit(*XOR, steps=300)
        np.testing.assert_array_equal(model.predict(XOR[0]), XOR[1])
        assert found[-1] > -0.5 > found[0]  # all four wrong or undecided: 4 log 1/2 = -2.8


def test_two_layers_by_fit():
    """The same network and likelihood in train.fit."""
    fastnn.manual_seed(0)
    model = models.TwoLayerPerceptron(2)
    data = [(XOR[0], XOR[1].astype(np.float32))]
    optimizer = optim.Adam(model.parameters(), 0.05)
    train.fit(
        model, data, epochs=300, optimizer=optimizer, loss=lambda a, y: -models.log_likelihood(a, y), progress=False
    )
    np.testing.assert_array_equal(model.predict(XOR[0]), XOR[1])


def test_log_likelihood():
    """Σ y A - log(1 + e^A) = -binary cross-entropy; its gradient is y - sigmoid(A); finite for large A."""
    a = fastnn.Tensor(np.array([-800.0, -3, -0.2, 0, 1.5, 4, 50, 800]), requires_grad=True)
    y = np.array([0.0, 1, 0, 1, 0, 1, 1, 1])
    found = models.log_likelihood(a, y)
    found.backward()
    cross_entropy = F.binary_cross_entropy_with_logits(a.data, y, reduction="sum")
    np.testing.assert_allclose(found.data, -cross_entropy, rtol=1e-14)
    np.testing.assert_allclose(a.grad, y - F.sigmoid(a.data), rtol=1e-12, atol=1e-16)
    assert fastnn.gradcheck(lambda t: models.log_likelihood(t, y), fastnn.Tensor(a.data / 100, requires_grad=True))


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh"])
def test_mlp(activation):
    model = models.mlp(5, 4, 3, activation=activation)
    assert [*model.state_dict()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert sum(p.size for p in model.parameters()) == 5 * 4 + 4 + 4 * 3 + 3
    assert model(np.zeros((2, 5), np.float32)).shape == (2, 3)


def test_two_layers_are_the_equation():
    model = models.TwoLayerPerceptron(3, 4)
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    v, c, w, b = (p.data.astype(np.float64) for p in model.parameters())
    want = 1 / (1 + np.exp(-(x @ v.T + c))) @ w[0] + b
    np.testing.assert_allclose(model(x), want, rtol=1e-5, atol=1e-6)
    assert [p.shape for p in models.TwoLayerPerceptron(3, 0).parameters()] == [(1, 3), (1,)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.mlp(5), r"MLP: sizes is \[5\], expected at least two"),
        (lambda: models.mlp(5, 2, activation="sine"), "MLP: activation is 'sine', expected one of relu, sigmoid, tanh"),
        (lambda: models.TwoLayerPerceptron(2).fit(*SIGNED), r"TwoLayerPerceptron: y of shape \(4,\) must be 0 or 1"),
    ],
)
def test_layer_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [*backpropagation.ACTIVATIONS])
def test_matrix_form(activation, dtype, capsys):
    """Equal to the tape's gradients, within the bound of rounding; that is no more than a thousandth of gradients in
    single precision, so that anything else would be seen."""
    f = backpropagation.ACTIVATIONS[activation]
    for seed in range(5):
        fastnn.manual_seed(seed)
        model = models.mlp(20, 30, 15, 10, activation=activation)
        if dtype is np.float64:
            model.double()
        rng = np.random.default_rng(seed)
        x, classes = rng.standard_normal((17, 20)).astype(dtype), rng.integers(0, 10, 17)
        ratios = backpropagation.compare(model, x, classes, f)
        assert [*ratios] == ["ΔW3", "Δb3", "ΔW2", "Δb2", "ΔW1", "Δb1"]
        assert max(ratio.max() for ratio in ratios.values()) <= 1
        W, b = backpropagation.layers_of(model)
        steps = backpropagation.backpropagate(W, b, x.T, backpropagation.one_hot(classes, dtype), f)
        for bound, gradient in zip(backpropagation.rounding(W, b, steps, f)[0], steps.dW, strict=True):
            assert np.median(bound) <= 1e4 * np.finfo(dtype).eps * np.abs(gradient).max()
    assert "layer 1: " in capsys.readouterr().out


# ---- naive Bayes ----


def categories(seed, n=200, features=6, most=5):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    return (rng.integers(0, most, (n, features)) + y[:, None]) % most, y


@pytest.mark.parametrize("alpha", [1e-3, 0.5, 1.0, 7.0])
@pytest.mark.parametrize("least", [None, 8])
def test_sklearn(alpha, least):
    """The same counts, and probabilities equal to a few roundings of logarithms' sums."""
    theirs = pytest.importorskip("sklearn.naive_bayes").CategoricalNB(alpha=alpha, min_categories=least)
    x, y = categories(0)
    names = np.array(["one", "two", "three", "four"])[y]
    ours = models.CategoricalNB(alpha, least).fit(x, names)
    theirs.fit(x, names)
    np.testing.assert_array_equal(ours.classes, theirs.classes_)
    for i in range(x.shape[1]):
        np.testing.assert_array_equal(ours.category_count[i], theirs.category_count_[i])
        np.testing.assert_allclose(ours.feature_log_prob[i], theirs.feature_log_prob_[i], rtol=1e-14)
    np.testing.assert_allclose(ours.class_log_prior, theirs.class_log_prior_, rtol=1e-14)
    test, _ = categories(1)
    np.testing.assert_array_equal(ours.predict(test), theirs.predict(test))
    np.testing.assert_allclose(ours.joint_log_prob(test), theirs.predict_joint_log_proba(test), rtol=1e-14)
    np.testing.assert_allclose(ours.predict_log_proba(test), theirs.predict_log_proba(test), rtol=1e-12, atol=1e-14)


def test_maximum_likelihood():
    """Relative frequencies; what was not seen is impossible, in one class or in all."""
    x = np.array([[0, 1], [0, 0], [1, 0], [1, 2], [1, 0]])
    model = models.CategoricalNB(0, categories=[3, 3]).fit(x, [0, 0, 1, 1, 1])
    np.testing.assert_allclose(np.exp(model.class_log_prior), [2 / 5, 3 / 5])
    np.testing.assert_allclose(np.exp(model.feature_log_prob[0]), [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(np.exp(model.feature_log_prob[1]), [[1 / 2, 1 / 2, 0], [2 / 3, 0, 1 / 3]])
    test = np.array([[0, 0], [0, 2], [2, 0]])
    assert model.impossible(test).tolist() == [False, True, True]
    assert model.predict(test).tolist() == [0, 1, 1]
    log_proba = model.predict_log_proba(test)
    assert log_proba[0].tolist() == [0, -np.inf]
    assert np.isnan(log_proba[1:]).all()


def test_probabilities_sum_to_one():
    model = models.CategoricalNB().fit(*categories(0))
    np.testing.assert_allclose(np.exp(model.predict_log_proba(categories(1)[0])).sum(1), 1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: models.CategoricalNB(-1), ValueError, "CategoricalNB: alpha is -1, expected at least 0"),
        (lambda x, y: models.CategoricalNB().fit(x / 2, y), TypeError, "x has dtype float64, expected integers"),
        (lambda x, y: models.CategoricalNB().fit(x - 1, y), ValueError, "x has -1, expected categories from 0 on"),
        (lambda x, y: models.CategoricalNB().fit(x[0], y), ValueError, r"x has shape \(6,\), expected \(samples, feat"),
        (
            lambda x, y: models.CategoricalNB().fit(x, y[1:]),
            ValueError,
            r"x has shape \(200, 6\) and y \(199,\), ex",
        ),
        (
            lambda x, y: models.CategoricalNB(1, [3]).fit(x, y),
            ValueError,
            r"categories is \[3\], expected an int",
        ),
        (
            lambda x, y: models.CategoricalNB().fit(x, y).predict(x + 1),
            ValueError,
            "feature 0 has category 5, ex",
        ),
        (lambda x, y: models.CategoricalNB().fit(x, y).predict(x[:, :2]), ValueError, "x has 2 features, expected 6"),
    ],
)
def test_naive_bayes_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(*categories(0))


# ---- demonstrations ----


def test_perceptron_demonstration():
    """Two classes: chance is 50 %. Sums of integers are exact; XOR is for no line."""
    measures = demonstrate("perceptron").measures
    assert measures["accuracy"] >= 0.95
    assert measures["pairs"] >= 0.9
    assert measures["difference"] == 0
    assert (measures["xor"], measures["xor_kernel"]) == (0, 1)
    np.testing.assert_array_equal(perceptron.XOR[1], SIGNED[1])


def test_two_layers_demonstration():
    """Odd or even: chance is 50 %, and one layer is a baseline."""
    measures = demonstrate("two_layers").measures
    assert measures["xor_sigmoid"] == measures["xor_relu"] == 4
    assert min(measures["sigmoid"], measures["relu"]) > measures["one layer"] > 0.7


def test_backpropagation_demonstration():
    """Ten classes: chance is 10 %."""
    measures = demonstrate("backpropagation").measures
    assert measures["rounding"] <= 1
    assert measures["accuracy"] >= 0.7


def test_naive_bayes_demonstration():
    """As scikit-learn's, which breaks ties the same way; better than without smoothing."""
    measures = demonstrate("naive_bayes").measures
    assert measures["accuracy"] == measures["sklearn"] >= 0.8
    assert measures["accuracy"] > measures["likelihood"]


def test_distributions_demonstration():
    """Fourteen moments, one of which is five standard errors off once in 10^5 seeds; ink varies more than counts do."""
    measures = demonstrate("distributions").measures
    assert measures["errors"] <= 5
    assert measures["Normal"] > measures["Poisson"]
    assert {p.name for p in distributions.FAMILIES} == {
        "Bernoulli", "Beta", "Binomial", "Exponential", "Normal", "Poisson", "Uniform"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["two_layers", "backpropagation", "distributions"])
def test_same_seed_same_result(name):
    options = {"samples": 100} if name == "distributions" else {}
    first, second, other = (demonstrate(name, seed=seed, **options).measures for seed in (1, 1, 2))
    assert first == second
    assert first != other
