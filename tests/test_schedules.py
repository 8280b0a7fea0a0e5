"""fastnn.optim.lr_scheduler: rates epoch by epoch, against torch and closed forms, alone, in sequence and at once."""

import json
import re
from math import cos, inf, pi

import numpy as np
import pytest

import fastnn
from fastnn import optim
from fastnn.optim import lr_scheduler as schedules

LRS = (0.3, 0.07)

SCHEDULES = [
    ("StepLR", {"step_size": 4}),
    ("StepLR", {"step_size": 1, "gamma": 0.9}),
    ("MultiStepLR", {"milestones": [8, 3, 3, 15], "gamma": 0.6}),
    ("MultiStepLR", {"milestones": [0, 2], "gamma": 0.6}),
    ("ExponentialLR", {"gamma": 0.87}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.7, "total_iters": 9}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 12}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 13, "power": 2.5}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 1000, "eta_min": 0.5}),
    ("CosineAnnealingWarmRestarts", {"T_0": 6}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.01}),
    ("OneCycleLR", {"max_lr": 0.8, "total_steps": 45}),
    ("OneCycleLR", {"max_lr": [0.8, 0.2], "epochs": 9, "steps_per_epoch": 5, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.8, "total_steps": 41, "three_phase": True, "pct_start": 0.4, "final_div_factor": 50}),
    ("OneCycleLR", {"max_lr": 0.8, "total_steps": 60, "pct_start": 0.0, "div_factor": 3, "max_momentum": [0.9, 0.8]}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 1 / (1 + epoch)}),
    ("LambdaLR", {"lr_lambda": [lambda epoch: 0.9**epoch, lambda epoch: 1.0]}),
]
# Without addresses of functions: the same in every process.
NAMES = [
    re.sub(r"<function (\S+) at \w+>", r"\1", f"{name} {' '.join(map(str, o.values()))}")[:60] for name, o in SCHEDULES
]
each_schedule = pytest.mark.parametrize(("name", "options"), SCHEDULES, ids=NAMES)


def made(name="SGD", **options):
    """An optimiser of two groups with different rates."""
    params = [fastnn.Tensor(np.ones(2), requires_grad=True) for _ in LRS]
    return getattr(optim, name)([{"params": [p], "lr": lr} for p, lr in zip(params, LRS, strict=True)], **options)


def torchs(name="SGD", **options):
    torch = pytest.importorskip("torch")
    params = [torch.nn.Parameter(torch.ones(2)) for _ in LRS]
    return getattr(torch.optim, name)([{"params": [p], "lr": lr} for p, lr in zip(params, LRS, strict=True)], **options)


def peers():
    return pytest.importorskip("torch.optim.lr_scheduler")


def lrs(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def rates(scheduler, epochs, *metrics):
    """The rates of both groups from the present epoch on."""
    found = [lrs(scheduler.optimizer)]
    for i in range(epochs):
        scheduler.optimizer.step()
        scheduler.step(*(metric[i] for metric in metrics))
        assert scheduler.get_last_lr() == lrs(scheduler.optimizer)
        found.append(lrs(scheduler.optimizer))
    return np.array(found)


def assert_same(got, want, what=""):
    """torch multiplies and divides the same numbers: some five roundings an epoch, of forty."""
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=0, err_msg=what)


# ---- torch ----


@each_schedule
def test_rates_are_torchs(name, options):
    got = rates(getattr(schedules, name)(made(), **options), 40)
    assert_same(got, rates(getattr(peers(), name)(torchs(), **options), 40))
    assert len(np.unique(got[:, 0])) > 1


@each_schedule
def test_rates_in_sequence_are_torchs(name, options):
    """Before and behind another, which also has begun when it was made, and again."""
    for other, more in SCHEDULES[::2]:
        results = []
        for module, optimizer in ((schedules, made()), (peers(), torchs())):
            parts = [
                getattr(module, name)(optimizer, **options),
                getattr(module, other)(optimizer, **more),
                getattr(module, name)(optimizer, **options),
            ]
            results.append(rates(module.SequentialLR(optimizer, parts, milestones=[7, 16]), 25))
        assert_same(*results, f"{other} {more}")


@each_schedule
def test_rates_of_two_at_once_are_torchs(name, options):
    for other, more in SCHEDULES[::2]:
        results = []
        for module, optimizer in ((schedules, made()), (peers(), torchs())):
            parts = [getattr(module, name)(optimizer, **options), getattr(module, other)(optimizer, **more)]
            results.append(rates(module.ChainedScheduler(parts, optimizer), 25))
        assert_same(*results, f"{other} {more}")


@each_schedule
def test_beginning_behind_an_epoch_as_torch(name, options):
    """From an optimiser that was stored, as people did before schedules could be."""
    results = []
    for module, make in ((schedules, made), (peers(), torchs)):
        first, second = make(), make()
        rates(getattr(module, name)(first, **options), 6)
        second.load_state_dict(first.state_dict())
        scheduler = getattr(module, name)(second, last_epoch=6, **options)
        assert scheduler.last_epoch == 7
        results.append(rates(scheduler, 20))
    assert_same(*results)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam"])
@pytest.mark.parametrize(
    "options", [{}, {"three_phase": True, "anneal_strategy": "linear"}, {"max_momentum": [0.9, 0.7]}]
)
def test_one_cycle_of_momentum(name, options):
    found = []
    for module, optimizer in ((schedules, made(name)), (peers(), torchs(name))):
        scheduler = module.OneCycleLR(optimizer, 0.5, 20, **options)
        found.append([])
        for _ in range(20):
            optimizer.step()
            groups = optimizer.param_groups
            found[-1].append([group["betas"] if name == "Adam" else (group["momentum"],) for group in groups])
            scheduler.step()
    assert_same(*found)
    assert len(np.unique(found[0])) > 5


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "max", "factor": 0.5, "patience": 0},
        {"threshold_mode": "abs", "threshold": 0.1, "patience": 1, "cooldown": 2},
        {"mode": "max", "threshold_mode": "abs", "threshold": 0.1, "patience": 2, "min_lr": [0.01, 0.0]},
        {"patience": 1, "threshold": 0.05, "eps": 1e-3, "min_lr": 1e-3},
    ],
)
def test_plateaus_are_torchs(options):
    metrics = np.random.default_rng(1).standard_normal(60) / 9 + np.exp(-np.arange(60) / 8)
    metrics[[20, 40]] = np.nan, inf
    got = rates(schedules.ReduceLROnPlateau(made(), **options), 60, metrics)
    assert_same(got, rates(peers().ReduceLROnPlateau(torchs(), **options), 60, metrics))
    assert len(np.unique(got[:, 0])) > 2


def test_a_group_that_is_added_later():
    """Schedules that multiply go on with it; those that know a bound or rate of each group do not."""
    optimizer = made()
    every, at_plateaus, listed = (
        schedules.StepLR(optimizer, 1, 0.5),
        schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=0),
        schedules.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, min_lr=[0, 0]),
    )
    optimizer.add_param_group({"params": fastnn.tensor([1.0]), "lr": 8.0})
    every.step()
    at_plateaus.step(float("nan"))
    assert lrs(optimizer) == [0.3 / 4, 0.07 / 4, 2.0]
    with pytest.raises(ValueError, match=r"^ReduceLROnPlateau: min_lr has 2 values, expected 3, one for each group"):
        listed.step(float("nan"))
    assert lrs(optimizer) == [0.3 / 4, 0.07 / 4, 2.0]


@pytest.mark.parametrize("options", [{"T_0": 6}, {"T_0": 3, "T_mult": 2, "eta_min": 0.01}])
def test_restarts_at_any_epoch_are_torchs(options):
    results = []
    for module, optimizer in ((schedules, made()), (peers(), torchs())):
        scheduler = module.CosineAnnealingWarmRestarts(optimizer, **options)
        results.append([])
        for epoch in (0.25, 0.5, 2.75, 3, 5.5, 8.9, 9, 21.25, None, None, 1.5, None, 40):
            scheduler.step(epoch)
            results[-1].append((*lrs(optimizer), scheduler.last_epoch, scheduler.T_cur, scheduler.T_i))
    assert_same(*results)


# ---- closed forms ----


@pytest.mark.parametrize(
    ("name", "options", "form"),
    [
        ("StepLR", {"step_size": 4}, lambda t: 0.1 ** (t // 4)),
        ("MultiStepLR", {"milestones": [8, 3, 3], "gamma": 0.5}, lambda t: 0.5 ** (2 * (t >= 3) + (t >= 8))),
        ("ExponentialLR", {"gamma": 0.87}, lambda t: 0.87**t),
        ("ConstantLR", {}, lambda t: 1 / 3 if t < 5 else 1),
        ("ConstantLR", {"total_iters": 0}, lambda t: 1 / 3),
        ("LinearLR", {}, lambda t: 1 / 3 + 2 / 3 * min(t, 5) / 5),
        ("LinearLR", {"total_iters": 0}, lambda t: 1 / 3),
        ("PolynomialLR", {"total_iters": 9, "power": 2}, lambda t: (1 - min(t, 9) / 9) ** 2),
        ("CosineAnnealingLR", {"T_max": 10}, lambda t: (1 + cos(pi * t / 10)) / 2),
        ("CosineAnnealingWarmRestarts", {"T_0": 6}, lambda t: (1 + cos(pi * (t % 6) / 6)) / 2),
        ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}, lambda t: 1 / (1 + t)),
        ("LambdaLR", {"lr_lambda": lambda t: np.float32(0.5)}, lambda t: 0.5),
    ],
)
def test_closed_forms(name, options, form):
    """Those that multiply round every epoch. The cosine's smallest factor, 0.024, is a difference of numbers near 1, of
    which the rounding is 1e-14 of it, and stays in the rates behind it."""
    got = rates(getattr(schedules, name)(made(), **options), 30)
    np.testing.assert_allclose(got, [[lr * form(t) for lr in LRS] for t in range(31)], rtol=1e-12, atol=1e-16)
    assert got.dtype == np.float64


def test_one_cycle():
    optimizer = made("Adam")
    scheduler = schedules.OneCycleLR(optimizer, 0.8, 11, pct_start=6 / 11, anneal_strategy="linear", div_factor=4)
    rising = 0.2 + 0.6 * np.arange(6) / 5
    falling = 0.8 + (2e-5 - 0.8) * np.arange(1, 6) / 5
    got = rates(scheduler, 10)
    np.testing.assert_allclose(got[:, 0], [*rising, *falling], rtol=1e-12)
    assert optimizer.param_groups[0]["betas"] == (pytest.approx(0.95), 0.999)
    scheduler.step()
    with pytest.raises(ValueError, match=r"^OneCycleLR: this is step 12, expected at most 11 steps"):
        scheduler.step()


def test_one_cycle_whose_first_phase_is_one_step():
    """It begins at the top, with 0 / 0 of the way behind it."""
    got = rates(schedules.OneCycleLR(made(), 0.8, 10, pct_start=0.1, anneal_strategy="linear"), 9)
    np.testing.assert_allclose(got[:, 0], 0.8 + (0.8 / 25e4 - 0.8) * np.arange(10) / 9, rtol=1e-9)


def test_restarts_at_the_end_of_a_long_period():
    """2 + 6 + … + 162 = 242 epochs are five periods, though log(243) / log(3), rounded, is less than 5."""
    optimizer = made()
    scheduler = schedules.CosineAnnealingWarmRestarts(optimizer, 2, 3)
    scheduler.step(242)
    assert (scheduler.T_cur, scheduler.T_i) == (0, 2 * 3**5)
    assert lrs(optimizer) == list(LRS)


def test_a_sequence_within_a_sequence():
    """Each begins anew when its turn comes: warm up, decay, and both again from the initial rate."""
    optimizer = made()

    def sequence():
        parts = [schedules.LinearLR(optimizer, 0.25, total_iters=3), schedules.ExponentialLR(optimizer, 0.5)]
        return schedules.SequentialLR(optimizer, parts, [3])

    scheduler = schedules.SequentialLR(optimizer, [sequence(), sequence()], [6])
    want = [0.25, 0.5, 0.75, 1, 0.5, 0.25] * 2
    np.testing.assert_allclose(rates(scheduler, 11)[:, 0], 0.3 * np.array(want), rtol=1e-14)


def test_schedules_at_once_in_a_sequence():
    optimizer = made()

    def chained():
        parts = [schedules.ExponentialLR(optimizer, 0.5), schedules.ConstantLR(optimizer, 0.1, 2)]
        return schedules.ChainedScheduler(parts)

    scheduler = schedules.SequentialLR(optimizer, [chained(), chained()], [4])
    want = [0.1, 0.05, 0.25, 0.125] * 2
    np.testing.assert_allclose(rates(scheduler, 7)[:, 0], 0.3 * np.array(want), rtol=1e-14)


def test_a_schedule_of_ones_own():
    class Halving(schedules.LRScheduler):
        def get_lr(self):
            return [base / 2**self.last_epoch for base in self.base_lrs]

    np.testing.assert_array_equal(rates(Halving(made()), 2), [LRS, [0.15, 0.035], [0.075, 0.0175]])


# ---- storage ----


def sequence(optimizer):
    parts = [
        schedules.ChainedScheduler([schedules.LinearLR(optimizer), schedules.StepLR(optimizer, 3)]),
        schedules.CosineAnnealingWarmRestarts(optimizer, 3, 2),
    ]
    return schedules.SequentialLR(optimizer, parts, [8])


def plateau(optimizer):
    return schedules.ReduceLROnPlateau(optimizer, patience=1, cooldown=1, min_lr=[0.01, 0.0])


@pytest.mark.parametrize("at", [0, 5, 13])
@pytest.mark.parametrize(
    "make",
    [
        *(lambda optimizer, name=n, options=o: getattr(schedules, name)(optimizer, **options) for n, o in SCHEDULES),
        sequence,
        plateau,
    ],
    ids=[*NAMES, "sequence", "plateau"],
)
def test_a_schedule_goes_on_from_json(make, at):
    """With the same bits."""
    metrics = [np.random.default_rng(2).random(40)] if make is plateau else []
    scheduler = make(made())
    rates(scheduler, at, *metrics)
    stored = json.dumps([scheduler.state_dict(), scheduler.optimizer.state_dict()])
    again = make(made())
    rates(again, 3, *metrics)
    state, optimizer_state = json.loads(stored)
    again.load_state_dict(state)
    again.optimizer.load_state_dict(optimizer_state)
    rest = [metric[at:] for metric in metrics]
    np.testing.assert_array_equal(rates(scheduler, 20, *rest), rates(again, 20, *rest))
    assert again.state_dict() == scheduler.state_dict()


@pytest.mark.parametrize(
    ("make", "change", "error", "said"),
    [
        (sequence, lambda s: [], TypeError, "SequentialLR: state_dict must be a dict, got list"),
        (sequence, lambda s: s | {"more": 1}, ValueError, "SequentialLR: state_dict has .*more, expected "),
        (sequence, lambda s: {"schedulers": []}, ValueError, "SequentialLR: state_dict has schedulers, expected "),
        (sequence, lambda s: s | {"last_epoch": "3"}, ValueError, "SequentialLR: state_dict has last_epoch = '3', exp"),
        (sequence, lambda s: s | {"schedulers": s["schedulers"][:1]}, ValueError, "SequentialLR: state_dict has sched"),
        (sequence, lambda s: s | {"schedulers": s["schedulers"][::-1]}, ValueError, "SequentialLR: state_dict has sch"),
        (plateau, lambda s: s | {"min_lr": [0.1]}, ValueError, r"ReduceLROnPlateau: state_dict has min_lr = \[0.1\]"),
        (plateau, lambda s: s | {"mode": None}, ValueError, "ReduceLROnPlateau: state_dict has mode = None, expected "),
    ],
)
def test_a_state_that_does_not_fit(make, change, error, said):
    scheduler = make(made())
    before = scheduler.state_dict()
    other = make(made())
    rates(other, 3, *[range(9)] * (make is plateau))
    with pytest.raises(error, match=f"^{said}"):
        scheduler.load_state_dict(change(other.state_dict()))
    assert scheduler.state_dict() == before


# ---- errors ----


@pytest.mark.parametrize(
    ("name", "options", "error", "said"),
    [
        ("StepLR", {"step_size": 0}, ValueError, "step_size is 0, expected at least 1"),
        ("StepLR", {"step_size": 1.5}, TypeError, "step_size must be an integer, got 1.5"),
        ("StepLR", {"step_size": 1, "last_epoch": -2}, ValueError, "last_epoch is -2, expected at least -1"),
        ("StepLR", {"step_size": 1, "last_epoch": 3}, ValueError, "last_epoch is 3 and group 0 has no initial_lr"),
        ("MultiStepLR", {"milestones": [1, -1]}, ValueError, "milestones is -1, expected at least 0"),
        ("ExponentialLR", {"gamma": "x"}, TypeError, "gamma must be a number, got 'x'"),
        ("ConstantLR", {"factor": 1.5}, ValueError, "factor is 1.5, expected 0 <= factor <= 1"),
        ("ConstantLR", {"factor": 0}, ValueError, "factor is 0.0, expected a number above 0"),
        ("LinearLR", {"start_factor": 0}, ValueError, "start_factor is 0.0, expected a number above 0"),
        ("LinearLR", {"end_factor": 2}, ValueError, "end_factor is 2.0, expected 0 <= end_factor <= 1"),
        ("PolynomialLR", {"power": -1}, ValueError, "power is -1.0, expected 0 <= power"),
        ("CosineAnnealingLR", {"T_max": 0}, ValueError, "T_max is 0, expected at least 1"),
        ("CosineAnnealingWarmRestarts", {"T_0": 0}, ValueError, "T_0 is 0, expected at least 1"),
        ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 0}, ValueError, "T_mult is 0, expected at least 1"),
        ("OneCycleLR", {"max_lr": 1}, ValueError, "total_steps is None, expected it, or epochs and steps_per_epoch"),
        ("OneCycleLR", {"max_lr": [1, 2, 3], "total_steps": 3}, ValueError, "max_lr has 3 values, expected 2, one for"),
        ("OneCycleLR", {"max_lr": 1, "total_steps": 3, "pct_start": 2}, ValueError, "pct_start is 2.0, expected 0 <="),
        ("OneCycleLR", {"max_lr": 1, "total_steps": 3, "anneal_strategy": "x"}, ValueError, "anneal_strategy is 'x'"),
        (
            "OneCycleLR",
            {"max_lr": 1, "total_steps": 3, "div_factor": 0},
            ValueError,
            "div_factor is 0.0, expected a nu",
        ),
        ("LambdaLR", {"lr_lambda": [abs]}, ValueError, "lr_lambda has 1 functions, expected 2, one for each group"),
        ("LambdaLR", {"lr_lambda": 3}, TypeError, "lr_lambda must be a function, got 3"),
        ("ReduceLROnPlateau", {"mode": "least"}, ValueError, "mode is 'least', expected 'min' or 'max'"),
        ("ReduceLROnPlateau", {"threshold_mode": "x"}, ValueError, "threshold_mode is 'x', expected 'rel' or 'abs'"),
        ("ReduceLROnPlateau", {"factor": 1}, ValueError, "factor is 1, expected 0 <= factor < 1"),
        ("ReduceLROnPlateau", {"min_lr": [1]}, ValueError, "min_lr has 1 values, expected 2, one for each group"),
    ],
)
def test_wrong_arguments(name, options, error, said):
    """Nothing of the optimiser is changed."""
    optimizer = made()
    before = repr(optimizer)
    with pytest.raises(error, match=f"^{name}: {said}"):
        getattr(schedules, name)(optimizer, **options)
    assert repr(optimizer) == before


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda o: schedules.StepLR(3, 1), TypeError, "StepLR: optimizer must be an Optimizer, got int"),
        (lambda o: schedules.ChainedScheduler([]), ValueError, "ChainedScheduler: schedulers is empty"),
        (
            lambda o: schedules.ChainedScheduler([o]),
            TypeError,
            r"ChainedScheduler: schedulers\[0\] must be a schedule, g",
        ),
        (
            lambda o: schedules.ChainedScheduler([plateau(o)]),
            ValueError,
            r"ChainedScheduler: schedulers\[0\] is a ReduceLROnPlateau, whose step needs a metric",
        ),
        (
            lambda o: schedules.ChainedScheduler([schedules.StepLR(o, 1), schedules.StepLR(made(), 1)]),
            ValueError,
            r"ChainedScheduler: schedulers\[1\] has another optimizer, expected one for all",
        ),
        (
            lambda o: schedules.SequentialLR(o, [schedules.StepLR(o, 1)] * 3, [4, 3]),
            ValueError,
            r"SequentialLR: milestones are \[4, 3\], expected 2, one fewer than schedulers, in ascending order",
        ),
        (
            lambda o: schedules.SequentialLR(o, [schedules.StepLR(o, 1)], [4]),
            ValueError,
            r"SequentialLR: milestones are \[4\], expected 0, one fewer than schedulers",
        ),
        (
            lambda o: schedules.CosineAnnealingWarmRestarts(o, 3).step(-1),
            ValueError,
            "CosineAnnealingWarmRestarts: epoch is -1.0, expected 0 <= epoch",
        ),
    ],
)
def test_wrong_calls(call, error, said):
    with pytest.raises(error, match=f"^{said}"):
        call(made())


def test_one_cycle_needs_a_momentum():
    class Plain(optim.SGD):
        def __init__(self, params):
            super().__init__(params)
            del self.defaults["momentum"]

    optimizer = Plain([fastnn.tensor([1.0])])
    with pytest.raises(
        ValueError, match=r"^OneCycleLR: cycle_momentum is True and Plain has neither momentum nor betas"
    ):
        schedules.OneCycleLR(optimizer, 0.1, 10)
    schedules.OneCycleLR(optimizer, 0.1, 10, cycle_momentum=False)
