"""Recurrent cells and sequences (K11, K12, K13)."""

from fastnn.reference.recurrent import *  # noqa: F403
from fastnn.reference.recurrent import __all__  # noqa: F401
