from collections.abc import Callable
from threading import local
from types import ModuleType
from typing import Any

import numpy as np

ops: ModuleType

class Mode(local):
    recording: bool
    observer: Any
    forwards: int

mode: Mode

class Version:
    count: int
    viewed: bool
    exposed: bool
    def increment(self, array: np.ndarray) -> None: ...

class Node:
    name: str
    place: int
    retained: list[tuple[int, Any]] | None

class Variable:
    array: np.ndarray
    grad: np.ndarray | None
    tracked: bool
    node: Node | None
    number: int
    versions: Version

def observe(observer: Any) -> Any: ...
def expect_symbols(change: int) -> None: ...
def results_are(cls: type[Variable]) -> None: ...
def arrays_in(value: object) -> Any: ...
def place_of(node: Node) -> int: ...
def call(forward: Callable[..., Any], /, *args: Any, **options: Any) -> Any: ...
def accumulate(tensor: Variable, dx: np.ndarray, fresh: bool) -> None: ...
def propagate(root: Node, number: int, gradient: np.ndarray, retain_graph: bool) -> None: ...

class Prepared:
    def __init__(self, make: Callable[[np.ndarray], Any]) -> None: ...
    def clear(self) -> None: ...
    def of(self, variable: Variable) -> Any: ...
