"""What all optimisers share: groups of parameters with options, the state of each parameter, and its storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np

from fastnn.autograd import Tensor, enable_grad
from fastnn.ops.optim import numbers

__all__ = ["Optimizer"]

SWITCHES = {"foreach", "fused", "capturable", "differentiable"}
"""torch's choices between its implementations, of which there is one here."""
NEW: dict[str, Any] = {}
"""The state of a parameter that had no gradient yet."""


class Optimizer:
    """Updates parameters in place from their gradients, all of a group and dtype in one compiled call.

    params: Tensors, pairs of a name and a Tensor, or dicts of "params" and of options that shall differ from the
    arguments; leaves of float32 or float64, each once. Those whose grad is None are skipped, and count their own steps
    from their first gradient on. Names go into their group and its stored state, as "param_names".

    param_groups: a list of dicts of "params" and options, which may be changed between steps. state: parameter -> dict
    of its arrays and its count of steps. torch's keyword arguments foreach, fused and capturable are accepted and mean
    nothing here.

    A subclass says in `required` and `optional` which arrays the state has, checks options, and calls the operator.
    """

    required: tuple[str, ...] = ()
    """Names in the state of a parameter without which it cannot be loaded; "step" is a count, others are arrays."""
    optional: tuple[str, ...] = ()
    """Names that it may have besides, depending on options."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], switches: Mapping[str, Any] | None = None):
        self.name = type(self).__name__
        switches = {} if switches is None else switches
        for switch in switches:
            if switch not in SWITCHES:
                raise TypeError(f"{self.name}: got an unexpected argument {switch!r}")
        if switches.get("differentiable"):
            raise ValueError(f"{self.name}: differentiable is True, expected False, as steps are not recorded")
        if isinstance(params, Tensor):
            raise TypeError(f"{self.name}: params must be an iterable of Tensors or dicts, got one Tensor")
        self.check(defaults)
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.param_groups: list[dict[str, Any]] = []
        groups = in_order(self.name, params)
        if not groups:
            raise ValueError(f"{self.name}: params is empty, expected at least one Tensor or group")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    # ---- for subclasses ----

    def check(self, options: dict[str, Any]) -> None:
        """TypeError or ValueError for wrong options; right ones become plain Python numbers."""
        raise NotImplementedError

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """The arrays of the state that the options of a group demand, in the order of the operator's lists."""
        raise NotImplementedError

    def ready(self, group: Mapping[str, Any], lists: list[list[np.ndarray]], age: int) -> Callable[[], None]:
        """One step, checked: a function that takes it, without allocating or failing. lists: parameters, gradients,
        and each array of state_names, of one dtype. age: of all of them, how many steps they have behind them; without
        "step" in the state 0, or 1 for any number."""
        raise NotImplementedError

    def check_numbers(self, options: dict[str, Any], *names: str) -> None:
        """Options that are finite and at least 0."""
        options.update(zip(names, numbers(self.name, **{name: options[name] for name in names}), strict=True))

    def check_flags(self, options: dict[str, Any], *names: str) -> None:
        """Options that are True or False."""
        for name in names:
            if not isinstance(options[name], bool | np.bool):
                raise TypeError(f"{self.name}: {name} must be True or False, got {options[name]!r}")
            options[name] = bool(options[name])

    # ---- groups ----

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group: a dict of "params", a Tensor or several, and of options that differ from the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"{self.name}: a group must be a dict, got {type(param_group).__name__}")
        if "params" not in param_group:
            raise ValueError(f"{self.name}: a group has the keys {list(param_group)}, expected 'params' among them")
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else in_order(self.name, params)
        names = [p[0] for p in params if isinstance(p, tuple) and len(p) == 2]
        if names and len(names) != len(params):
            raise ValueError(f"{self.name}: {len(names)} of {len(params)} params have names, expected all or none")
        params = [p for _, p in params] if names else params
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise TypeError(f"{self.name}: params[{i}] must be a Tensor, got {type(p).__name__}")
            if p.node is not None:
                raise ValueError(f"{self.name}: params[{i}] is the result of {p.node.name}, expected a leaf")
            if p.dtype not in (np.float32, np.float64):
                raise TypeError(f"{self.name}: params[{i}] has dtype {p.dtype}, expected float32 or float64")
            if id(p) in known:
                raise ValueError(f"{self.name}: params[{i}] is there already, expected each parameter once")
            known.add(id(p))
        group = {**self.defaults, **param_group, "params": params, **({"param_names": names} if names else {})}
        self.check(group)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients: they become None, or with set_to_none=False are filled with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad.fill(0)

    # ---- steps ----

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all parameters that have a gradient. The tape refuses a backward pass through what used them.

        closure: computes the loss, and the gradients, first; its result is returned. All parameters are checked, and
        all memory is there, before any of them is changed: TypeError or ValueError as of the operators, MemoryError.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        steps = []
        for group in self.param_groups:
            alike: dict[tuple[str, int], tuple[list[Tensor], list[dict[str, Any]]]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state.get(p, NEW)
                    key = p.array.dtype.char, state.get("step", 1 if state else 0)
                    params, states = alike.setdefault(key, ([], []))
                    params.append(p)
                    states.append(state)
            for (_, age), (params, states) in alike.items():
                steps.append((self.prepared(group, params, states, age), params, states, age + 1))
        for take, *_ in steps:
            take()
        for _, params, states, age in steps:
            self.keep(params, states, age)
        return loss

    def prepared(
        self, group: dict[str, Any], params: list[Tensor], states: list[dict[str, Any]], age: int
    ) -> Callable[[], None]:
        """The step of parameters of one dtype and age, ready. Arrays that a state lacks are added to it, in a copy."""
        names = self.state_names(group)
        wanted = set(names)
        for i, state in enumerate(states):
            if not state.keys() >= wanted:
                fresh = {name: np.zeros(params[i].shape, params[i].dtype) for name in names if name not in state}
                states[i] = state | fresh
        lists: list[list[Any]] = [[p.array for p in params], [p.grad for p in params]]
        lists += [[state[name] for state in states] for name in names]
        return self.ready(group, lists, age)

    def keep(self, params: list[Tensor], states: list[dict[str, Any]], age: int) -> None:
        """After a step: the parameters have changed, and have these states."""
        counts = "step" in self.required
        for p, state in zip(params, states, strict=True):
            p.increment_version()
            if counts:
                state["step"] = age
            if state:
                self.state[p] = state

    # ---- storage ----

    def state_dict(self) -> dict[str, Any]:
        """torch's form: {"state": {number of a parameter: its state}, "param_groups": the groups, with numbers for
        "params"}. Parameters are numbered through all groups. The arrays are not copied. See also flatten_state."""
        params = [p for group in self.param_groups for p in group["params"]]
        groups, start = [], 0
        for group in self.param_groups:
            end = start + len(group["params"])
            groups.append({**group, "params": list(range(start, end))})
            start = end
        return {
            "state": {i: dict(self.state[p]) for i, p in enumerate(params) if p in self.state},
            "param_groups": groups,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over options and state of an optimiser of this class for parameters of these shapes, ours or torch's;
        arrays are copied. TypeError or ValueError, before anything is changed, if it does not fit."""
        saved = as_type(dict, part(self.name, state_dict, "state_dict", "state"), f"{self.name}: state")
        groups = as_type(list, part(self.name, state_dict, "state_dict", "param_groups"), f"{self.name}: param_groups")
        numbered = [
            as_type(list, part(self.name, group, "a group", "params"), f"{self.name}: params") for group in groups
        ]
        sizes = [len(group["params"]) for group in self.param_groups]
        if [len(numbers) for numbers in numbered] != sizes:
            raise ValueError(
                f"{self.name}: state_dict has groups of {[len(numbers) for numbers in numbered]} parameters, "
                f"expected {sizes}"
            )
        options = [self.loaded_options(*pair) for pair in zip(groups, self.param_groups, strict=True)]
        params = dict(zip(chain(*numbered), chain(*(group["params"] for group in self.param_groups)), strict=True))
        if len(params) != sum(sizes):
            raise ValueError(f"{self.name}: state_dict has a parameter in two groups, expected each once")
        state = {}
        for number, values in saved.items():
            what = f"{self.name}: state of parameter {number!r}"
            if number not in params:
                raise ValueError(f"{what}, which is in no group")
            state[params[number]] = self.loaded_state(what, params[number], as_type(dict, values, what))
        for group, loaded in zip(self.param_groups, options, strict=True):
            group.update(loaded)
        self.state = state

    def loaded_options(self, group: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a group that was stored; others, such as those of schedules, as they are, but numbers where
        our own group has numbers."""
        options = {name: value for name, value in group.items() if name not in SWITCHES and name != "params"}
        # Flags that older versions of torch did not have.
        options = {name: False for name, value in self.defaults.items() if isinstance(value, bool)} | options
        missing = [name for name in self.defaults if name not in options]
        if missing:
            raise ValueError(f"{self.name}: state_dict has a group without {', '.join(missing)}; of another optimiser?")
        self.check(options)
        for name, value in options.items():
            if isinstance(own.get(name), int | float) and not isinstance(value, int | float):
                raise TypeError(f"{self.name}: {name} must be a number, got {value!r}")
        return options

    def loaded_state(self, what: str, p: Tensor, values: Mapping[str, Any]) -> dict[str, Any]:
        """A parameter's state in memory of its own."""
        missing = [name for name in self.required if name not in values]
        unknown = [name for name in values if name not in self.required + self.optional]
        if missing or unknown:
            raise ValueError(
                f"{what} has {', '.join(map(str, values)) or 'nothing'}, expected {', '.join(self.required)}"
                + "".join(f" and maybe {name}" for name in self.optional)
            )
        return {name: count(what, x) if name == "step" else like(what, name, x, p) for name, x in values.items()}

    def __repr__(self) -> str:
        groups = (
            f"Parameter Group {i}\n"
            + "".join(f"    {name}: {value}\n" for name, value in sorted(group.items()) if name != "params")
            for i, group in enumerate(self.param_groups)
        )
        return f"{self.name} (\n" + "\n".join(groups) + ")"


def in_order(op: str, params: Iterable[Any]) -> list[Any]:
    """A list of what is iterable, in an order that is the same in every run."""
    if isinstance(params, set | frozenset):
        raise TypeError(f"{op}: params is a set, whose order differs between runs, expected a list")
    try:
        return list(params)
    except TypeError:
        raise TypeError(f"{op}: params must be an iterable of Tensors or dicts, got {type(params).__name__}") from None


def part(op: str, stored: Any, what: str, key: str) -> Any:
    """An element of a dict that was stored."""
    if not isinstance(stored, Mapping):
        raise TypeError(f"{op}: {what} must be a dict, got {type(stored).__name__}")
    if key not in stored:
        raise ValueError(f"{op}: {what} has {', '.join(map(repr, stored)) or 'nothing'}, expected {key!r} among it")
    return stored[key]


def as_type(kind: type, value: Any, what: str) -> Any:
    """The value, if it is one."""
    if not isinstance(value, kind):
        raise TypeError(f"{what} must be a {kind.__name__}, got {type(value).__name__}")
    return value


def count(what: str, value: Any) -> int:
    """A number of steps; torch has it as a tensor of float32."""
    try:
        steps = int(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{what}: step must be an integer, got {value!r}") from None
    if steps != value or not 0 <= steps <= 2**53:
        raise ValueError(f"{what}: step is {value!r}, expected an integer, at least 0 and at most 2^53")
    return steps


def like(what: str, name: str, value: Any, p: Tensor) -> np.ndarray:
    """A copy of an array, ours or torch's, of the parameter's shape and dtype."""
    if not hasattr(value, "__array__"):
        raise TypeError(f"{what}: {name} must be an array, got {type(value).__name__}")
    array = np.array(np.asarray(value), order="C")
    if array.dtype != p.dtype:
        raise TypeError(f"{what}: {name} has dtype {array.dtype}, expected {p.dtype}")
    if array.shape != p.shape:
        raise ValueError(f"{what}: {name} has shape {array.shape}, expected {p.shape}")
    return array
