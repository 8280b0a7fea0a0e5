"""Training: `fit` is the loop that one would write, and what it adds does what it says."""

import signal
import threading
from math import isnan, nan

import numpy as np
import pytest
from train_support import adam, equal, network, problem

import fastnn
import fastnn.functional as F
import fastnn.nn as nn
from fastnn import optim
from fastnn.data import ArrayDataset, DataLoader
from fastnn.train import METRICS, EarlyStopping, evaluate, fit, predict
from fastnn.train.loop import EVERY


def by_hand(model, optimizer, loader, epochs, between=lambda: None, after_batch=lambda: None, after_epoch=lambda: None):
    """The loop without fit; returns the mean loss of each epoch."""
    losses = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        total = count = 0
        model.train()
        for x, y in loader:
            loss = F.cross_entropy(model(fastnn.tensor(x)), y)
            optimizer.zero_grad()
            loss.backward()
            between()
            optimizer.step()
            after_batch()
            total += float(loss) * len(x)
            count += len(x)
        losses.append(total / count)
        after_epoch()
    return losses


# ---- the loop ----


@pytest.mark.parametrize("data", ["arrays", "tensors", "dataset", "loader"])
def test_fit_is_the_loop_by_hand_bit_for_bit(data):
    x, y = problem()
    a, b = network(), network()
    losses = by_hand(a, adam(a), DataLoader((x, y), 8, shuffle=True, seed=5), 3)
    fastnn.manual_seed(1)
    b = network()
    given = {
        "arrays": (x, y),
        "tensors": (fastnn.tensor(x), fastnn.tensor(y)),
        "dataset": ArrayDataset(x, y),
        "loader": DataLoader((x, y), 8, shuffle=True, seed=5),
    }[data]
    history = fit(b, given, epochs=3, optimizer=adam(b), batch_size=8, seed=5, progress=False)
    assert equal(a.state_dict(), b.state_dict())
    assert history["loss"] == losses and history["epoch"] == [1, 2, 3]
    assert history.stopped is None and len(history) == 3


def test_the_default_seed_is_that_of_manual_seed():
    x, y = problem()
    states = []
    for seed, given in ((3, None), (3, 3), (4, None)):
        model = network(seed)
        model.load_state_dict(network(0).state_dict())
        fastnn.manual_seed(seed)
        fit(model, (x, y), optimizer=adam(model), seed=given, progress=False)
        states.append(model.state_dict())
    assert equal(states[0], states[1]) and not equal(states[0], states[2])


def test_batches_may_come_from_a_list_and_are_tensors_or_arrays():
    x, y = problem(20)
    a, b = network(), network()
    by_hand(a, adam(a), DataLoader((x, y), 8), 2)
    b = network()
    batches = [(x[:8], y[:8]), [fastnn.tensor(x[8:16]), y[8:16]], (x[16:], y[16:])]
    fit(b, batches, epochs=2, optimizer=adam(b), progress=False)
    assert equal(a.state_dict(), b.state_dict())


def test_the_loss_is_a_function_or_a_module():
    x, _ = problem(24)
    target = x[:, :3] * 2
    states = []
    for loss in (F.mse_loss, nn.MSELoss(), lambda output, y: ((output - y) ** 2).mean()):
        model = network()
        history = fit(model, (x, target), optimizer=adam(model), loss=loss, metrics=["mse", "mae"], progress=False)
        states.append(model.state_dict())
        assert history["mse"] == pytest.approx(history["loss"], rel=1e-5)
    assert equal(states[0], states[1])


def test_modes_are_set_and_restored():
    x, y = problem(16)
    seen = []

    class Watch(nn.Module):
        def forward(self, input):
            seen.append((self.training, fastnn.is_grad_enabled()))
            return input

    model = nn.Sequential(Watch(), network())
    model.train()
    model[1].eval()
    fit(model, (x, y), optimizer=adam(model), batch_size=8, validation_data=(x, y), progress=False)
    assert seen == [(True, True)] * 2 + [(False, False)] * 2
    assert model[0].training and not any(m.training for m in model[1].modules())
    with pytest.raises(FloatingPointError):
        fit(model, (x * np.float32(nan), y), optimizer=adam(model), progress=False)
    assert model[0].training and not model[1].training


def test_validation_changes_nothing():
    x, y = problem()
    a, b = network(), network()
    fit(a, (x, y), epochs=2, optimizer=adam(a), seed=1, progress=False)
    b = network()
    history = fit(b, (x, y), epochs=2, optimizer=adam(b), seed=1, validation_data=problem(seed=7), progress=False)
    assert equal(a.state_dict(), b.state_dict())
    assert history["val_loss"][-1] == evaluate(b, problem(seed=7))["loss"]


def test_gradients_of_parameters_that_are_not_trained_do_not_pile_up():
    x, y = problem(16)
    model = network()
    fit(model, (x, y), epochs=3, optimizer=optim.SGD(model[4].parameters(), lr=0.0), progress=False, shuffle=False)
    after = model[0].weight.grad.copy()
    fit(model, (x, y), epochs=1, optimizer=optim.SGD(model[4].parameters(), lr=0.0), progress=False, shuffle=False)
    # One batch with other masks of dropout each time: of the same size, not three times as large.
    assert np.linalg.norm(after) < 2 * np.linalg.norm(model[0].weight.grad)


# ---- clipping and schedules ----


def test_clipping():
    x, y = problem()
    a = network()
    norms = []
    parameters = list(a.parameters())

    def clip():
        norms.append(nn.utils.clip_grad_norm_(parameters, 0.1))
        nn.utils.clip_grad_value_(parameters, 0.01)

    by_hand(a, optim.SGD(a.parameters(), lr=0.5), DataLoader((x, y), 8), 2, clip)
    b = network()
    history = fit(
        b, (x, y), epochs=2, optimizer=optim.SGD(b.parameters(), lr=0.5), batch_size=8, shuffle=False,
        clip_grad_norm=0.1, clip_grad_value=0.01, progress=False,
    )  # fmt: skip
    assert equal(a.state_dict(), b.state_dict())
    assert min(norms) > 0.1
    assert history["grad_norm"] == pytest.approx([np.mean(norms[:7]), np.mean(norms[7:])])


@pytest.mark.parametrize("every", ["epoch", "batch"])
def test_schedules(every):
    x, y = problem()
    runs = []
    for hand in (True, False):
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        scheduler = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        if hand:
            rates = []

            def note(rates=rates, optimizer=optimizer):
                rates.append(optimizer.param_groups[0]["lr"])

            def end(note=note, scheduler=scheduler):
                note()
                if every == "epoch":
                    scheduler.step()

            step = scheduler.step if every == "batch" else lambda: None
            by_hand(model, optimizer, DataLoader((x, y), 16), 3, after_batch=step, after_epoch=end)
        else:
            history = fit(
                model, (x, y), epochs=3, optimizer=optimizer, batch_size=16, shuffle=False, scheduler=scheduler,
                schedule_every=every, progress=False,
            )  # fmt: skip
            assert history["lr"] == rates
        runs.append(model.state_dict())
    assert equal(*runs)
    assert rates == ([0.1, 0.05, 0.025] if every == "epoch" else [0.1 / 2**n for n in (4, 8, 12)])


@pytest.mark.parametrize("validation", [True, False])
def test_plateau_gets_the_validation_loss(validation):
    x, y = problem()
    model = network()
    optimizer = optim.SGD([{"params": model[0].parameters()}, {"params": model[4].parameters(), "lr": 0.3}], lr=1e-2)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    given = {"validation_data": (x, 2 - y)} if validation else {}
    history = fit(model, (x, y), epochs=4, optimizer=optimizer, scheduler=scheduler, progress=False, **given)
    losses = history["val_loss" if validation else "loss"]
    rates, best = [0.01], losses[0]
    for loss in losses[1:-1]:
        rates.append(rates[-1] if loss < best * (1 - 1e-4) else rates[-1] / 2)
        best = min(best, loss)
    # The rate of an epoch is set by the losses before it; the first loss always improves on infinity.
    assert history["lr"] == [0.01, *rates]
    assert history["lr_1"] == pytest.approx([30 * rate for rate in history["lr"]])


# ---- metrics ----


def test_means_weigh_batches_by_their_samples():
    x, y = problem(21)
    model = network().eval()
    found = evaluate(model, (x, y), batch_size=8, metrics=["accuracy", lambda output, target: target.mean()])
    assert found.keys() == {"loss", "accuracy", "<lambda>"}
    output = model(x)
    assert found["loss"] == pytest.approx(float(F.cross_entropy(output, y)), rel=1e-6)
    assert found["accuracy"] == (output.argmax(1) == y).mean() and found["<lambda>"] == pytest.approx(y.mean())
    assert model(x).tobytes() == output.tobytes()


def test_metrics_by_name():
    rng = np.random.default_rng(3)
    x, y = problem(16)
    model = network()
    history = fit(
        model, (x, y), optimizer=adam(model), validation_data=(x, y), progress=False,
        metrics={"right": "accuracy", "sum": lambda output, target: (target.sum(), len(target))},
    )  # fmt: skip
    assert list(history) == ["epoch", "loss", "right", "sum", "val_loss", "val_right", "val_sum", "lr", "seconds"]
    assert history["sum"] == history["val_sum"] == [y.mean()]
    accuracy = METRICS["accuracy"]
    output, target = rng.standard_normal((5, 4, 2, 3)), rng.integers(0, 4, (5, 2, 3))
    right = (output.argmax(1) == target).sum()
    assert accuracy(output, target) == (right, 30)
    target[0] = -100
    assert accuracy(output, target) == ((output.argmax(1) == target).sum(), 24)
    probabilities = rng.random((6, 4))
    assert accuracy(probabilities, probabilities) == (6, 6)
    logits, truth = np.array([[2.0], [-1.0], [0.5]]), np.array([1, 0, 0])
    assert accuracy(logits, truth) == accuracy(logits[:, 0], truth) == accuracy(logits, truth[:, None]) == (2, 3)
    assert METRICS["binary_accuracy"](output, output > 0) == (120, 120)
    assert METRICS["mse"](logits[:, 0], truth) == (1 + 1 + 0.25, 3) and METRICS["mae"](logits[:, 0], truth) == (2.5, 3)
    with pytest.raises(ValueError, match=r"accuracy: target has shape \(4,\) and dtype int64, expected class indices"):
        accuracy(np.zeros((5, 3)), np.zeros(4, np.int64))
    with pytest.raises(ValueError, match="binary_accuracy: target has shape"):
        METRICS["binary_accuracy"](np.zeros((5, 3)), np.zeros(5))


def test_predict():
    x, y = problem(21)
    model = network()
    expected = model.eval()(x)
    model.train()
    for data in (x, fastnn.tensor(x), (x, y), [x[:9], x[9:]], DataLoader((x, y), 4)):
        found = predict(model, data, batch_size=5)
        assert type(found) is np.ndarray and found.shape == (21, 3)
        # Rows of a product do not depend on how many there are.
        assert found.tobytes() == expected.tobytes()
    assert model.training and predict(model, x[:0]).shape == (0, 3)

    class Two(nn.Module):
        def forward(self, input):
            return input + 1, input[:, :2]

    plus, two = predict(Two(), x, batch_size=8)
    assert np.array_equal(plus, x + 1) and np.array_equal(two, x[:, :2])
    with pytest.raises(ValueError, match="predict: data has no batches"):
        predict(model, [])
    with pytest.raises(ValueError, match="evaluate: data has no samples"):
        evaluate(model, (x[:0], y[:0]))


# ---- early stopping ----


def test_early_stopping_counts_epochs_without_improvement():
    stopping = EarlyStopping("val_loss", patience=2, min_delta=0.1)
    values = [1.0, 0.95, 0.8, 0.75, nan, 0.1]
    stops = [stopping.update({"epoch": i + 1, "val_loss": v}, dict) for i, v in enumerate(values)]
    assert stops == [False, False, False, False, True, False]
    assert (stopping.best, stopping.best_epoch, stopping.waited) == (0.1, 6, 0)
    stopping = EarlyStopping("val_accuracy", patience=1)
    assert [stopping.update({"epoch": 1, "val_accuracy": v}, dict) for v in (0.5, 0.6, 0.6)] == [False, False, True]
    assert repr(stopping) == (
        "EarlyStopping('val_accuracy', patience=1, min_delta=0.0, mode='max', restore_best=False)"
    )


@pytest.mark.parametrize("epochs", [9, 3])
def test_the_best_weights_come_back(epochs):
    x, y = problem()
    states = []
    # The validation loss of wrong classes rises as the right ones are learned.
    model = network()
    stopping = EarlyStopping("val_loss", patience=3, restore_best=True)

    def keep(record):
        states.append({name: a.copy() for name, a in model.state_dict().items()})

    history = fit(
        model, (x, y), epochs=epochs, optimizer=adam(model), validation_data=(x, (y + 1) % 3),
        early_stopping=stopping, progress=keep,
    )  # fmt: skip
    assert history.best("val_loss").epoch == 1 == stopping.best_epoch
    assert len(history) == min(epochs, 4) and history.stopped == ("early_stopping" if epochs == 9 else None)
    assert equal(model.state_dict(), states[0]) and not equal(model.state_dict(), states[-1])


# ---- what goes wrong ----


def test_a_loss_that_is_no_number_ends_the_run():
    x, y = problem(24)
    model = network()
    spoilt = x.copy()
    spoilt[17, 2] = np.inf
    with pytest.raises(FloatingPointError, match=r"nan in epoch 1, batch 3; x of this batch has NaN .* clip_grad_norm"):
        fit(model, (spoilt, y), optimizer=adam(model), batch_size=8, shuffle=False, progress=False)
    with pytest.raises(FloatingPointError, match=r"epoch 1, batch 1; x and the weights are finite.*learning rate"):
        fit(model, (x, y), optimizer=adam(model), loss=lambda o, t: o.mean() * np.inf, progress=False)
    model = network()
    history = fit(model, (spoilt, y), optimizer=adam(model), on_nonfinite="ignore", progress=False)
    assert isnan(history["loss"][0])
    with pytest.raises(FloatingPointError, match=r"the weights have NaN or infinite values \(0.weight, 0.bias, 1.weig"):
        fit(model, (x, y), optimizer=adam(model), progress=False)


def test_wrong_arguments():
    x, y = problem(8)
    model = network()
    optimizer = adam(model)
    other = adam(network())
    plateau = optim.lr_scheduler.ReduceLROnPlateau(optimizer)

    class Step:
        def step(self):
            raise AssertionError

    faults = [
        ({"model": 3}, TypeError, "model must be a Module, got int"),
        ({"data": 3}, TypeError, r"data must be arrays \(x, y\) or an iterable of batches, got int"),
        ({"data": iter([(x, y)])}, TypeError, "data is an iterator, which can be gone through only once"),
        ({"data": (x, y[:3])}, ValueError, r"data: ArrayDataset: arrays have lengths \[8, 3\]"),
        ({"data": [x, y]}, TypeError, r"a batch must be a pair \(x, y\), got ndarray"),
        ({"data": (x, y, y)}, TypeError, r"a batch must be a pair \(x, y\), got tuple of 3"),
        ({"data": [("a", y)]}, TypeError, "x of a batch must be an array or Tensor, got str"),
        ({"data": []}, ValueError, "data has no batches"),
        ({"validation_data": []}, ValueError, "validation_data has no samples"),
        ({"optimizer": 3}, TypeError, "optimizer must be an Optimizer, got int"),
        ({"optimizer": other}, ValueError, "optimizer has none of the model's parameters"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer, got 1.5"),
        ({"epochs": -1}, ValueError, "epochs is -1, expected at least 0"),
        ({"batch_size": 0}, ValueError, "batch_size is 0, expected at least 1"),
        ({"batch_size": "a"}, TypeError, "batch_size must be an integer"),
        ({"seed": 1.0}, TypeError, "seed must be an integer"),
        ({"loss": 3}, TypeError, "loss must be a function"),
        (
            {"loss": lambda o, t: o},
            TypeError,
            r"loss must return a Tensor of one element, got a Tensor of shape \(8",
        ),
        ({"loss": lambda o, t: 1.0}, TypeError, "loss must return a Tensor of one element, got float"),
        ({"metrics": ["f1"]}, ValueError, "metric 'f1' is unknown, expected a function or accuracy, "),
        ({"metrics": 3}, TypeError, "metrics must be names, functions or a dict, got int"),
        ({"metrics": {"a": 3}}, TypeError, "metric 'a' must be a name or a function, got 3"),
        ({"metrics": {3: "mse"}}, TypeError, "a name in metrics must be a string, got 3"),
        ({"metrics": {"loss": "mse"}}, ValueError, "a metric is named 'loss'"),
        ({"metrics": ["mse", "mse"]}, ValueError, "metrics has a name twice"),
        ({"scheduler": 3}, TypeError, "scheduler must have a method step"),
        ({"scheduler": optim.lr_scheduler.StepLR(other, 1)}, ValueError, "scheduler belongs to another optimizer"),
        ({"schedule_every": "day"}, ValueError, "schedule_every is 'day', expected 'epoch' or 'batch'"),
        ({"scheduler": plateau, "schedule_every": "batch"}, ValueError, "expected 'epoch' for ReduceLROnPlateau"),
        ({"clip_grad_norm": 0}, ValueError, "clip_grad_norm is 0, expected a number above 0"),
        ({"clip_grad_value": "a"}, TypeError, "clip_grad_value must be a number"),
        ({"gradient_statistics": 1.5}, TypeError, "gradient_statistics must be True, False or an integer"),
        ({"gradient_statistics": -1}, ValueError, "gradient_statistics is -1"),
        ({"early_stopping": 3}, TypeError, "early_stopping must be an EarlyStopping"),
        ({"early_stopping": EarlyStopping()}, ValueError, "watches 'val_loss', expected one of epoch, .*is None"),
        ({"on_nonfinite": "a"}, ValueError, "on_nonfinite is 'a', expected 'raise' or 'ignore'"),
        ({"progress": 3}, TypeError, "progress must be None, True, False, a stream or a function, got 3"),
        ({"resume": True}, ValueError, "resume is True and checkpoint is None"),
        ({"checkpoint_every": 3}, ValueError, "checkpoint_every is given and checkpoint is None"),
        ({"checkpoint_every": 0, "checkpoint": "a"}, ValueError, "checkpoint_every is 0, expected at least 1"),
        ({"checkpoint_every": 1.5, "checkpoint": "a"}, TypeError, "checkpoint_every must be an integer or None"),
        ({"checkpoint": "/no/such/file"}, ValueError, "expected a folder '/no/such' that exists"),
        ({"checkpoint": "a", "scheduler": Step()}, TypeError, "scheduler has no state_dict"),
    ]
    good = {"model": model, "data": (x, y), "optimizer": optimizer, "progress": False}
    for given, kind, text in faults:
        with pytest.raises(kind, match=f"fit: .*{text}"):
            fit(**{**good, **given})
    for given, kind, text in [
        ({"monitor": 3}, TypeError, "monitor must be a string"),
        ({"patience": 0}, ValueError, "patience is 0, expected at least 1"),
        ({"patience": 1.5}, TypeError, "patience must be an integer"),
        ({"min_delta": -1}, ValueError, "min_delta is -1, expected at least 0"),
        ({"mode": "best"}, ValueError, "mode is 'best', expected 'min', 'max' or None"),
        ({"monitor": "f1"}, ValueError, "mode is None, expected 'min' or 'max', as 'f1' does not say which"),
    ]:
        with pytest.raises(kind, match=f"EarlyStopping: {text}"):
            EarlyStopping(**given)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("where", ["training", "validation"])
def test_ctrl_c(times, where, keyboard):
    x, y = problem(32)
    calls = []

    def press(output, target):
        calls.append(1)
        if len(calls) == {"training": 3, "validation": 13}[where]:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return 0.0

    model = network()
    options = {"optimizer": adam(model), "batch_size": 8, "validation_data": (x, y), "metrics": {"press": press}}
    if times == 2:
        with pytest.raises(KeyboardInterrupt):
            fit(model, (x, y), epochs=3, progress=False, **options)
    else:
        history = fit(model, (x, y), epochs=3, progress=False, **options)
        # An epoch has 4 batches of training and 4 of validation.
        assert history.stopped == "interrupted" and len(history) == {"training": 0, "validation": 1}[where]
        assert len(calls) == {"training": 3, "validation": 13}[where]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert model.training


def test_an_interrupt_from_elsewhere_keeps_the_history():
    x, y = problem(16)
    calls = []

    def press(output, target):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 0.0

    model = network()
    history = fit(
        model, (x, y), epochs=3, optimizer=adam(model), batch_size=8, metrics={"press": press}, progress=False
    )
    assert history.stopped == "interrupted" and len(history) == 1


def test_a_thread_may_train():
    x, y = problem(16)
    found = []
    model = network()

    def work():
        found.append(fit(model, (x, y), optimizer=adam(model), progress=False))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(found[0]) == 1


# ---- gradient statistics ----


def test_gradient_statistics():
    x, y = problem()
    model = network()
    found = {"norm": [], "mean_abs": [], "update_ratio": []}
    layer = model[0]
    before = []

    def measure():
        grads = np.concatenate([layer.weight.grad.ravel(), layer.bias.grad]).astype(np.float64)
        found["norm"].append(np.linalg.norm(grads))
        found["mean_abs"].append(np.abs(grads).mean())
        before[:] = np.concatenate([layer.weight.data.ravel(), layer.bias.data]).astype(np.float64)

    def after():
        now = np.concatenate([layer.weight.data.ravel(), layer.bias.data])
        found["update_ratio"].append(np.linalg.norm(now - before) / np.linalg.norm(before))

    by_hand(model, adam(model), DataLoader((x, y), 8), 3, measure, after)
    other = network()
    history = fit(
        other, (x, y), epochs=3, optimizer=adam(other), batch_size=8, shuffle=False, gradient_statistics=4,
        progress=False,
    )  # fmt: skip
    assert equal(model.state_dict(), other.state_dict())
    assert history.gradients["step"] == [1, 5, 9, 13, 17, 21]
    assert list(history.gradients["layers"]) == ["0", "1", "4"]
    for name, values in found.items():
        # Sums of 70 terms in float32, of differences of numbers of 24 bits in the case of the update.
        assert history.gradients["layers"]["0"][name] == pytest.approx(values[::4], rel=1e-4)


def test_gradients_are_measured_before_clipping_and_of_frozen_layers():
    x, y = problem(8 * EVERY)
    runs = []
    for clip in ({}, {"clip_grad_norm": 1e-3}):
        model = network()
        model[0].requires_grad_(False)
        runs.append(
            fit(
                model, (x, y), optimizer=optim.SGD(model.parameters(), lr=0.0), batch_size=8, progress=False,
                gradient_statistics=True, **clip,
            )
        )  # fmt: skip
    assert runs[0].gradients == runs[1].gradients and runs[0].gradients["step"] == [1]
    layers = runs[0].gradients["layers"]
    assert layers["0"] == {"norm": [0.0], "mean_abs": [0.0], "update_ratio": [0.0]}
    assert layers["4"]["norm"][0] > 0 and layers["4"]["update_ratio"] == [0.0]


def test_vanishing_gradients_show():
    x, y = problem(64)
    fastnn.manual_seed(0)
    layers = [layer for i in range(8) for layer in (nn.Linear(6 if i == 0 else 16, 16), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(16, 3))
    history = fit(model, (x, y), optimizer=adam(model), gradient_statistics=1, progress=False)
    norms = [series["norm"][0] for series in history.gradients["layers"].values()]
    # Each sigmoid multiplies by its derivative, at most 1/4; weights from U(±1/√n) shrink by another √3 on average.
    assert len(norms) == 9 and norms[0] < 4.0**-7 * norms[-1]
