"""The networks of the literature, each readable in one file, built from `fastnn.nn`.

docs/models.md lists them with their papers and what they reach; `python -m fastnn run NAME` trains one on real data.
"""

from fastnn.models.characters import CharacterGenerator
from fastnn.models.lenet import LeNet, lenet
from fastnn.models.memory import MemoryNetwork
from fastnn.models.translation import Translator, beam_search, greedy_search

__all__ = ["CharacterGenerator", "LeNet", "MemoryNetwork", "Translator", "beam_search", "greedy_search", "lenet"]
