"""What an estimator's parameters may be: checked in fit, as scikit-learn has it, and not when they are set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from fastnn.descriptors import flag, is_int, number
from fastnn.descriptors.options import one_of

__all__ = ["Rule", "boolean", "check", "choice", "integer", "keep", "real", "unless"]

Rule = Callable[[str, str, Any], Any]
"""rule(estimator, name, value) raises TypeError or ValueError for a wrong value."""


def keep(estimator: Any, values: Mapping[str, Any]) -> None:
    """An estimator's attributes from the locals() of its constructor."""
    for name, value in values.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)


def check(estimator: Any, rules: Mapping[str, Rule]) -> None:
    """TypeError or ValueError for the first parameter that breaks its rule."""
    for name, rule in rules.items():
        rule(type(estimator).__name__, name, getattr(estimator, name))


def integer(least: int) -> Rule:
    """An integer of at least so much."""

    def rule(op: str, name: str, value: Any) -> None:
        if not is_int(value):
            raise TypeError(f"{op}: {name} must be an integer, got {value!r}")
        if value < least:
            raise ValueError(f"{op}: {name} is {value}, expected at least {least}")

    return rule


def real(low: float, high: float = inf, ends: str = "[]") -> Rule:
    """A finite number of an interval, whose ends are part of it, "[" and "]", or not, "(" and ")"."""

    def rule(op: str, name: str, value: Any) -> None:
        x = number(value, op, name)
        above = x > low if ends[0] == "(" else x >= low
        below = x < inf if high == inf else x < high if ends[1] == ")" else x <= high
        if not (above and below):
            interval = f"{ends[0]}{low}, inf)" if high == inf else f"{ends[0]}{low}, {high}{ends[1]}"
            raise ValueError(f"{op}: {name} is {value}, expected a number in {interval}")

    return rule


def choice(*names: str | None) -> Rule:
    """One of these."""
    return lambda op, name, value: one_of(op, name, value, *names)


def unless(*values: Any, rule: Rule) -> Rule:
    """One of these values, or what the rule takes."""

    def either(op: str, name: str, value: Any) -> None:
        if not any(value is special or (isinstance(value, str | float) and value == special) for special in values):
            try:
                rule(op, name, value)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{error}, or {' or '.join(map(repr, values))}") from None

    return either


def boolean(op: str, name: str, value: Any) -> None:
    """True or False."""
    flag(value, op, name)
