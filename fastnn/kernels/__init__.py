"""Compiled loop nests (Cython): tiles, scratch memory, threads. Arguments have been checked by `fastnn.ops`."""

from importlib.util import find_spec

if find_spec("fastnn.kernels.runtime") is None:
    raise ImportError(
        f"fastnn in {__path__[0]} is source code that has not been compiled. After `pip install .`, run Python in "
        "another folder; after `pip install -e .`, this one works too."
    )
