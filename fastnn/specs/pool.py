"""Specs of pooling and sub-sampling."""

import numpy as np

from fastnn.descriptors import (
    adaptive_pool1d_desc,
    adaptive_pool2d_desc,
    max_unpool1d_desc,
    max_unpool2d_desc,
    pool1d_desc,
    pool2d_desc,
    subsample2d_desc,
)
from fastnn.registry import Case, OpSpec, Work, draw, image_of


def case(*x, label="", **options):
    return Case({"x": x}, options, label)


def describe(name):
    """case -> descriptor of the pooling operator `name`."""

    def desc(case):
        x, options = case.shapes["x"], case.options
        if name.startswith("adaptive"):
            return (adaptive_pool1d_desc if len(x) == 3 else adaptive_pool2d_desc)(name, x, options["output_size"])
        geometry = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        options = {k: v for k, v in options.items() if k in geometry}
        return (pool1d_desc if len(x) == 3 else pool2d_desc)(name, x, **options)

    return desc


def pool_work(name, index_bytes=0):
    """Work of either pass; index_bytes of an output's index are written or read."""

    def work(case, itemsize):
        desc = describe(name)(case)
        return Work(desc.flops, desc.bytes(itemsize) + desc.n * desc.c * desc.oh * desc.ow * index_bytes)

    return work


def overlap(desc):
    """The most windows that a pixel can be in."""
    (kh, kw), (sh, sw) = desc.kernel, desc.stride
    if desc.dilation == (1, 1):
        kh, kw = -(-kh // sh), -(-kw // sw)
    # Adaptive windows overlap by one pixel at most; each pixel is in OH / H of them at least.
    kh, kw = kh or 2 + desc.oh // desc.h, kw or 2 + desc.ow // desc.w
    return min(kh, desc.oh) * min(kw, desc.ow)


def terms(desc):
    """The most pixels in a window."""
    kh, kw = (
        k or 2 + size // outputs
        for k, size, outputs in zip(desc.kernel, (desc.h, desc.w), (desc.oh, desc.ow), strict=True)
    )
    return kh * kw


def select_depth(name):
    """Forward does not round. Backward adds dy at a pixel m times at most: m - 1 roundings of sums up to m * max|dy|,
    and the largest |dx|, which the bound is relative to, may be of one dy only."""

    def depth(case):
        m = overlap(describe(name)(case))
        return m * m

    return depth


def avg_depth(name):
    """The terms of an output or of a gradient, and a division."""

    def depth(case):
        desc = describe(name)(case)
        return max(terms(desc), overlap(desc)) + 1

    return depth


# Windows that both kinds of pooling can have.
WINDOWS = (
    case(1, 1, 1, 1, kernel_size=1),
    case(2, 3, 5, 7, kernel_size=2),
    case(2, 3, 8, 11, kernel_size=3, stride=2, padding=1),
    case(1, 2, 7, 6, kernel_size=3, stride=1, padding=1),
    case(2, 1, 9, 10, kernel_size=(3, 2), stride=(1, 3), padding=(1, 0)),
    case(1, 3, 10, 9, kernel_size=[4, 5], stride=[3, 2], padding=[2, 1], ceil_mode=True),
    case(1, 2, 5, 5, kernel_size=2, stride=2, padding=1, ceil_mode=True),
    case(1, 2, 4, 5, kernel_size=3, stride=4, ceil_mode=True),
    case(3, 5, 7, 7, kernel_size=7),
    case(1, 2, 3, 75, kernel_size=2),
    case(1, 2, 4, 70, kernel_size=3, stride=2, padding=1),
    case(2, 1, 6, 37, kernel_size=(2, 3), stride=1, padding=(0, 1)),
    case(1, 1, 5, 64, kernel_size=(1, 5), stride=(1, 4), padding=(0, 2)),
    case(1, 2, 6, 9, kernel_size=(2, 1), stride=3),
)

# Pooling of AlexNet, VGG-16, ResNet and GoogLeNet; a global average; a call that is all overhead.
BENCH = (
    case(1, 1, 4, 4, kernel_size=2, label="tiny 2x2/2"),
    case(32, 64, 56, 56, kernel_size=2, label="2x2/2 56x56"),
    case(32, 64, 56, 56, kernel_size=3, stride=2, padding=1, label="3x3/2 56x56"),
    case(32, 64, 55, 55, kernel_size=3, stride=2, label="alexnet 3x3/2 55x55"),
    case(4, 64, 224, 224, kernel_size=2, label="vgg16 2x2/2 224x224"),
    case(8, 64, 112, 112, kernel_size=3, stride=2, padding=1, label="resnet stem 3x3/2 112x112"),
    case(8, 480, 14, 14, kernel_size=3, stride=1, padding=1, label="googlenet 3x3/1 14x14"),
    case(8, 64, 32, 32, kernel_size=5, stride=1, padding=2, label="5x5/1 32x32"),
    case(32, 512, 7, 7, kernel_size=7, label="global 7x7"),
)


# The same of rows.
ROW_WINDOWS = (
    case(1, 1, 1, kernel_size=1),
    case(2, 3, 7, kernel_size=2),
    case(2, 3, 75, kernel_size=3, stride=2, padding=1),
    case(1, 2, 40, kernel_size=3, stride=1, padding=1),
    case(1, 2, 33, kernel_size=(5,), stride=[4], padding=2, ceil_mode=True),
    case(2, 2, 18, kernel_size=18),
)
ROW_BENCH = (
    case(1, 1, 16, kernel_size=2, label="tiny 2/2"),
    case(32, 256, 1000, kernel_size=2, label="2/2 1000"),
    case(32, 256, 1000, kernel_size=3, stride=2, padding=1, label="3/2 1000"),
)

# Windows that share out the image: even, uneven, more than there are pixels; along an axis or both; all of it.
SHARED = (
    case(1, 1, 1, 1, output_size=1),
    case(2, 3, 6, 9, output_size=3),
    case(2, 3, 7, 10, output_size=3),
    case(1, 2, 5, 37, output_size=(5, 9)),
    case(1, 2, 9, 4, output_size=[4, None]),
    case(1, 2, 3, 5, output_size=(7, 12)),
    case(2, 1, 13, 6, output_size=(1, 4)),
    case(1, 2, 8, 1, output_size=(3, 1)),
    case(3, 5, 7, 7, output_size=1),
    case(1, 3, 11, 17, output_size=1),
)
SHARED_BENCH = (
    case(1, 1, 4, 4, output_size=2, label="tiny 4x4 to 2x2"),
    case(32, 512, 7, 7, output_size=1, label="global 7x7"),
    case(32, 64, 112, 112, output_size=1, label="global 112x112"),
    case(32, 256, 13, 13, output_size=6, label="alexnet 13x13 to 6x6"),
    case(32, 64, 56, 56, output_size=7, label="56x56 to 7x7"),
    case(8, 64, 100, 100, output_size=32, label="100x100 to 32x32"),
)
ROW_SHARED = (
    case(1, 1, 1, output_size=1),
    case(2, 3, 12, output_size=4),
    case(2, 3, 37, output_size=[10]),
    case(1, 2, 5, output_size=(8,)),
    case(3, 2, 50, output_size=1),
)
ROW_SHARED_BENCH = (
    case(1, 1, 16, output_size=4, label="tiny 16 to 4"),
    case(32, 256, 1000, output_size=1, label="global 1000"),
    case(32, 256, 1000, output_size=64, label="1000 to 64"),
)


def sized(name, **options):
    """Problems of given sizes of the operator `name`: images, or planes as rows."""

    def problem(n):
        *outer, h, w = image_of(n)
        return case(*outer, h * w, **options) if name.endswith("1d") else case(*outer, h, w, **options)

    return problem


def windows(name):
    """The options of such a problem: windows of two pixels a side, or all of the image."""
    return {"output_size": 1} if name.startswith("adaptive") else {"kernel_size": 2}


def torch_peer(name):
    """torch's function of that name."""
    return lambda torch, x, **options: getattr(torch.nn.functional, name)(x, **options)


def select_spec(name, torch_peer, cases, bench):
    return OpSpec(
        name=name,
        grads=("x",),
        cases=cases,
        bench=bench,
        work=pool_work(name),
        backward_work=pool_work(name, index_bytes=4),
        depth=select_depth(name),
        distinct=True,
        sized=sized(name, **windows(name)),
        peers={"torch": torch_peer},
    )


def average_spec(name, cases, bench):
    return OpSpec(
        name=name,
        grads=("x",),
        cases=cases,
        bench=bench,
        work=pool_work(name),
        backward_work=pool_work(name),
        depth=avg_depth(name),
        multilinear=True,
        exact=False,  # the division rounds
        sized=sized(name, **windows(name)),
        peers={"torch": torch_peer(name)},
    )


def norm_depth(name):
    """The sum of powers, each within 4 roundings, has a relative error of so many eps; its root 1/p of that, and 4
    more; y^(1-p) |1-p| times that. A gradient is a sum of m such terms, of which one may be the largest result."""

    def depth(case):
        desc, p = describe(name)(case), case.options["norm_type"]
        if np.isinf(p):
            return select_depth(name)(case)
        m = overlap(desc)
        root = (terms(desc) + 4) * max(1, 1 / abs(p)) + 4
        return (root * (1 + abs(1 - p)) + 8 + m) * m

    return depth


def norm_arrays(case, dtype, rng, kind):
    """Of odd and fractional norms, whose sums could cancel, positive numbers."""
    x = draw(case.shapes["x"], dtype, rng, kind)
    return {"x": x if case.options["norm_type"] in (2, 4, np.inf, -np.inf) else np.abs(x)}


def norm_spec(name, cases, bench):
    return OpSpec(
        name=name,
        grads=("x",),
        cases=cases,
        bench=bench,
        work=pool_work(name),
        backward_work=lambda case, itemsize: norm_backward_work(name, case, itemsize),
        depth=norm_depth(name),
        make=norm_arrays,
        exact=False,
        distinct=True,
        sized=sized(name, norm_type=2, kernel_size=2),
        peers={"torch": torch_peer(name)},
    )


def norm_backward_work(name, case, itemsize):
    """x and y are read too."""
    desc = describe(name)(case)
    written = desc.n * desc.c * desc.h * desc.w * itemsize
    return Work(2 * desc.flops, 2 * desc.bytes(itemsize), written)


def describe_unpool(case):
    x = case.shapes["x"]
    name = f"max_unpool{len(x) - 2}d"
    return (max_unpool1d_desc if len(x) == 3 else max_unpool2d_desc)(name, x, **case.options)


def unpool_case(*x, label="", **options):
    return Case({"x": x, "indices": x}, options, label)


def unpool_arrays(case, dtype, rng, kind):
    """Indices that are different in each plane."""
    desc, x = describe_unpool(case), case.shapes["x"]
    pixels = np.broadcast_to(np.arange(desc.oh * desc.ow), (desc.n * desc.c, desc.oh * desc.ow))
    indices = rng.permuted(pixels, axis=1)[:, : desc.h * desc.w]
    return {"x": draw(x, dtype, rng, kind), "indices": np.ascontiguousarray(indices).reshape(x)}


def unpool_spec(name, cases, bench):
    def work(case, itemsize):
        desc = describe_unpool(case)
        return Work(0, desc.bytes(itemsize), desc.n * desc.c * desc.oh * desc.ow * itemsize)

    def backward_work(case, itemsize):
        """dy, of which at least the lines with a wanted element are read, indices, dx."""
        desc = describe_unpool(case)
        size = desc.n * desc.c * desc.h * desc.w
        return Work(0, size * (2 * itemsize + 8), size * itemsize)

    return OpSpec(
        name=name,
        grads=("x",),
        cases=cases,
        bench=bench,
        work=work,
        backward_work=backward_work,
        depth=lambda case: 0,
        multilinear=True,
        batch=lambda case: {"x": 0, "indices": 0},
        make=unpool_arrays,
        sized=lambda n: unpool_case(*sized(name)(n).shapes["x"], kernel_size=2),
        peers={"torch": lambda torch, x, indices, **o: getattr(torch.nn.functional, name)(x, indices, **o)},
    )


def torch_min_pool(name):
    def f(torch, x, **options):
        y = getattr(torch.nn.functional, name.replace("min", "max"))(-x, **options)
        return (-y[0], y[1]) if options.get("return_indices") else -y

    return f


def torch_subsample2d(torch, x, block, position="upper_left"):
    desc = subsample2d_desc(tuple(x.shape), block, position)
    kept = x[:, :, desc.top :: desc.block[0], desc.left :: desc.block[1]]
    return kept[:, :, : desc.oh, : desc.ow].clone(memory_format=torch.contiguous_format)


def subsample_work(case, itemsize):
    desc = subsample2d_desc(case.shapes["x"], **case.options)
    return Work(0, desc.bytes(itemsize))


def subsample_backward_work(case, itemsize):
    desc = subsample2d_desc(case.shapes["x"], **case.options)
    return Work(0, itemsize * desc.n * desc.c * (desc.h * desc.w + desc.oh * desc.ow))


SELECTED = (
    *WINDOWS,
    case(2, 2, 9, 8, kernel_size=3, stride=2, padding=1, dilation=2),
    case(1, 2, 11, 40, kernel_size=(2, 3), stride=(2, 1), padding=1, dilation=(3, 2), ceil_mode=True),
    case(1, 2, 9, 41, kernel_size=2, stride=3, dilation=(1, 5)),
    case(2, 3, 7, 9, kernel_size=3, stride=1, padding=1, return_indices=True),
)
ROW_SELECTED = (
    *ROW_WINDOWS,
    case(1, 2, 41, kernel_size=3, stride=2, padding=1, dilation=2),
    case(2, 3, 20, kernel_size=3, stride=1, padding=1, return_indices=True),
)

SPECS = (
    select_spec("max_pool2d", torch_peer("max_pool2d"), SELECTED, BENCH),
    select_spec("min_pool2d", torch_min_pool("min_pool2d"), SELECTED, BENCH),
    average_spec(
        "avg_pool2d",
        (
            *WINDOWS,
            case(2, 3, 8, 11, kernel_size=3, stride=2, padding=1, count_include_pad=False),
            case(1, 2, 5, 38, kernel_size=(4, 3), stride=(3, 2), padding=(2, 1), ceil_mode=True,
                 count_include_pad=False),
            case(2, 2, 6, 7, kernel_size=2, stride=1, padding=1, divisor_override=3),
        ),
        (
            *BENCH,
            case(32, 64, 56, 14, kernel_size=1, label="1x1/1 56x14"),
        ),
    ),
    select_spec("max_pool1d", torch_peer("max_pool1d"), ROW_SELECTED, ROW_BENCH),
    select_spec("min_pool1d", torch_min_pool("min_pool1d"), ROW_SELECTED, ROW_BENCH),
    average_spec(
        "avg_pool1d",
        (
            *ROW_WINDOWS,
            case(2, 3, 21, kernel_size=3, stride=2, padding=1, count_include_pad=False),
        ),
        ROW_BENCH,
    ),
    select_spec("adaptive_max_pool2d", torch_peer("adaptive_max_pool2d"), (
        *SHARED,
        case(2, 2, 7, 11, output_size=(3, 4), return_indices=True),
        case(2, 2, 6, 10, output_size=2, return_indices=True),
    ), SHARED_BENCH),
    average_spec("adaptive_avg_pool2d", SHARED, SHARED_BENCH),
    select_spec("adaptive_max_pool1d", torch_peer("adaptive_max_pool1d"), (
        *ROW_SHARED,
        case(2, 2, 11, output_size=4, return_indices=True),
    ), ROW_SHARED_BENCH),
    average_spec("adaptive_avg_pool1d", ROW_SHARED, ROW_SHARED_BENCH),
    norm_spec(
        "lp_pool2d",
        (
            case(1, 1, 1, 2, norm_type=2, kernel_size=(1, 2)),
            case(2, 3, 5, 7, norm_type=2, kernel_size=2),
            case(2, 3, 8, 11, norm_type=1, kernel_size=3, stride=2),
            case(1, 2, 7, 40, norm_type=3, kernel_size=3, stride=1),
            case(2, 2, 6, 7, norm_type=2.5, kernel_size=2, stride=(1, 2)),
            case(1, 2, 5, 37, norm_type=2, kernel_size=(2, 3), stride=2, ceil_mode=True),
            case(1, 2, 5, 6, norm_type=0.5, kernel_size=2, ceil_mode=True),
            case(1, 2, 6, 5, norm_type=-1, kernel_size=2, stride=1),
            case(1, 2, 6, 9, norm_type=4, kernel_size=3),
            case(2, 2, 5, 6, norm_type=2, kernel_size=(5, 6)),
            case(2, 2, 5, 5, norm_type=3, kernel_size=5),
            case(1, 2, 6, 18, norm_type=float("inf"), kernel_size=3, stride=2),
            case(1, 2, 6, 8, norm_type=float("-inf"), kernel_size=2),
        ),
        (
            case(1, 1, 4, 4, norm_type=2, kernel_size=2, label="tiny 2x2/2"),
            case(32, 64, 56, 56, norm_type=2, kernel_size=2, label="2x2/2 56x56, p = 2"),
            case(32, 64, 56, 56, norm_type=1, kernel_size=3, stride=2, label="3x3/2 56x56, p = 1"),
            case(8, 64, 56, 56, norm_type=3, kernel_size=2, label="2x2/2 56x56, p = 3"),
            case(32, 512, 7, 7, norm_type=2, kernel_size=7, label="global 7x7, p = 2"),
            case(32, 64, 56, 56, norm_type=float("inf"), kernel_size=2, label="2x2/2 56x56, p = inf"),
        ),
    ),
    norm_spec(
        "lp_pool1d",
        (
            case(1, 1, 2, norm_type=2, kernel_size=2),
            case(2, 3, 37, norm_type=2, kernel_size=3, stride=2),
            case(2, 3, 20, norm_type=1, kernel_size=2),
            case(1, 2, 21, norm_type=3, kernel_size=4, stride=[3], ceil_mode=True),
            case(1, 2, 9, norm_type=float("inf"), kernel_size=2),
        ),
        (
            case(1, 1, 16, norm_type=2, kernel_size=2, label="tiny 2/2"),
            case(32, 256, 1000, norm_type=2, kernel_size=2, label="2/2 1000, p = 2"),
        ),
    ),
    unpool_spec(
        "max_unpool2d",
        (
            unpool_case(1, 1, 1, 1, kernel_size=1),
            unpool_case(2, 3, 3, 4, kernel_size=2),
            unpool_case(1, 2, 4, 5, kernel_size=3, stride=2, padding=1),
            unpool_case(1, 2, 3, 9, kernel_size=(2, 3), output_size=[7, 28]),
            unpool_case(2, 2, 2, 3, kernel_size=2, stride=(2, 3), output_size=(2, 2, 5, 8)),
        ),
        (
            unpool_case(1, 1, 2, 2, kernel_size=2, label="tiny 2x2/2"),
            unpool_case(32, 64, 28, 28, kernel_size=2, label="2x2/2 56x56"),
        ),
    ),
    unpool_spec(
        "max_unpool1d",
        (
            unpool_case(1, 1, 1, kernel_size=1),
            unpool_case(2, 3, 9, kernel_size=2),
            unpool_case(1, 2, 10, kernel_size=[3], stride=2, padding=1, output_size=(20,)),
        ),
        (
            unpool_case(1, 1, 8, kernel_size=2, label="tiny 2/2"),
            unpool_case(32, 256, 500, kernel_size=2, label="2/2 1000"),
        ),
    ),
    OpSpec(
        name="subsample2d",
        grads=("x",),
        cases=(
            case(1, 1, 1, 1, block=1),
            case(2, 3, 5, 7, block=2),
            case(2, 3, 4, 6, block=2, position="middle"),
            case(1, 2, 9, 71, block=(3, 2), position="middle"),
            case(1, 2, 9, 71, block=[2, 1]),
            case(3, 2, 6, 8, block=(3, 4), position="middle"),
            case(2, 3, 7, 7, block=7, position="middle"),
            case(1, 3, 6, 130, block=(1, 2)),
        ),
        bench=(
            case(1, 1, 4, 4, block=2, label="tiny 2x2"),
            case(32, 64, 56, 56, block=2, label="2x2 56x56"),
            case(32, 64, 56, 56, block=3, position="middle", label="3x3 56x56 middle"),
            case(64, 512, 7, 7, block=7, position="middle", label="7x7 middle"),
        ),
        work=subsample_work,
        backward_work=subsample_backward_work,
        depth=lambda case: 0,
        multilinear=True,
        sized=sized("subsample2d", block=2),
        peers={"torch": torch_subsample2d},
    ),
)  # fmt: skip
