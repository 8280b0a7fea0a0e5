"""fastnn.optim: every option against torch and against the reference, groups, late gradients, storage, the tape."""

import json
from itertools import product

import numpy as np
import pytest

import fastnn
from fastnn import optim, reference
from fastnn.nn.utils import clip_grad_norm_ as fastnn_clip

SHAPES = [(3, 5), (129,), (), (2, 3, 4)]
LATE = 2
"""The parameter that gets its first gradient in step 5, and none in step 9."""


def grid(**choices):
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


VARIANTS = [
    *(
        ("SGD", {"lr": 0.05, **options})
        for options in grid(momentum=[0, 0.9], dampening=[0, 0.3], weight_decay=[0, 0.1], nesterov=[False, True])
        if not (options["nesterov"] and (options["dampening"] or not options["momentum"]))
    ),
    *(("RMSprop", options) for options in grid(momentum=[0, 0.7], centered=[False, True], weight_decay=[0, 0.1])),
    *(
        (name, {"lr": 0.01, **options})
        for name in ("Adam", "AdamW")
        for options in grid(betas=[(0.9, 0.999), (0.4, 0.8)], amsgrad=[False, True], weight_decay=[0, 0.1])
    ),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "maximize": True, "weight_decay": 0.1}),
    ("RMSprop", {"alpha": 0.9, "eps": 1e-3, "maximize": True, "weight_decay": 0.1}),
    ("Adam", {"eps": 1e-3, "maximize": True, "weight_decay": 0.1}),
    ("Adam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("AdamW", {"maximize": True, "amsgrad": True}),
]
each_variant = pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=[f"{name} {' '.join(map(str, options.values()))}" for name, options in VARIANTS]
)
each_kind = pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
        ("RMSprop", {"momentum": 0.9, "centered": True}),
        ("Adam", {"amsgrad": True}),
        ("AdamW", {}),
    ],
)


def draw(dtype, seed):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in SHAPES]


def gradients(dtype, t):
    """Those of step t."""
    return [None if i == LATE and (t < 5 or t == 9) else g for i, g in enumerate(draw(dtype, 100 + t))]


def tensors(arrays):
    return [fastnn.Tensor(x.copy(), requires_grad=True) for x in arrays]


def groups(params):
    """Two groups; the second with options of its own."""
    return [{"params": params[:3]}, {"params": params[3:], "lr": 0.02, "weight_decay": 0.05}]


def run(optimizer, params, steps, dtype=np.float32):
    for t in steps:
        for p, g in zip(params, gradients(dtype, t), strict=True):
            p.grad = g
        optimizer.step()


def assert_equal_bits(params, others):
    for p, q in zip(params, others, strict=True):
        np.testing.assert_array_equal(p.data, q.data, strict=True)


# ---- steps ----


@each_variant
def test_twenty_steps_of_torchs_optimiser(name, options, dtype):
    """In a step, both round the parameter once and the change to it some sixteen times, relative to its terms."""
    torch = pytest.importorskip("torch")
    start = draw(dtype, 0)
    ours, theirs = tensors(start), [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in start]
    optimizer = getattr(optim, name)(groups(ours), **options)
    # torch's functions for many tensors at once, its default on GPUs, round otherwise
    peer = getattr(torch.optim, name)(groups(theirs), foreach=False, **options)
    largest = step = 0.0
    for t in range(20):
        before = [q.detach().numpy().copy() for q in theirs]
        for p, q, g in zip(ours, theirs, gradients(dtype, t), strict=True):
            p.grad, q.grad = g, None if g is None else torch.from_numpy(g.copy())
        optimizer.step()
        peer.step()
        for q, b in zip(theirs, before, strict=True):
            largest = max(largest, np.abs(b).max())
            step = max(step, np.abs(q.detach().numpy() - b).max())
    bound = 20 * np.finfo(dtype).eps * (largest + 16 * step)
    for p, q, s in zip(ours, theirs, start, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=0, atol=bound, strict=True)
        assert (p.data != s).all()


@each_variant
def test_the_references_formula(name, options):
    """Parameter by parameter, each with its own count of steps, in double precision: the bound is that of torch's."""
    start = draw(np.float64, 0)
    ours = tensors(start)
    optimizer = getattr(optim, name)(ours, **options)
    run(optimizer, ours, range(20), np.float64)
    options = dict(options)
    decoupled = options.pop("decoupled_weight_decay", name == "AdamW")
    adam, amsgrad, centered = "Adam" in name, options.pop("amsgrad", False), options.pop("centered", False)
    step = getattr(reference, "adamw_step" if decoupled else f"{name.lower()}_step")
    for i, p in enumerate(ours):
        want, largest, change, age = [start[i].copy()], 0.0, 0.0, 0
        states = [[np.zeros_like(p.data)] for _ in range(3)]
        if name == "RMSprop" and not centered:
            states[1] = None
        if adam and not amsgrad:
            states[2] = None
        for t in range(20):
            g = gradients(np.float64, t)[i]
            if g is not None:
                age += 1
                before = want[0].copy()
                more = {"step": age} if adam else {"first": age == 1} if name == "SGD" else {}
                step(want, [g], *states[: 1 if name == "SGD" else 3], **options, **more)
                largest = max(largest, np.abs(before).max())
                change = max(change, np.abs(want[0] - before).max())
        np.testing.assert_allclose(p.data, want[0], rtol=0, atol=20 * 2.0**-52 * (largest + 16 * change))


def test_parameters_of_both_dtypes_in_one_group():
    params = [fastnn.Tensor(np.ones(3, dtype), requires_grad=True) for dtype in (np.float32, np.float64, np.float32)]
    optimizer = optim.SGD(params, lr=0.5)
    for i, p in enumerate(params):
        p.grad = np.full(3, i, p.dtype)
    optimizer.step()
    assert [p.data.tolist() for p in params] == [[1.0] * 3, [0.5] * 3, [0.0] * 3]
    assert [p.dtype for p in params] == [np.float32, np.float64, np.float32]


@each_kind
def test_without_a_gradient_nothing_happens(name, options):
    params = tensors(draw(np.float32, 0))
    optimizer = getattr(optim, name)(params, **options)
    optimizer.step()
    assert_equal_bits(params, tensors(draw(np.float32, 0)))
    assert optimizer.state_dict()["state"] == {}
    assert [p._version for p in params] == [0] * 4


def test_each_parameter_counts_its_own_steps():
    params = tensors(draw(np.float32, 0))
    optimizer = optim.Adam(params)
    run(optimizer, params, range(10))
    assert {i: state["step"] for i, state in optimizer.state_dict()["state"].items()} == {0: 10, 1: 10, 2: 4, 3: 10}


def test_options_may_change_between_steps():
    """What an option newly needs begins with zeros."""
    params = tensors([np.ones(2)])
    optimizer = optim.RMSprop(params, lr=0.5, alpha=0.0, eps=0.0)
    params[0].grad = np.array([1.0, -4.0])
    optimizer.step()
    np.testing.assert_array_equal(params[0].data, [0.5, 1.5])
    optimizer.param_groups[0].update(momentum=0.5, lr=0.25)
    optimizer.step()
    np.testing.assert_array_equal(params[0].data, [0.25, 1.75])
    optimizer.step()
    np.testing.assert_array_equal(params[0].data, [0.25 - 0.25 * 1.5, 1.75 + 0.25 * 1.5])
    optimizer.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match=r"^rmsprop_step: lr is -1.0, expected a finite number, at least 0"):
        optimizer.step()


@each_kind
def test_a_wrong_gradient_changes_nothing(name, options):
    params = tensors(draw(np.float32, 0))
    optimizer = getattr(optim, name)(params, **options)
    run(optimizer, params, range(2))
    before, state = [p.data.copy() for p in params], optim.flatten_state(optimizer.state_dict())
    state = {key: x.copy() for key, x in state[0].items()}, json.dumps(state[1])
    for p in params:
        p.grad = np.zeros(p.shape, p.dtype)
    params[1].grad = np.zeros(128, np.float32)
    with pytest.raises(ValueError, match=r"_step: grads\[1\] has shape \(128,\), expected \(129,\)$"):
        optimizer.step()
    assert_equal_bits(params, tensors(before))
    after = optim.flatten_state(optimizer.state_dict())
    assert json.dumps(after[1]) == state[1]
    for key, x in after[0].items():
        np.testing.assert_array_equal(x, state[0][key])


def test_closure():
    x = fastnn.tensor([3.0, -1.0], requires_grad=True)
    optimizer = optim.SGD([x], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    with fastnn.no_grad():
        assert optimizer.step(closure).item() == 10.0
    assert x.tolist() == [1.5, -0.5]


@each_kind
def test_the_tape_refuses_to_go_back_through_a_step(name, options):
    """The gradient of w * w needs the w of before the step."""
    w = fastnn.tensor([3.0, -1.0], requires_grad=True)
    optimizer = getattr(optim, name)([w], **options)
    (w * w).sum().backward()
    loss = (w * w).sum()
    optimizer.step()
    before = w.grad.copy()
    with pytest.raises(RuntimeError, match=r"^backward: times needs a value that was changed in place"):
        loss.backward()
    np.testing.assert_array_equal(w.grad, before)
    optimizer.zero_grad()
    (w * w).sum().backward()
    np.testing.assert_array_equal(w.grad, 2 * w.data)


def test_training_a_small_network_as_torch():
    """The losses of 30 steps, with clipping and a schedule, in double precision; each step's rounding grows little."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((16, 5)), rng.standard_normal((16, 2))
    start = [rng.standard_normal(shape) * 0.5 for shape in [(8, 5), (8,), (2, 8), (2,)]]

    def losses(functional, optim, clip, params, x, y):
        w1, b1, w2, b2 = params
        optimizer = optim.AdamW(params, lr=0.05)
        scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
        for _ in range(30):
            optimizer.zero_grad()
            loss = functional.mse_loss(functional.linear(functional.linear(x, w1, b1).relu(), w2, b2), y)
            loss.backward()
            clip(params, 1.0)
            optimizer.step()
            scheduler.step()
            yield loss.item()

    ours = losses(fastnn.functional, optim, fastnn_clip, tensors(start), fastnn.Tensor(x), fastnn.Tensor(y))
    theirs = [torch.nn.Parameter(torch.from_numpy(w.copy())) for w in start]
    clip = torch.nn.utils.clip_grad_norm_
    want = list(losses(torch.nn.functional, torch.optim, clip, theirs, torch.from_numpy(x), torch.from_numpy(y)))
    assert list(ours) == pytest.approx(want, rel=1e-11)
    assert want[-1] < 0.6 * want[0]


# ---- groups ----


def test_param_groups():
    a, b, c = tensors([np.ones(1), np.ones(2), np.ones(3)])
    group = {"params": iter([a]), "lr": 0.5, "comment": "slow"}
    optimizer = optim.SGD([group], lr=0.25, momentum=0.5)
    optimizer.add_param_group({"params": [b]})
    optimizer.add_param_group({"params": c, "momentum": 0})
    assert set(group) == {"params", "lr", "comment"}
    assert [g["params"] for g in optimizer.param_groups] == [[a], [b], [c]]
    assert [(g["lr"], g["momentum"], g.get("comment")) for g in optimizer.param_groups] == [
        (0.5, 0.5, "slow"),
        (0.25, 0.5, None),
        (0.25, 0.0, None),
    ]
    for p in (a, b, c):
        p.grad = np.ones(p.shape)
    optimizer.step()
    optimizer.step()
    assert [p.data[0] for p in (a, b, c)] == [1 - 0.5 * 2.5, 1 - 0.25 * 2.5, 1 - 0.25 * 2]
    assert [len(g["params"]) for g in optimizer.state_dict()["param_groups"]] == [1, 1, 1]
    assert sorted(optimizer.state_dict()["state"]) == [0, 1]


def test_named_parameters():
    a, b = tensors([np.ones(1), np.ones(2)])
    (group,) = optim.SGD(iter([("a", a), ("b", b)])).param_groups
    assert (group["params"], group["param_names"]) == ([a, b], ["a", "b"])
    optimizer = optim.SGD([{"params": [("b", b)]}, {"params": [("a", a)]}])
    assert [g["param_names"] for g in optimizer.state_dict()["param_groups"]] == [["b"], ["a"]]
    assert "param_names" not in optim.SGD([a, b]).param_groups[0]
    with pytest.raises(ValueError, match=r"^SGD: 1 of 2 params have names, expected all or none"):
        optim.SGD([("a", a), b])


def test_zero_grad():
    a, b = tensors([np.ones(1), np.ones(2)])
    optimizer = optim.SGD([a, b])
    a.grad = grad = np.ones(1)
    optimizer.zero_grad(set_to_none=False)
    assert a.grad is grad
    assert grad == 0
    assert b.grad is None
    optimizer.zero_grad()
    assert a.grad is None


def test_repr():
    (a,) = tensors([np.ones(1)])
    assert repr(optim.SGD([a], lr=0.5)) == (
        "SGD (\nParameter Group 0\n    dampening: 0.0\n    lr: 0.5\n    maximize: False\n    momentum: 0.0\n"
        "    nesterov: False\n    weight_decay: 0.0\n)"
    )


def leaf():
    return fastnn.Tensor(np.ones(2, np.float32), requires_grad=True)


@pytest.mark.parametrize(
    ("params", "error", "said"),
    [
        (leaf, TypeError, "params must be an iterable of Tensors or dicts, got one Tensor"),
        (lambda: 3, TypeError, "params must be an iterable of Tensors or dicts, got int"),
        (list, ValueError, "params is empty, expected at least one Tensor or group"),
        (lambda: {leaf()}, TypeError, "params is a set, whose order differs between runs, expected a list"),
        (lambda: [leaf(), np.ones(2)], TypeError, r"params\[1\] must be a Tensor, got ndarray"),
        (lambda: [leaf() * 2.0], ValueError, r"params\[0\] is the result of times, expected a leaf"),
        (lambda: [fastnn.tensor([1])], TypeError, r"params\[0\] has dtype int64, expected float32 or float64"),
        (lambda: [leaf()] * 2, ValueError, r"params\[1\] is there already, expected each parameter once"),
        (lambda: [{"params": [leaf()]}, leaf()], TypeError, "a group must be a dict, got Tensor"),
        (lambda: [{"param": [leaf()]}], ValueError, r"a group has the keys \['param'\], expected 'params'"),
    ],
)
def test_wrong_params(params, error, said):
    with pytest.raises(error, match=f"^AdamW: {said}"):
        optim.AdamW(params())


def test_a_parameter_in_two_groups():
    p = leaf()
    with pytest.raises(ValueError, match=r"^SGD: params\[0\] is there already"):
        optim.SGD([{"params": [p]}, {"params": [p]}])


@pytest.mark.parametrize(
    ("name", "options", "error", "said"),
    [
        ("SGD", {"lr": -0.1}, ValueError, "lr is -0.1, expected a finite number, at least 0"),
        ("SGD", {"lr": "fast"}, TypeError, "lr must be a number, got 'fast'"),
        ("SGD", {"momentum": float("nan")}, ValueError, "momentum is nan, expected a finite number"),
        ("SGD", {"nesterov": True}, ValueError, "nesterov with momentum 0.0 and dampening 0.0, expected a momentum"),
        ("SGD", {"nesterov": True, "momentum": 1, "dampening": 1}, ValueError, "nesterov with momentum 1.0 and damp"),
        ("SGD", {"dampening": None}, TypeError, "dampening must be a number, got None"),
        ("SGD", {"maximize": 1}, TypeError, "maximize must be True or False, got 1"),
        ("SGD", {"rate": 1}, TypeError, "got an unexpected argument 'rate'"),
        ("RMSprop", {"alpha": -1}, ValueError, "alpha is -1.0, expected a finite number, at least 0"),
        ("RMSprop", {"centered": "no"}, TypeError, "centered must be True or False, got 'no'"),
        ("Adam", {"betas": 0.9}, TypeError, "betas must be a pair of numbers, got 0.9"),
        ("Adam", {"betas": (0.9, 1)}, ValueError, r"betas\[1\] is 1.0, expected 0 <= "),
        ("AdamW", {"eps": -1}, ValueError, "eps is -1.0, expected a finite number"),
        ("AdamW", {"differentiable": True}, ValueError, "differentiable is True, expected False"),
    ],
)
def test_wrong_options(name, options, error, said):
    """As arguments, as options of a group, and when a state is loaded; the optimiser stays as it was."""
    kind = getattr(optim, name)
    with pytest.raises(error, match=f"^{name}: {said}"):
        kind([leaf()], **options)
    if options.keys() & {"rate", "differentiable"}:
        return
    optimizer = kind([leaf()])
    with pytest.raises(error, match=f"^{name}: {said}"):
        optimizer.add_param_group({"params": [leaf()], **options})
    state = optimizer.state_dict()
    state["param_groups"][0].update(options)
    with pytest.raises(error, match=f"^{name}: {said}"):
        optimizer.load_state_dict(state)
    assert len(optimizer.param_groups) == 1
    assert {key: optimizer.param_groups[0][key] for key in optimizer.defaults} == optimizer.defaults


def test_torchs_switches_mean_nothing():
    optimizer = optim.Adam([leaf()], lr=0.5, foreach=True, fused=None, capturable=False, differentiable=False)
    assert optimizer.defaults == optim.Adam([leaf()], lr=0.5).defaults


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_defaults_are_torchs(name):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(1))]).defaults
    ours = getattr(optim, name)([leaf()]).defaults
    assert ours == {key: x for key, x in theirs.items() if key not in optim.optimizer.SWITCHES}


# ---- storage ----


@each_kind
def test_a_run_goes_on_from_a_file(name, options, dtype, tmp_path):
    """With the same bits, also if a parameter had no gradient by then."""
    params = tensors(draw(dtype, 0))
    optimizer = getattr(optim, name)(groups(params), **options)
    run(optimizer, params, range(3), dtype)
    optimizer.param_groups[0]["lr"] = np.float32(0.3)  # JSON knows no NumPy scalars
    run(optimizer, params, range(3, 4), dtype)
    arrays, metadata = optim.flatten_state(optimizer.state_dict())
    fastnn.save(tmp_path / "state", arrays, {"optimizer": json.dumps(metadata)})
    others = tensors([p.data for p in params])
    run(optimizer, params, range(4, 12), dtype)

    again = getattr(optim, name)(groups(others), lr=7.0)
    run(again, tensors(draw(dtype, 5)), range(2), dtype)
    metadata = json.loads(fastnn.load_metadata(tmp_path / "state")["optimizer"])
    again.load_state_dict(optim.unflatten_state(fastnn.load(tmp_path / "state", mmap=True), metadata))
    run(again, others, range(4, 12), dtype)
    assert_equal_bits(params, others)
    assert repr(again) == repr(optimizer)


def test_a_loaded_state_has_memory_of_its_own():
    params, others = tensors(draw(np.float32, 0)), tensors(draw(np.float32, 0))
    optimizer, again = optim.Adam(params), optim.Adam(others)
    run(optimizer, params, range(6))
    again.load_state_dict(optimizer.state_dict())
    before = {key: x.copy() for key, x in optim.flatten_state(again.state_dict())[0].items()}
    run(optimizer, params, range(6, 7))
    for key, x in optim.flatten_state(again.state_dict())[0].items():
        np.testing.assert_array_equal(x, before[key])
    again.load_state_dict(optim.Adam(params).state_dict())
    assert again.state_dict()["state"] == {}


@each_kind
def test_torchs_state_loads(name, options):
    torch = pytest.importorskip("torch")
    start = draw(np.float64, 0)
    theirs = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in start]
    peer = getattr(torch.optim, name)(groups(theirs), foreach=False, **options)

    def go(steps):
        for t in steps:
            for q, g in zip(theirs, gradients(np.float64, t), strict=True):
                q.grad = None if g is None else torch.from_numpy(g.copy())
            peer.step()

    go(range(7))
    ours = tensors([q.detach().numpy() for q in theirs])
    optimizer = getattr(optim, name)(groups(ours), lr=3.0)
    optimizer.load_state_dict(peer.state_dict())
    go(range(7, 12))
    run(optimizer, ours, range(7, 12), np.float64)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=0, atol=1e-14)
    assert optimizer.state_dict()["state"].keys() == peer.state_dict()["state"].keys()


def test_flags_that_a_state_does_not_have():
    """As in files of older versions of torch, for which they were False; of AdamW, one is always True."""
    p = leaf()
    optimizer = optim.AdamW([p], lr=0.25, amsgrad=True)
    state = optim.AdamW([leaf()], lr=0.5).state_dict()
    for name in ("amsgrad", "maximize", "decoupled_weight_decay"):
        del state["param_groups"][0][name]
    optimizer.load_state_dict(state)
    assert optimizer.param_groups == [{**optim.AdamW([leaf()], lr=0.5).defaults, "params": [p]}]


def changed(path, value):
    """A function that sets an element of a state_dict; value None deletes it."""

    def change(state):
        *way, last = path
        for key in way:
            state = state[key]
        if value is None:
            del state[last]
        else:
            state[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (changed(["state"], None), ValueError, "state_dict has 'param_groups', expected 'state' among it"),
        (changed(["state"], [1]), TypeError, "state must be a dict, got list"),
        (changed(["param_groups"], {}), TypeError, "param_groups must be a list, got dict"),
        (changed(["param_groups", 0], 1), TypeError, "a group must be a dict, got int"),
        (
            changed(["param_groups", 1], None),
            ValueError,
            r"state_dict has groups of \[3\] parameters, expected \[3, 1\]",
        ),
        (changed(["param_groups", 0, "params"], [0, 1]), ValueError, r"state_dict has groups of \[2, 1\] parameters"),
        (changed(["param_groups", 1, "params"], [0]), ValueError, "state_dict has a parameter in two groups"),
        (changed(["param_groups", 1, "betas"], None), ValueError, "state_dict has a group without betas; of another"),
        (changed(["state", 7], {}), ValueError, "state of parameter 7, which is in no group"),
        (changed(["state", 1], 3), TypeError, "state of parameter 1 must be a dict, got int"),
        (
            changed(["state", 1, "exp_avg"], None),
            ValueError,
            "state of parameter 1 has exp_avg_sq, step, expected step, ",
        ),
        (changed(["state", 1, "more"], 1), ValueError, "state of parameter 1 has .*more, expected step, exp_avg, exp_"),
        (changed(["state", 0, "step"], 1.5), ValueError, "state of parameter 0: step is 1.5, expected an integer, at"),
        (changed(["state", 0, "step"], "1"), ValueError, "state of parameter 0: step is '1', expected an integer, at"),
        (changed(["state", 0, "step"], {}), TypeError, "state of parameter 0: step must be an integer, got {}"),
        (changed(["state", 0, "exp_avg"], 2), TypeError, "state of parameter 0: exp_avg must be an array, got int"),
        (
            changed(["state", 0, "exp_avg"], np.zeros((3, 5))),
            TypeError,
            "state of parameter 0: exp_avg has dtype float64, expected float32",
        ),
        (
            changed(["state", 0, "exp_avg"], np.zeros((5, 3), np.float32)),
            ValueError,
            r"state of parameter 0: exp_avg has shape \(5, 3\), expected \(3, 5\)",
        ),
    ],
)
def test_a_state_that_does_not_fit(change, error, said):
    params, others = tensors(draw(np.float32, 0)), tensors(draw(np.float32, 0))
    optimizer, again = optim.Adam(groups(params)), optim.Adam(groups(others))
    run(optimizer, params, range(2))
    run(again, others, range(2))
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = 0.7
    change(state)
    with pytest.raises(error, match=f"^Adam: {said}"):
        again.load_state_dict(state)
    run(optimizer, params, range(2, 4))
    run(again, others, range(2, 4))
    assert_equal_bits(params, others)


def test_the_state_of_another_optimiser():
    state = optim.SGD([leaf()]).state_dict()
    with pytest.raises(ValueError, match=r"^Adam: state_dict has a group without betas, eps; of another optimiser\?"):
        optim.Adam([leaf()]).load_state_dict(state)
    with pytest.raises(TypeError, match=r"^Adam: state_dict must be a dict, got list"):
        optim.Adam([leaf()]).load_state_dict([])


def test_arrays_without_a_parameter():
    with pytest.raises(ValueError, match=r"^unflatten_state: got an array named 'weight', expected the number"):
        optim.unflatten_state({"weight": np.ones(1)}, {"state": {"0": {}}, "param_groups": []})
    with pytest.raises(ValueError, match=r"^unflatten_state: got an array named '1.exp_avg', expected the number"):
        optim.unflatten_state({"1.exp_avg": np.ones(1)}, {"state": {"0": {}}, "param_groups": []})
