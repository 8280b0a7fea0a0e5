"""fastnn.compat.cs231n: update rules against their formulas, numerical gradients, and bench/compare_course.py."""

import re
from pathlib import Path

import numpy as np
import pytest

from fastnn.compat import cs231n as c
from fastnn.measure import Effort


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ---- update rules ----


def rule_of(name, w, dw, s, options):
    """The next (w, *state) by the course's formulas."""
    lr = options["learning_rate"]
    if name == "sgd":
        return (w - lr * dw,)
    if name == "sgd_momentum":
        v = options["momentum"] * s[0] - lr * dw
        return w + v, v
    if name == "rmsprop":
        cache = options["decay_rate"] * s[0] + (1 - options["decay_rate"]) * dw**2
        return w - lr * dw / (np.sqrt(cache) + options["epsilon"]), cache
    m, v, t = s
    t += 1
    m = options["beta1"] * m + (1 - options["beta1"]) * dw
    v = options["beta2"] * v + (1 - options["beta2"]) * dw**2
    m_hat, v_hat = m / (1 - options["beta1"] ** t), v / (1 - options["beta2"] ** t)
    return w - lr * m_hat / (np.sqrt(v_hat) + options["epsilon"]), m, v, t


RULES = {
    "sgd": ({"learning_rate": 1e-2}, ()),
    "sgd_momentum": ({"learning_rate": 1e-2, "momentum": 0.9}, ("velocity",)),
    "rmsprop": ({"learning_rate": 1e-2, "decay_rate": 0.99, "epsilon": 1e-8}, ("cache",)),
    "adam": ({"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}, ("m", "v", "t")),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("given", [False, True], ids=["defaults", "options"])
def test_update_rule(name, given, dtype, rng):
    """Three steps, the learning rate changing as schedules do; operations of numbers of about 1, a dozen a step."""
    defaults, states = RULES[name]
    options = {key: value / 2 for key, value in defaults.items()} if given else dict(defaults)
    config = dict(options) if given else None
    w = rng.standard_normal((4, 3)).astype(dtype)
    want, state = w.astype(np.float64), [0] * len(states)
    for _ in range(3):
        dw = rng.standard_normal((4, 3)).astype(dtype)
        given_w = w.copy()
        w, config = getattr(c, name)(given_w, dw, config)
        assert (w is given_w) == (name == "sgd")
        want, *state = rule_of(name, want, dw.astype(np.float64), state, options)
        tolerance = 30 * np.finfo(dtype).eps
        assert w.dtype == dtype
        np.testing.assert_allclose(w, want, rtol=tolerance, atol=tolerance)
        for key, value in zip(states, state, strict=True):
            np.testing.assert_allclose(config[key], value, rtol=tolerance, atol=tolerance)
        config["learning_rate"] = options["learning_rate"] = options["learning_rate"] * 0.5
    assert set(config) == {*defaults, *states}


@pytest.mark.parametrize("name", ["sgd_momentum", "rmsprop", "adam"])
def test_update_rule_promotes(name, rng):
    w, dw = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    w = w.astype(np.float32)
    got, _ = getattr(c, name)(w, dw)
    want, _ = getattr(c, name)(w.astype(np.float64), dw)
    np.testing.assert_array_equal(got, want)


# ---- gradient checks ----


def test_numerical_gradients(rng, capsys):
    """Of sums of squares: central differences have no truncation error, and rounding of 1e-16 / 1e-5 times the sum."""
    x = rng.standard_normal((2, 3))
    before, tolerance = x.copy(), 1e-9
    gradient = c.eval_numerical_gradient(lambda x: (x**2).sum(), x)
    np.testing.assert_allclose(gradient, 2 * x, atol=tolerance)
    assert len(re.findall(r"^\(\d, \d\) -?\d", capsys.readouterr().out, re.MULTILINE)) == 6
    c.eval_numerical_gradient(lambda x: (x**2).sum(), x, verbose=False, h=1e-4)
    assert capsys.readouterr().out == ""
    df = rng.standard_normal((2, 3))
    np.testing.assert_allclose(c.eval_numerical_gradient_array(lambda x: x**2, x, df), 2 * x * df, atol=tolerance)
    np.testing.assert_allclose(c.eval_numerical_gradient_array(lambda x: x, x, df), df, atol=tolerance)  # x itself
    np.testing.assert_array_equal(x, before)


def test_grad_check_sparse(rng, capsys):
    x = rng.standard_normal((3, 4))
    c.grad_check_sparse(lambda x: (x**2).sum(), x, 2 * x, num_checks=4)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line in lines:
        found = re.fullmatch(r"numerical: (\S+) analytic: (\S+), relative error: (\S+)", line)
        assert float(found[1]) == float(found[2])
        assert float(found[3]) < 1e-7


# ---- the comparison ----


def test_comparison(monkeypatch):
    """Every row's two sides agree, so that all are timed; and what differs stops it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "bench"))
    course = pytest.importorskip("compare_course")
    monkeypatch.setattr(course, "SETTLE", 0)
    for task in course.TASKS:
        (_, forward), (_, backward) = course.measure(task, "float32", 1, Effort(1, 0, 0))
        assert min(*forward.values(), *backward.values()) > 0
    with pytest.raises(SystemExit, match=r"result 0 differs by 1\.0e-03, nothing is timed"):
        course.check("case", [np.ones(3) * 1.001], [np.ones(3)], 1e-4)
