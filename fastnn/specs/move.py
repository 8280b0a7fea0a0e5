"""Specs of padding and concatenation."""

from math import prod

from fastnn.descriptors import pad_desc
from fastnn.registry import Case, OpSpec, Work, image_of, rows_of


def pad(*x, label="", **options):
    return Case({"x": x}, options, label)


def pad_descs(case):
    options = {name: value for name, value in case.options.items() if name != "value"}
    return pad_desc(case.shapes["x"], **options)


def pad_work(backward):
    def work(case, itemsize):
        desc = pad_descs(case)
        return Work(0, desc.bytes(itemsize), prod(desc.x_shape if backward else desc.y_shape) * itemsize)

    return work


def pad_depth(case):
    """Forward does not round. A gradient is a sum of m terms at most: m - 1 roundings of sums up to m * max|dy|, and
    the largest |dx|, which the bound is relative to, may be of one dy only."""
    desc = pad_descs(case)
    if desc.mode == "constant":
        return 0
    padding = [out - n for n, out in zip(desc.x_shape, desc.y_shape, strict=True)]
    return prod((p if desc.mode == "replicate" else min(p, 2)) + 1 for p in padding) ** 2


def pad_batch(case):
    """The first axis, unless it is padded."""
    return {"x": 0} if len(case.options["pad"]) // 2 < len(case.shapes["x"]) else {}


def concat(*shapes, label="", **options):
    return Case({"arrays": list(shapes)}, options, label)


def concat_work(case, itemsize):
    size = sum(prod(shape) for shape in case.shapes["arrays"])
    return Work(0, 2 * size * itemsize)


def torch_pad(torch, x, **options):
    """Its modes but "constant" want an axis of channels."""
    return torch.nn.functional.pad(x[None], **options)[0] if x.ndim == 1 else torch.nn.functional.pad(x, **options)


SPECS = (
    OpSpec(
        name="pad",
        grads=("x",),
        cases=(
            pad(1, pad=(1, 2)),
            pad(2, 3, 5, 7, pad=(1, 1, 1, 1)),
            pad(2, 3, 5, 7, pad=[1, 2, 3, 4], value=-1.5),
            pad(2, 3, 5, 7, pad=(0, 0, 0, 0, 2, 1), value=2.0),
            pad(2, 3, 4, 5, pad=(0, 1, 0, 0, 0, 0, 1, 2)),
            pad(3, 40, 37, pad=(-2, 3, 1, -4)),
            pad(2, 3, 5, pad=(-2, -2, -1, 0)),
            pad(2, 2, 3, 2, 3, 2, pad=(1, 0, 0, 2, 1, 1, 0, 1)),
            pad(4, 5, pad=()),
            pad(1, 1, 2500, pad=(7, 1000)),
            pad(7, pad=(3, 2), mode="reflect"),
            pad(2, 3, 9, pad=(8, 2), mode="reflect"),
            pad(2, 3, 5, 37, pad=(1, 2, 3, 4), mode="reflect"),
            pad(2, 1, 4, 5, pad=(0, 0, 3, 1), mode="reflect"),
            pad(2, 3, 4, pad=(5, 9), mode="replicate"),
            pad(2, 3, 5, 40, pad=(1, 2, 3, 4), mode="replicate"),
            pad(2, 3, 1, 1, pad=(2, 2, 2, 2), mode="replicate"),
            pad(2, 3, 6, pad=(6, 5), mode="circular"),
            pad(2, 3, 5, 19, pad=(4, 0, 5, 1), mode="circular"),
        ),
        bench=(
            pad(1, 1, 4, 4, pad=(1, 1, 1, 1), label="tiny 4x4"),
            pad(8, 64, 56, 56, pad=(1, 1, 1, 1), label="56x56 by 1"),
            pad(32, 64, 56, 56, pad=(1, 1, 1, 1), label="32 images 56x56 by 1"),
            pad(32, 64, 112, 112, pad=(3, 3, 3, 3), label="112x112 by 3"),
            pad(32, 64, 56, 56, pad=(1, 1, 1, 1), mode="reflect", label="56x56 reflect"),
            pad(32, 64, 56, 56, pad=(1, 1, 1, 1), mode="replicate", label="56x56 replicate"),
            pad(32, 64, 56, 56, pad=(1, 1, 1, 1), mode="circular", label="56x56 circular"),
            pad(32, 64, 58, 58, pad=(-1, -1, -1, -1), label="58x58 by -1"),
        ),
        work=pad_work(False),
        backward_work=pad_work(True),
        depth=pad_depth,
        batch=pad_batch,
        sized=lambda n: Case({"x": image_of(n)}, {"pad": (1, 1, 1, 1)}),
        peers={"torch": torch_pad},
    ),
    OpSpec(
        name="concat",
        grads=("arrays",),
        cases=(
            concat((3,), (5,)),
            concat((2, 3)),
            concat((2, 3, 5, 7), (2, 1, 5, 7), (2, 4, 5, 7), axis=1),
            concat((2, 3), (2, 1), (2, 70), axis=-1),
            concat((2, 5, 33), (2, 5, 33), axis=0),
            concat((3, 1, 2), (3, 1, 1), (3, 1, 4), axis=2),
            concat((2, 1500), (2, 2100), axis=1),
        ),
        bench=(
            concat((4, 4), (4, 4), label="tiny", axis=1),
            concat(*[(32, c, 28, 28) for c in (128, 192, 96, 64)], axis=1, label="inception 28x28"),
            concat((8, 256, 56, 56), (8, 256, 56, 56), axis=1, label="unet 56x56"),
            concat((4096, 512), (4096, 100), (4096, 1), axis=1, label="features"),
            concat((8, 64, 4096), (8, 64, 4096), label="batches"),
        ),
        work=concat_work,
        backward_work=concat_work,
        depth=lambda case: 0,
        batch=lambda case: {"arrays": 0},
        sized=lambda n: concat(rows_of(n), rows_of(n), axis=1),
        peers={"torch": lambda torch, arrays, axis=0: torch.cat(arrays, axis)},
    ),
)
