"""The networks of the literature, each readable in one file, built from `fastnn.nn`.

docs/models.md lists them with their papers and what they reach; `python -m fastnn run NAME` trains one on real data.
"""

from fastnn.models.decoder import Decoder
from fastnn.models.helmholtz import HelmholtzMachine
from fastnn.models.image_to_image import FiLM, ImageToImage
from fastnn.models.lenet import LeNet, lenet

__all__ = ["Decoder", "FiLM", "HelmholtzMachine", "ImageToImage", "LeNet", "lenet"]
