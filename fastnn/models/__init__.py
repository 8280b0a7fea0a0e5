"""The networks of the literature, each readable in one file, built from `fastnn.nn`.

docs/models.md lists them with their papers and what they reach; `python -m fastnn run NAME` trains one on real data.
"""

from fastnn.models.captioning import Captioner
from fastnn.models.decoding import beam_search, greedy_search
from fastnn.models.lenet import LeNet, lenet
from fastnn.models.visual_questions import VisualQuestions

__all__ = ["Captioner", "LeNet", "VisualQuestions", "beam_search", "greedy_search", "lenet"]
