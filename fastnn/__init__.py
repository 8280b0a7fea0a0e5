"""Neural-network layers for CPUs: compiled kernels, and a NumPy reference that states what each one means."""

from fastnn import functional, ops, reference
from fastnn.config import show_config
from fastnn.kernels.runtime import release_memory
from fastnn.threads import get_num_threads, num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "functional",
    "get_num_threads",
    "num_threads",
    "ops",
    "reference",
    "release_memory",
    "set_num_threads",
    "show_config",
]
