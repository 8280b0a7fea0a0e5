"""torchvision's networks, whose names, shapes and results ours have to have."""

from functools import cache
from importlib.util import find_spec

import pytest

DECLARED = []
"""Operators disappear with the object that declared them."""


@cache
def torchvision_models():
    """torchvision.models, or skip. A wheel for another build of torch lacks its compiled operators, which no network
    here uses, but without which it cannot be imported: then they are declared."""
    torch = pytest.importorskip("torch")
    if find_spec("torchvision") is None:
        pytest.skip("needs torchvision")
    try:
        from torchvision import models
    except RuntimeError:
        DECLARED.append(torch.library.Library("torchvision", "FRAGMENT"))
        for name in "nms", "qnms":
            DECLARED[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import models
    return models
