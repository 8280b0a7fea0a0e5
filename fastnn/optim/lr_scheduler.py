"""Schedules of learning rates, with the names and arguments of torch.optim.lr_scheduler.

A schedule sets the rate of each group of an optimiser when it is made, and in each `step()`, which is for the end of an
epoch (of a batch: OneCycleLR). Most of them multiply the present rate by a factor, so that several can work together.
The state of a schedule is a dict of numbers, texts and lists of these, as JSON has them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import cos, floor, inf, pi
from typing import Any

from fastnn.descriptors import is_int, number
from fastnn.optim.optimizer import Optimizer

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


class LRScheduler:
    """A schedule; subclasses define `get_lr`, or `factor` if they multiply all rates by one.

    last_epoch: -1 begins with epoch 0 at the optimiser's present rates, which become each group's "initial_lr". Another
    one begins behind it; groups then have an "initial_lr", as after loading their state.
    """

    optimizer: Optimizer
    last_epoch: int
    base_lrs: list[float]
    _beginning = False
    """Is this the step that the constructor takes?"""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.attach(optimizer)
        last_epoch = integer(self.name, "last_epoch", last_epoch, -1)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ValueError(
                    f"{self.name}: last_epoch is {last_epoch} and group {i} has no initial_lr, expected -1, or an "
                    "optimiser whose state was loaded"
                )
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.begin(last_epoch)

    @property
    def name(self) -> str:
        return type(self).__name__

    def attach(self, optimizer: Optimizer) -> None:
        """Remember the optimiser; constructors that look at its groups call it first."""
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{self.name}: optimizer must be an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer

    def per_group(self, argument: str, value: Any) -> list[float]:
        """An argument that is a number for each group, or one for all."""
        count = len(self.optimizer.param_groups)
        values = list(value) if isinstance(value, list | tuple) else [value] * count
        if len(values) != count:
            raise ValueError(f"{self.name}: {argument} has {len(values)} values, expected {count}, one for each group")
        return [number(each, self.name, argument) for each in values]

    def begin(self, last_epoch: int) -> None:
        """Take the first step, to the epoch behind last_epoch, from the present rates."""
        self.last_epoch = last_epoch
        self._beginning = True
        try:
            self.step()
        finally:
            self._beginning = False

    def restart(self) -> None:
        """Begin with epoch 0 and the initial rates."""
        set_option(self.optimizer, "lr", self.base_lrs)
        self.begin(-1)

    def step(self) -> None:
        """Go to the next epoch, and set its rates."""
        self.last_epoch += 1
        set_option(self.optimizer, "lr", self.get_lr())

    def get_lr(self) -> list[float]:
        """The rate of each group in epoch last_epoch, made of those before it."""
        factor = self.factor()
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def factor(self) -> float:
        """The rates of epoch last_epoch as a multiple of those before it."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The present rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All that the schedule knows except for functions, and for the present rates, which the optimiser's state has:
        numbers, texts, and lists and dicts of them, as in JSON."""
        return {name: stored(x) for name, x in vars(self).items() if not (name.startswith("_") or name == "optimizer")}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where state_dict was called. TypeError or ValueError, before anything is changed, if that was no
        schedule like this one, for so many groups."""
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{self.name}: state_dict must be a dict, got {type(state_dict).__name__}")
        expected = self.state_dict()
        if state_dict.keys() != expected.keys():
            raise ValueError(
                f"{self.name}: state_dict has {', '.join(map(str, state_dict)) or 'nothing'}, "
                f"expected {', '.join(expected)}"
            )
        for key, x in expected.items():
            if form(state_dict[key]) != form(x):
                raise ValueError(f"{self.name}: state_dict has {key} = {state_dict[key]!r}, expected the like of {x!r}")
        self.restore(state_dict)

    def restore(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what load_state_dict has checked."""
        vars(self).update((key, stored(x)) for key, x in state_dict.items())


def set_option(optimizer: Optimizer, option: str, values: Iterable[Any]) -> None:
    """Give each group its value."""
    for group, value in zip(optimizer.param_groups, values, strict=True):
        group[option] = value


def stored(x: Any) -> Any:
    """An attribute as it is stored; lists are copied."""
    if isinstance(x, LRScheduler):
        return x.state_dict()
    return [stored(each) for each in x] if isinstance(x, list) else x


def form(x: Any) -> Any:
    """What of a stored value cannot change: its type, and the keys and lengths within."""
    if isinstance(x, Mapping):
        return {key: form(each) for key, each in x.items()}
    if isinstance(x, list):
        return [form(each) for each in x]
    return "number" if isinstance(x, int | float) else type(x).__name__


def integer(op: str, argument: str, value: Any, least: int) -> int:
    """An argument that is an integer, at least `least`."""
    if not is_int(value):
        raise TypeError(f"{op}: {argument} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{op}: {argument} is {value}, expected at least {least}")
    return int(value)


def within(op: str, argument: str, value: Any, low: float, high: float) -> float:
    """An argument that is a number in [low, high]."""
    value = number(value, op, argument)
    if not low <= value <= high:
        raise ValueError(f"{op}: {argument} is {value}, expected {low} <= {argument} <= {high}")
    return value


def positive(op: str, argument: str, value: Any) -> float:
    """An argument that is a number above 0, because it divides."""
    value = number(value, op, argument)
    if not value > 0:
        raise ValueError(f"{op}: {argument} is {value}, expected a number above 0")
    return value


# ---- factors on the present rate ----


class StepLR(LRScheduler):
    """The rate times gamma every step_size epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size = integer(self.name, "step_size", step_size, 1)
        self.gamma = number(gamma, self.name, "gamma")
        super().__init__(optimizer, last_epoch)

    def factor(self) -> float:
        return self.gamma if self.last_epoch > 0 and self.last_epoch % self.step_size == 0 else 1.0


class MultiStepLR(LRScheduler):
    """The rate times gamma at each of the milestones, which are epochs; what is listed twice counts twice."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = sorted(integer(self.name, "milestones", each, 0) for each in milestones)
        self.gamma = number(gamma, self.name, "gamma")
        super().__init__(optimizer, last_epoch)

    def factor(self) -> float:
        return self.gamma ** self.milestones.count(self.last_epoch)


class ExponentialLR(LRScheduler):
    """The rate times gamma every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = number(gamma, self.name, "gamma")
        super().__init__(optimizer, last_epoch)

    def factor(self) -> float:
        return 1.0 if self._beginning else self.gamma


class ConstantLR(LRScheduler):
    """The rate times factor for total_iters epochs, then the whole rate."""

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        self.share = positive(self.name, "factor", within(self.name, "factor", factor, 0, 1))
        self.total_iters = integer(self.name, "total_iters", total_iters, 0)
        super().__init__(optimizer, last_epoch)

    def factor(self) -> float:
        if self.last_epoch == 0:
            return self.share
        return 1.0 / self.share if self.last_epoch == self.total_iters else 1.0


class LinearLR(LRScheduler):
    """The rate times a factor that goes from start_factor to end_factor in total_iters epochs, along a line."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = positive(self.name, "start_factor", within(self.name, "start_factor", start_factor, 0, 1))
        self.end_factor = within(self.name, "end_factor", end_factor, 0, 1)
        self.total_iters = integer(self.name, "total_iters", total_iters, 0)
        super().__init__(optimizer, last_epoch)

    def factor(self) -> float:
        if self.last_epoch == 0:
            return self.start_factor
        if self._beginning or self.last_epoch > self.total_iters:
            return 1.0
        rise = self.end_factor - self.start_factor
        return 1.0 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise)


class PolynomialLR(LRScheduler):
    """The initial rate times (1 - epoch / total_iters)^power, and 0 from total_iters on."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters = integer(self.name, "total_iters", total_iters, 0)
        self.power = within(self.name, "power", power, 0, inf)
        super().__init__(optimizer, last_epoch)

    def factor(self) -> float:
        if self._beginning or self.last_epoch > self.total_iters:
            return 1.0
        now, before = (1.0 - epoch / self.total_iters for epoch in (self.last_epoch, self.last_epoch - 1))
        return (now / before) ** self.power


class CosineAnnealingLR(LRScheduler):
    """From the initial rate to eta_min and back every 2 T_max epochs, along a cosine (Loshchilov & Hutter 2017):
    eta_min + (lr - eta_min) (1 + cos(π epoch / T_max)) / 2, each from the rate before."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = integer(self.name, "T_max", T_max, 1)
        self.eta_min = number(eta_min, self.name, "eta_min")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        lrs = self.get_last_lr()
        if self._beginning:
            return lrs
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # the rate before was eta_min
            rise = (1 - cos(pi / self.T_max)) / 2
            return [lr + (base - self.eta_min) * rise for lr, base in zip(lrs, self.base_lrs, strict=True)]
        now, before = (1 + cos(pi * epoch / self.T_max) for epoch in (self.last_epoch, self.last_epoch - 1))
        return [now / before * (lr - self.eta_min) + self.eta_min for lr in lrs]


# ---- functions of the epoch ----


class LambdaLR(LRScheduler):
    """The initial rate times lr_lambda(epoch); a function, or one for each group. Functions are not stored."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.attach(optimizer)
        count = len(optimizer.param_groups)
        self._lambdas: list[Any] = list(lr_lambda) if isinstance(lr_lambda, list | tuple) else [lr_lambda] * count
        if len(self._lambdas) != count:
            raise ValueError(
                f"{self.name}: lr_lambda has {len(self._lambdas)} functions, expected {count}, one for each group"
            )
        for each in self._lambdas:
            if not callable(each):
                raise TypeError(f"{self.name}: lr_lambda must be a function, got {each!r}")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * float(each(self.last_epoch)) for base, each in zip(self.base_lrs, self._lambdas, strict=True)]


class CosineAnnealingWarmRestarts(LRScheduler):
    """From the initial rate to eta_min along half a cosine, and again (Loshchilov & Hutter 2017). The first time takes
    T_0 epochs, each other T_mult times those before it. step(epoch) goes to any epoch, or to a part of one."""

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_0 = self.T_i = integer(self.name, "T_0", T_0, 1)
        self.T_mult = integer(self.name, "T_mult", T_mult, 1)
        self.eta_min = number(eta_min, self.name, "eta_min")
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        share = (1 + cos(pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if epoch == 0:
                self.T_cur, self.T_i = 0, self.T_0
            elif self.T_cur >= self.T_i:
                self.T_cur, self.T_i = self.T_cur % self.T_i, self.T_i * self.T_mult
        else:
            self.T_cur, self.T_i = within(self.name, "epoch", epoch, 0, 2.0**53), self.T_0
            if self.T_mult == 1:
                self.T_cur %= self.T_0
            while self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        self.last_epoch = floor(epoch)
        set_option(self.optimizer, "lr", self.get_lr())


class OneCycleLR(LRScheduler):
    """Up from max_lr / div_factor to max_lr in the first pct_start of all steps, and down to 1 / final_div_factor of
    where it began, along half cosines or lines (Smith & Topin 2018). One step a batch, total_steps - 1 in all.

    total_steps: or epochs * steps_per_epoch. anneal_strategy: "cos" or "linear". three_phase: down to the initial rate
    as fast as up, and then on. cycle_momentum: momentum, or the first of betas, goes the other way, from max_momentum
    to base_momentum and back. Rates and momentums may be lists, of one for each group.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.attach(optimizer)
        if total_steps is not None:
            self.total_steps = integer(self.name, "total_steps", total_steps, 1)
        elif epochs is not None and steps_per_epoch is not None:
            epochs = integer(self.name, "epochs", epochs, 1)
            self.total_steps = epochs * integer(self.name, "steps_per_epoch", steps_per_epoch, 1)
        else:
            raise ValueError(f"{self.name}: total_steps is None, expected it, or epochs and steps_per_epoch")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"{self.name}: anneal_strategy is {anneal_strategy!r}, expected 'cos' or 'linear'")
        self.anneal_strategy = anneal_strategy
        self.pct_start = within(self.name, "pct_start", pct_start, 0, 1)
        self.three_phase = bool(three_phase)
        self.cycle_momentum = bool(cycle_momentum)
        options: dict[str, list[float]] = {"max_lr": self.per_group("max_lr", max_lr)}
        div_factor = positive(self.name, "div_factor", div_factor)
        final_div_factor = positive(self.name, "final_div_factor", final_div_factor)
        options["initial_lr"] = [lr / div_factor for lr in options["max_lr"]]
        options["min_lr"] = [lr / final_div_factor for lr in options["initial_lr"]]
        if self.cycle_momentum:
            if not {"momentum", "betas"} & optimizer.defaults.keys():
                raise ValueError(
                    f"{self.name}: cycle_momentum is True and {optimizer.name} has neither momentum nor betas, "
                    "expected False"
                )
            options["max_momentum"] = self.per_group("max_momentum", max_momentum)
            options["base_momentum"] = self.per_group("base_momentum", base_momentum)
        if last_epoch == -1:
            for option, values in options.items():
                set_option(optimizer, option, values)
        super().__init__(optimizer, last_epoch)

    def phases(self) -> list[tuple[float, str, str, str, str]]:
        """Of each its last step, and the options of the group between which it takes rate and momentum."""
        turn, last = self.pct_start * self.total_steps - 1, float(self.total_steps - 1)
        up = turn, "initial_lr", "max_lr", "max_momentum", "base_momentum"
        if self.three_phase:
            down = 2 * self.pct_start * self.total_steps - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"
            return [up, down, (last, "initial_lr", "min_lr", "max_momentum", "max_momentum")]
        return [up, (last, "max_lr", "min_lr", "base_momentum", "max_momentum")]

    def between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * share + start
        return end + (start - end) / 2.0 * (cos(pi * share) + 1)

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ValueError(f"{self.name}: this is step {self.last_epoch}, expected at most {self.total_steps} steps")
        phases, begin = self.phases(), 0.0
        while self.last_epoch > phases[0][0] and len(phases) > 1:
            begin = phases.pop(0)[0]
        end, start_lr, end_lr, start_momentum, end_momentum = phases[0]
        share = (self.last_epoch - begin) / (end - begin) if end != begin else 1.0
        groups = self.optimizer.param_groups
        if self.cycle_momentum:
            for group in groups:
                momentum = self.between(group[start_momentum], group[end_momentum], share)
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return [self.between(group[start_lr], group[end_lr], share) for group in groups]


# ---- schedules that follow others, or what they lead to ----


class Composite(LRScheduler):
    """A schedule made of others, of one optimiser."""

    schedulers: list[LRScheduler]

    def take(self, optimizer: Optimizer | None, schedulers: Iterable[LRScheduler]) -> None:
        """Check and keep the schedules; optimizer None: theirs."""
        self.schedulers = list(schedulers)
        if not self.schedulers:
            raise ValueError(f"{self.name}: schedulers is empty, expected at least one")
        for i, each in enumerate(self.schedulers):
            if not isinstance(each, LRScheduler):
                raise TypeError(f"{self.name}: schedulers[{i}] must be a schedule, got {type(each).__name__}")
            if isinstance(each, ReduceLROnPlateau):
                raise ValueError(f"{self.name}: schedulers[{i}] is a ReduceLROnPlateau, whose step needs a metric")
        self.attach(self.schedulers[0].optimizer if optimizer is None else optimizer)
        for i, each in enumerate(self.schedulers):
            if each.optimizer is not self.optimizer:
                raise ValueError(f"{self.name}: schedulers[{i}] has another optimizer, expected one for all")
        self.base_lrs = self.schedulers[0].base_lrs

    def restore(self, state_dict: Mapping[str, Any]) -> None:
        super().restore({key: x for key, x in state_dict.items() if key != "schedulers"})
        for each, state in zip(self.schedulers, state_dict["schedulers"], strict=True):
            each.restore(state)


class SequentialLR(Composite):
    """One schedule after the other; at each of the milestones, which are epochs, the next one begins, with its initial
    rates."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Iterable[LRScheduler], milestones: Iterable[int], last_epoch: int = -1
    ) -> None:
        self.take(optimizer, schedulers)
        self.milestones = [integer(self.name, "milestones", each, 0) for each in milestones]
        if len(self.milestones) != len(self.schedulers) - 1 or self.milestones != sorted(self.milestones):
            raise ValueError(
                f"{self.name}: milestones are {self.milestones}, expected {len(self.schedulers) - 1}, one fewer than "
                "schedulers, in ascending order"
            )
        # Each schedule has taken its first step when it was made; only one may have.
        set_option(optimizer, "lr", [group["initial_lr"] for group in optimizer.param_groups])
        self.begin(integer(self.name, "last_epoch", last_epoch, -1))

    def begin(self, last_epoch: int) -> None:
        self.last_epoch = last_epoch + 1
        i = bisect_right(self.milestones, self.last_epoch)
        self.schedulers[i].begin(last_epoch - (self.milestones[i - 1] if i else 0))

    def step(self) -> None:
        self.last_epoch += 1
        present = self.schedulers[bisect_right(self.milestones, self.last_epoch)]
        if self.last_epoch in self.milestones:
            present.restart()
        else:
            present.step()


class ChainedScheduler(Composite):
    """Several schedules at once; each goes on from the rates that those before it have set."""

    def __init__(self, schedulers: Iterable[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self.take(optimizer, schedulers)

    def begin(self, last_epoch: int) -> None:
        for each in self.schedulers:
            each.begin(last_epoch)

    def step(self) -> None:
        for each in self.schedulers:
            each.step()


class ReduceLROnPlateau(LRScheduler):
    """The rate times factor once a metric, an argument of step, has not improved for more than patience epochs.

    mode: "min" or "max", which is better. threshold: by how much a metric must be better to count, as a share of the
    best ("rel") or as such ("abs", threshold_mode). cooldown: epochs after a reduction that do not count. min_lr: a
    bound for all groups, or a list. eps: smaller reductions are not made.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        self.attach(optimizer)
        if mode not in ("min", "max"):
            raise ValueError(f"{self.name}: mode is {mode!r}, expected 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"{self.name}: threshold_mode is {threshold_mode!r}, expected 'rel' or 'abs'")
        self.share = number(factor, self.name, "factor")
        if not 0 <= self.share < 1:
            raise ValueError(f"{self.name}: factor is {factor}, expected 0 <= factor < 1")
        self.mode, self.threshold_mode = mode, threshold_mode
        self.threshold = number(threshold, self.name, "threshold")
        self.patience = integer(self.name, "patience", patience, 0)
        self.cooldown = integer(self.name, "cooldown", cooldown, 0)
        bounds = self.per_group("min_lr", min_lr)
        self.min_lr = bounds if isinstance(min_lr, list | tuple) else bounds[0]
        self.eps = number(eps, self.name, "eps")
        self.best = inf if mode == "min" else -inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def is_better(self, metric: float) -> bool:
        margin = self.threshold if self.mode == "max" else -self.threshold
        bound = self.best * (1.0 + margin) if self.threshold_mode == "rel" else self.best + margin
        return metric > bound if self.mode == "max" else metric < bound

    def step(self, metrics: float) -> None:  # type: ignore[override]
        """Note the metric of an epoch, a number or a Tensor of one element."""
        metric = float(metrics)
        self.last_epoch += 1
        self.num_bad_epochs += 1
        if self.is_better(metric):
            self.best, self.num_bad_epochs = metric, 0
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.num_bad_epochs, self.cooldown_counter = 0, self.cooldown
            bounds = self.per_group("min_lr", self.min_lr)
            for group, least in zip(self.optimizer.param_groups, bounds, strict=True):
                reduced = max(group["lr"] * self.share, least)
                if group["lr"] - reduced > self.eps:
                    group["lr"] = reduced
