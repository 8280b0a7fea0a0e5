"""Specs of up-sampling."""

from math import prod

from fastnn.descriptors import upsample_desc, upsample_zeros2d_desc
from fastnn.registry import Case, OpSpec, Work, image_of


def case(*x, label="", **options):
    return Case({"x": x}, options, label)


def desc_of(name, case):
    if name == "upsample_zeros2d":
        return upsample_zeros2d_desc(case.shapes["x"], **case.options)
    return upsample_desc(name, case.shapes["x"], **case.options)


def work(name, flops, backward=False):
    """Work of either pass at `flops` operations a result."""

    def of(case, itemsize):
        desc = desc_of(name, case)
        written = prod(desc.x_shape if backward else desc.y_shape) * itemsize
        return Work(flops * prod(desc.y_shape), desc.bytes(itemsize), written)

    return of


def interpolate(mode):
    def peer(torch, x, **options):
        return torch.nn.functional.interpolate(x, mode=mode, **options)

    return peer


def torch_zeros(torch, x, stride):
    sy, sx = stride if isinstance(stride, tuple | list) else (stride, stride)
    y = x.new_zeros(*x.shape[:2], x.shape[2] * sy, x.shape[3] * sx)
    y[:, :, ::sy, ::sx] = x
    return y


def zeros_backward_work(case, itemsize):
    """The rows of dy that have pixels, and dx."""
    desc = desc_of("upsample_zeros2d", case)
    written = prod(desc.x_shape) * itemsize
    return Work(0, written * (1 + desc.ow / desc.w), written)


def taps(name, case):
    """The most results that a pixel is part of."""
    desc = desc_of(name, case)
    reach = 2 if "linear" in name else 1
    return prod(int(reach / scale) + 2 for scale in desc.scale if scale) if all(desc.scale) else desc.oh * desc.ow


def spec(name, mode, cases, bench, *, depth, exact, flops):
    """depth: of the forward pass; backward adds the results that a pixel is part of."""
    return OpSpec(
        name=name,
        grads=("x",),
        cases=cases,
        bench=bench,
        work=work(name, flops),
        backward_work=work(name, flops, backward=True),
        depth=lambda case: depth + taps(name, case),
        multilinear=True,
        exact=exact,
        sized=lambda n: case(*((1, 1, n) if name.endswith("1d") else image_of(n)), scale_factor=2),
        peers={"torch": interpolate(mode)},
    )


# Sizes and factors, whole and broken, up and down, that both kinds of interpolation can have. Steps between results are
# short binary fractions, so that positions are exact however a library computes them: a rounding of the position is
# one of the result relative to the pixels about it, and not to the result. tests/test_upsample.py has other steps.
SIGNALS = (
    case(1, 1, 1, size=5),
    case(2, 3, 7, scale_factor=2),
    case(1, 2, 70, scale_factor=2.0),
    case(2, 1, 33, scale_factor=3.2),
    case(1, 2, 35, size=28),
    case(1, 1, 9, size=9),
    case(1, 2, 500, scale_factor=0.32),
    case(1, 1, 1100, scale_factor=1.6),
)
IMAGES = (
    case(1, 1, 1, 1, size=(3, 2)),
    case(2, 3, 5, 7, scale_factor=2),
    case(1, 2, 3, 37, scale_factor=2.0),
    case(1, 2, 4, 5, scale_factor=4),
    case(2, 1, 6, 19, scale_factor=(1.6, 3.2)),
    case(1, 2, 9, 40, scale_factor=[0.5, 0.5]),
    case(1, 2, 11, 43, size=(4, 16)),
    case(1, 2, 7, 10, size=[7, 32]),
    case(1, 2, 5, 6, size=(16, 6)),
    case(3, 1, 3, 67, size=(3, 64)),
    case(1, 1, 2, 600, scale_factor=(1.0, 2.0)),
)
ALIGNED = (
    case(1, 1, 1, 1, size=(2, 3), align_corners=True),
    case(2, 2, 5, 7, size=(9, 13), align_corners=True),
    case(1, 2, 4, 37, size=(9, 97), align_corners=True),
    case(1, 1, 13, 41, size=(5, 17), align_corners=True),
    case(1, 1, 6, 5, size=(1, 5), align_corners=True),
)
# Decoders of segmentation and generator networks, a feature pyramid; a call that is all overhead.
BENCH = (
    case(1, 1, 4, 4, scale_factor=2, label="tiny 4x4 x2"),
    case(8, 64, 56, 56, scale_factor=2, label="56x56 x2"),
    case(16, 512, 7, 7, scale_factor=2, label="7x7 x2"),
    case(1, 64, 256, 256, scale_factor=2, label="256x256 x2"),
    case(16, 64, 128, 128, scale_factor=2, label="128x128 x2"),
    case(4, 64, 32, 32, scale_factor=4, label="32x32 x4"),
    case(8, 64, 112, 112, scale_factor=0.5, label="112x112 /2"),
    case(2, 3, 480, 640, size=(224, 224), label="480x640 to 224x224"),
)
BENCH_SIGNALS = (
    case(8, 64, 4096, scale_factor=2, label="4096 x2"),
    case(1, 1, 16, scale_factor=2, label="tiny 16 x2"),
)

# Interpolation rounds two weights and adds two products, down and across.
SPECS = (
    OpSpec(
        name="upsample_zeros2d",
        grads=("x",),
        cases=(
            case(1, 1, 1, 1, stride=1),
            case(2, 3, 5, 7, stride=2),
            case(1, 2, 4, 70, stride=(3, 2)),
            case(1, 2, 3, 37, stride=[2, 1]),
            case(2, 1, 3, 6, stride=(1, 5)),
            case(1, 1, 2, 150, stride=(2, 7)),
        ),
        bench=(
            case(1, 1, 4, 4, stride=2, label="tiny 4x4 x2"),
            case(8, 64, 56, 56, stride=2, label="56x56 x2"),
            case(16, 64, 128, 128, stride=2, label="128x128 x2"),
            case(4, 64, 32, 32, stride=4, label="32x32 x4"),
        ),
        work=work("upsample_zeros2d", 0),
        backward_work=zeros_backward_work,
        depth=lambda case: 0,
        multilinear=True,
        sized=lambda n: case(*image_of(n), stride=2),
        peers={"torch": torch_zeros},
    ),
    spec("upsample_nearest1d", "nearest", SIGNALS, BENCH_SIGNALS, depth=0, exact=True, flops=1),
    spec("upsample_nearest2d", "nearest", IMAGES, BENCH, depth=0, exact=True, flops=1),
    spec(
        "upsample_linear1d",
        "linear",
        (
            *SIGNALS,
            case(1, 2, 7, size=13, align_corners=True),
            case(1, 2, 41, size=17, align_corners=True),
            case(1, 2, 7, size=1, align_corners=True),
        ),
        BENCH_SIGNALS,
        depth=3,
        exact=False,
        flops=3,
    ),
    spec(
        "upsample_bilinear2d",
        "bilinear",
        (*IMAGES, *ALIGNED),
        (*BENCH, case(8, 64, 56, 56, scale_factor=2, align_corners=True, label="56x56 x2 aligned")),
        depth=6,
        exact=False,
        flops=6,
    ),
)
