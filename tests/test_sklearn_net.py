"""NetClassifier and NetRegressor: any Module as an estimator."""

from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_digits
from sklearn_support import Images, Small, problem

import fastnn
import fastnn.nn as nn
from fastnn import functional as F
from fastnn import optim, train
from fastnn.sklearn import NetClassifier, NetRegressor


def weights(estimator):
    return {name: x.copy() for name, x in estimator.module_.state_dict().items()}


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


def test_images_from_flat_samples():
    """Most digits that were held out (a guess has a tenth of them), with a convolution, batch norm and dropout."""
    X, y = digits()
    net = NetClassifier(Images, input_shape=(1, 8, 8), lr=0.02, epochs=6, random_state=0)
    net.fit(X[:1400], y[:1400])
    assert net.score(X[1400:], y[1400:]) > 0.85
    p = net.predict_proba(X)
    assert p.shape == (len(X), 10) and p.dtype == np.float32
    np.testing.assert_allclose(p.sum(1), 1, 1e-5)
    # as images they are the same samples, in any memory layout; every other one is not contiguous
    images = NetClassifier(Images, lr=0.02, epochs=6, random_state=0).fit(X[:1400].reshape(-1, 1, 8, 8), y[:1400])
    # batches end elsewhere, and sums of at most 100 numbers of float32 are in another order
    np.testing.assert_allclose(images.predict_proba(X.reshape(-1, 1, 8, 8)[::2]), p[::2], 1e-4)


def test_each_fit_begins_with_a_copy():
    X, y = problem("multiclass")
    model = Small(12, 3)
    before = {name: x.copy() for name, x in model.state_dict().items()}
    net = NetClassifier(model, epochs=2, random_state=0)
    first = weights(net.fit(X, y))
    assert_same_weights(weights(net.fit(X, y)), first)
    assert_same_weights({name: x.copy() for name, x in model.state_dict().items()}, before)
    assert {x.dtype for x in first.values()} == {np.dtype(np.float64)}


def test_random_state_is_all_that_matters():
    X, y = digits()
    net = NetClassifier(Images, input_shape=(1, 8, 8), epochs=1, random_state=5)
    fastnn.manual_seed(1)
    first = weights(net.fit(X[:200], y[:200]))
    state = fastnn.get_rng_state()
    second = weights(net.fit(X[:200], y[:200]))
    np.testing.assert_array_equal(fastnn.get_rng_state(), state)
    assert_same_weights(first, second)
    other = weights(net.set_params(random_state=6).fit(X[:200], y[:200]))
    assert (other["last.weight"] != first["last.weight"]).all()


def test_is_the_same_as_fit():
    """An epoch is that of train.fit, with the same batches."""
    X, y = problem("multiclass")
    model = Small(12, 3).double()
    net = NetClassifier(model, epochs=3, batch_size=50, shuffle=False, optimizer="sgd", lr=0.1,
                        optimizer_options={"momentum": 0.9}, random_state=0).fit(X, y)  # fmt: skip
    history = train.fit(
        model, (X, np.unique(y, return_inverse=True)[1]), optimizer=optim.SGD(model.parameters(), 0.1, momentum=0.9),
        epochs=3, batch_size=50, shuffle=False, progress=False,
    )  # fmt: skip
    assert net.loss_curve_ == history["loss"]
    assert_same_weights(weights(net), model.state_dict())
    assert net.n_iter_ == 3 and net.loss_ == history["loss"][-1]


@pytest.mark.parametrize(
    ("kind", "loss", "model"),
    [
        ("multiclass", "cross_entropy", Small),
        ("binary", "auto", Small),
        ("binary", "binary_cross_entropy_with_logits", Small),
        ("multilabel", "auto", Small),
        ("multiclass", F.cross_entropy, Small),
        ("multiclass", "nll_loss", lambda n_outputs: nn.Sequential(nn.Linear(12, n_outputs), nn.LogSoftmax(1))),
        ("binary", "binary_cross_entropy_with_logits", lambda: nn.Sequential(nn.Linear(12, 1), nn.Flatten(0))),
    ],
    ids=["multiclass", "binary", "one output", "multilabel", "function", "log-probabilities", "flat output"],
)
def test_losses_of_classes(kind, loss, model):
    X, y = problem(kind, dtype=np.float32)
    net = NetClassifier(model, loss=loss, lr=0.02, epochs=25, random_state=0).fit(X, y)
    assert net.score(X, y) > 0.85
    p = net.predict_proba(X)
    assert p.shape == (len(X), len(net.classes_)) and p.dtype == np.float32
    if kind != "multilabel":
        np.testing.assert_allclose(p.sum(1), 1, 1e-5)
        np.testing.assert_array_equal(net.classes_[p.argmax(1)], net.predict(X))
    else:
        np.testing.assert_array_equal((p > 0.5).astype(int), net.predict(X))
    np.testing.assert_allclose(np.exp(net.predict_log_proba(X)), p, 1e-6)


@pytest.mark.parametrize("loss", ["mse_loss", "l1_loss", "smooth_l1_loss", partial(F.huber_loss, delta=0.5)])
@pytest.mark.parametrize("kind", ["one", "several"])
def test_losses_of_numbers(kind, loss):
    X, y = problem(kind)
    net = NetRegressor(Small, loss=loss, lr=0.02, epochs=30, random_state=0).fit(X, y)
    assert net.predict(X).shape == y.shape
    assert net.score(X, y) > 0.7


def test_weights_of_samples_and_classes():
    """A weight of 0 takes a sample out, 2 is the sample twice, and a class's weight is that of its samples."""
    X, y = problem("binary")
    options = {"epochs": 3, "batch_size": 1000, "shuffle": False, "random_state": 0}
    keep = np.arange(len(X)) % 3 != 0
    weight = keep * np.where(y == "yes", 2.0, 1.0)
    twice = np.concatenate([np.flatnonzero(keep), np.flatnonzero(keep & (y == "yes"))])
    want = NetClassifier(Small, **options).fit(X[twice], y[twice]).predict_proba(X)
    got = NetClassifier(Small, **options).fit(X, y, weight).predict_proba(X)
    np.testing.assert_allclose(got, want, 1e-10)
    balanced = NetClassifier(Small, class_weight={"yes": 2, "no": 1}, **options).fit(X, y, keep * 1.0)
    np.testing.assert_allclose(balanced.predict_proba(X), want, 1e-10)
    target = (y == "yes")[:, None] * np.ones(3)
    want = NetRegressor(Small, **options).fit(X[twice], target[twice]).predict(X)
    np.testing.assert_allclose(NetRegressor(Small, **options).fit(X, target, weight).predict(X), want, 1e-9, 1e-12)
    with pytest.raises(TypeError, match="reduction"):
        NetClassifier(Small, loss=lambda output, target: F.cross_entropy(output, target)).fit(X, y, weight)


def test_rare_classes_count_when_balanced():
    """Of a class with 4 % of the samples, and no better feature than the others: recall rises above a half."""
    rng = np.random.default_rng(0)
    y = (rng.random(1500) < 0.04).astype(int)
    X = rng.standard_normal((1500, 4)) + y[:, None]
    options = {"epochs": 8, "lr": 0.01, "random_state": 0}
    plain = NetClassifier(Small, **options).fit(X, y)
    balanced = NetClassifier(Small, class_weight="balanced", **options).fit(X, y)
    recall = [(net.predict(X)[y == 1] == 1).mean() for net in (plain, balanced)]
    assert recall[0] < 0.5 < recall[1]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_early_stopping(weighted):
    X, y = problem("multiclass")
    rng = np.random.default_rng(0)
    y = np.where(rng.random(len(y)) < 0.3, rng.permutation(y), y)  # which a network can only learn by heart
    weight = rng.uniform(0.5, 1, len(y)) if weighted else None
    net = NetClassifier(Small, lr=0.05, epochs=200, early_stopping=True, metrics=["accuracy"], random_state=0)
    net.fit(X, y, weight)
    history = net.history_
    assert history.stopped == "early_stopping" and net.n_iter_ == len(history) < 200
    assert "val_accuracy" in history and max(history["val_accuracy"]) <= 1
    stopping = train.EarlyStopping("loss", patience=2, min_delta=10.0)
    net = NetClassifier(Small, epochs=50, early_stopping=stopping, random_state=0).fit(X, y)
    assert net.n_iter_ == 3 and stopping.best is None and "val_loss" not in net.history_


def test_options_of_training():
    X, y = problem("one")
    seen = []
    net = NetRegressor(
        Small, optimizer=partial(optim.AdamW, weight_decay=0.1), lr=0.01, epochs=4, clip_grad_norm=0.5,
        scheduler=lambda optimizer: optim.lr_scheduler.StepLR(optimizer, 2), metrics="mae", callback=seen.append,
        random_state=0,
    ).fit(X, y)  # fmt: skip
    assert [record["lr"] for record in seen] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    assert seen[0].keys() >= {"loss", "mae", "grad_norm"}
    assert isinstance(net.optimizer_, optim.AdamW)


def test_goes_on():
    """partial_fit keeps the optimiser's state, warm_start only the weights."""
    X, y = problem("multiclass")
    options = {"shuffle": False, "random_state": 0}
    whole = NetClassifier(Small, epochs=3, **options).fit(X, y)
    parts = NetClassifier(Small, **options)
    for _ in range(3):
        parts.partial_fit(X, y, classes=["a", "b", "c"])
    assert_same_weights(weights(parts), weights(whole))
    assert parts.n_iter_ == 3 and parts.loss_curve_ == whole.loss_curve_
    warm = NetClassifier(Small, epochs=3, warm_start=True, **options).fit(X, y)
    assert warm.fit(X, y).n_iter_ == 6
    assert warm.loss_ < whole.loss_
    regressor = NetRegressor(Small, **options).partial_fit(X, X[:, :2]).partial_fit(X, X[:, :2])
    assert regressor.n_iter_ == 2


def test_indices_for_an_embedding():
    """The first of four words decides; the model is of float32, and float64 samples are brought to integers."""
    X = np.random.default_rng(0).integers(0, 6, (300, 4))
    net = NetClassifier(
        lambda n_outputs: nn.Sequential(nn.Embedding(6, 8), nn.Flatten(), nn.Linear(32, n_outputs)),
        dtype="int64", lr=0.05, epochs=12, random_state=0,
    ).fit(X.astype(float), X[:, 0] % 3)  # fmt: skip
    assert net.score(X, X[:, 0] % 3) > 0.95
    assert net.predict_proba(X).dtype == np.float32


def test_dtype():
    X, y = problem("one")
    for given, dtype, want in ((np.float64, None, np.float64), (np.float32, None, np.float32),
                               (np.float64, "float32", np.float32), (np.int64, None, np.float64)):  # fmt: skip
        net = NetRegressor(Small(12, 1), epochs=1, dtype=dtype, random_state=0).fit(X.astype(given), y)
        assert net.predict(X).dtype == want
        assert {x.dtype for x in weights(net).values()} == {np.dtype(want)}
    with pytest.raises(ValueError, match="dtype is 'complex64'"):
        NetRegressor(Small, dtype="complex64").fit(X, y)


WRONG = [
    ({"model": "resnet"}, TypeError, "model must be a Module or a function, got str"),
    ({"model": dict}, TypeError, "model must return a Module, got dict"),
    ({"model": Small(12, 5)}, ValueError, r"model returns shape \(32, 5\), expected \(32, 3\)"),
    ({"optimizer": "lion"}, ValueError, "optimizer is 'lion'"),
    ({"optimizer_options": 3}, TypeError, "optimizer_options must be a dict"),
    ({"loss": "hinge"}, ValueError, "loss is 'hinge'"),
    ({"loss": "binary_cross_entropy_with_logits"}, ValueError, "of 3 classes, expected 2"),
    ({"lr": 0}, ValueError, "lr is 0"),
    ({"epochs": 1.5}, TypeError, "epochs must be an integer"),
    ({"batch_size": 0}, ValueError, "batch_size is 0"),
    ({"early_stopping": 5}, TypeError, "early_stopping must be"),
    ({"input_shape": (3, 5)}, ValueError, r"input_shape \(3, 5\)"),
    ({"metrics": "auc"}, ValueError, "auc"),
]


@pytest.mark.parametrize(("options", "error", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_wrong_parameters(options, error, message):
    X, y = problem("multiclass")
    with pytest.raises(error, match=message):
        NetClassifier(**{"model": Small, **options}).fit(X, y)


def test_wrong_calls():
    X, y = problem("multiclass")
    net = NetClassifier(Small, epochs=1, random_state=0)
    with pytest.raises(ValueError, match="classes must be passed"):
        net.partial_fit(X, y)
    net.fit(X, y)
    with pytest.raises(ValueError, match="not the same as on last call"):
        net.partial_fit(X, y, classes=["a", "b"])
    with pytest.raises(ValueError, match="classes not in"):
        net.partial_fit(X, np.where(y == "a", "d", y))
    with pytest.raises(ValueError, match="expected multiclass targets"):
        net.partial_fit(X, np.eye(230, 3, dtype=int))
    regressor = NetRegressor(Small, epochs=1).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="y has 2 outputs, expected 1"):
        regressor.partial_fit(X, X[:, :2])
    with pytest.raises(ValueError, match="loss is 'hinge'"):
        regressor.set_params(loss="hinge").fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"model returns shape \(32, 2\), expected \(32, 1\)"):
        NetRegressor(Small(12, 2)).fit(X, X[:, 0])
