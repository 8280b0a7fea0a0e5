"""Specs of pooling and sub-sampling."""

from fastnn.descriptors import pool2d_desc, subsample2d_desc
from fastnn.registry import Case, OpSpec, Work, image_of


def case(*x, label="", **options):
    return Case({"x": x}, options, label)


def describe(name):
    """case -> descriptor of the pooling operator `name`."""

    def desc(case):
        geometry = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return pool2d_desc(name, case.shapes["x"], **{k: v for k, v in case.options.items() if k in geometry})

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
    return min(kh, desc.oh) * min(kw, desc.ow)


def select_depth(name):
    """Forward does not round. Backward adds dy at a pixel m times at most: m - 1 roundings of sums up to m * max|dy|,
    and the largest |dx|, which the bound is relative to, may be of one dy only."""

    def depth(case):
        m = overlap(describe(name)(case))
        return m * m

    return depth


def avg_depth(case):
    """The terms of an output or of a gradient, and a division."""
    desc = describe("avg_pool2d")(case)
    return max(desc.kernel[0] * desc.kernel[1], overlap(desc)) + 1


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


def sized(n):
    return case(*image_of(n), kernel_size=2)


def select_spec(name, torch_peer):
    return OpSpec(
        name=name,
        grads=("x",),
        cases=(
            *WINDOWS,
            case(2, 2, 9, 8, kernel_size=3, stride=2, padding=1, dilation=2),
            case(1, 2, 11, 40, kernel_size=(2, 3), stride=(2, 1), padding=1, dilation=(3, 2), ceil_mode=True),
            case(1, 2, 9, 41, kernel_size=2, stride=3, dilation=(1, 5)),
            case(2, 3, 7, 9, kernel_size=3, stride=1, padding=1, return_indices=True),
        ),
        bench=BENCH,
        work=pool_work(name),
        backward_work=pool_work(name, index_bytes=4),
        depth=select_depth(name),
        distinct=True,
        sized=sized,
        peers={"torch": torch_peer},
    )


def torch_min_pool2d(torch, x, **options):
    y = torch.nn.functional.max_pool2d(-x, **options)
    return (-y[0], y[1]) if options.get("return_indices") else -y


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


SPECS = (
    select_spec("max_pool2d", lambda torch, x, **options: torch.nn.functional.max_pool2d(x, **options)),
    select_spec("min_pool2d", torch_min_pool2d),
    OpSpec(
        name="avg_pool2d",
        grads=("x",),
        cases=(
            *WINDOWS,
            case(2, 3, 8, 11, kernel_size=3, stride=2, padding=1, count_include_pad=False),
            case(1, 2, 5, 38, kernel_size=(4, 3), stride=(3, 2), padding=(2, 1), ceil_mode=True,
                 count_include_pad=False),
            case(2, 2, 6, 7, kernel_size=2, stride=1, padding=1, divisor_override=3),
        ),
        bench=BENCH,
        work=pool_work("avg_pool2d"),
        backward_work=pool_work("avg_pool2d"),
        depth=avg_depth,
        multilinear=True,
        exact=False,  # the division rounds
        sized=sized,
        peers={"torch": lambda torch, x, **options: torch.nn.functional.avg_pool2d(x, **options)},
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
        sized=lambda n: case(*image_of(n), block=2),
        peers={"torch": torch_subsample2d},
    ),
)  # fmt: skip
