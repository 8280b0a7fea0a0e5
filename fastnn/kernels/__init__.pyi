# The compiled modules have no static types; arguments are checked in fastnn.ops.
from typing import Any

def __getattr__(name: str) -> Any: ...
