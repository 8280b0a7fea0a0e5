"""An optimiser's state as arrays by name and metadata, which is what files of `fastnn.save` hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["flatten_state", "unflatten_state"]


def plain(value: Any) -> Any:
    """NumPy's scalars as Python numbers, which JSON knows, and tuples as lists, which it makes of them."""
    if isinstance(value, np.generic):
        return value.item()
    return [plain(each) for each in value] if isinstance(value, tuple | list) else value


def flatten_state(state_dict: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays, metadata) of an Optimizer.state_dict: arrays by "<number of the parameter>.<name>", not copied, and all
    else as a dict that json.dumps takes. unflatten_state is the way back."""
    arrays: dict[str, np.ndarray] = {}
    rest: dict[str, dict[str, Any]] = {}
    for i, state in state_dict["state"].items():
        arrays |= {f"{i}.{name}": x for name, x in state.items() if isinstance(x, np.ndarray)}
        rest[str(i)] = {name: plain(x) for name, x in state.items() if not isinstance(x, np.ndarray)}
    groups = [{name: plain(value) for name, value in group.items()} for group in state_dict["param_groups"]]
    return arrays, {"state": rest, "param_groups": groups}


def unflatten_state(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The state_dict of (arrays, metadata), which may have been through a file. ValueError for other metadata, or an
    array that belongs to no parameter; `load_state_dict` checks the rest."""
    try:
        state = {int(i): dict(values) for i, values in metadata["state"].items()}
        groups = metadata["param_groups"]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("unflatten_state: metadata is something else than flatten_state returns") from None
    for key, x in arrays.items():
        i, _, name = key.partition(".")
        if not i.isdecimal() or int(i) not in state:
            raise ValueError(
                f"unflatten_state: got an array named {key!r}, expected the number of a parameter before a dot"
            )
        state[int(i)][name] = x
    return {"state": state, "param_groups": groups}
