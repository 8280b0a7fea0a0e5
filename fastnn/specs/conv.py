"""Specs of convolution."""

from fastnn.descriptors import conv1d_desc, conv2d_desc, conv_transpose2d_desc
from fastnn.registry import Case, OpSpec, Rounding, Work


def case(x, w, bias=True, label="", **options):
    return Case({"x": x, "w": w, "b": (w[0],) if bias else None}, options, label)


def case_transposed(x, w, bias=True, label="", groups=1, **options):
    """A transposed convolution; w is (K, C/groups, R, S)."""
    options = {**options, "groups": groups} if groups > 1 else options
    return Case({"x": x, "w": w, "b": (w[1] * groups,) if bias else None}, options, label)


def layer(n, c, size, k, kernel, stride=1, padding=0, groups=1, label=""):
    """A square convolution as networks have them."""
    return case((n, c, size, size), (k, c // groups, kernel, kernel), label=label, stride=stride, padding=padding,
                groups=groups)  # fmt: skip


def describe(case):
    options = {name: value for name, value in case.options.items() if name != "activation"}
    return conv2d_desc(case.shapes["x"], case.shapes["w"], **options)


def describe_transposed(case):
    return conv_transpose2d_desc(case.shapes["x"], case.shapes["w"], **case.options)


def describe_1d(case):
    return conv1d_desc(case.shapes["x"], case.shapes["w"], **case.options)


def work_of(describe, times):
    """Work of a convolution (times=1) or of two of its gradients (2)."""

    def work(case, itemsize):
        desc = describe(case)
        return Work(times * desc.flops, times * desc.bytes(itemsize))

    return work


def depth_of(describe):
    """Terms of the longest sum: an output's, an input gradient's, or a weight gradient's."""

    def depth(case):
        desc = describe(case)
        pixels = desc.n * max(desc.oh * desc.ow, desc.h * desc.w)
        return max(desc.depth, desc.k // desc.groups * desc.r * desc.s, pixels)

    return depth


def torch_conv2d(torch, x, w, b, stride=1, padding=0, dilation=1, groups=1, activation=None):
    if isinstance(padding, tuple | list) and len(padding) == 4:
        top, bottom, left, right = padding
        x, padding = torch.nn.functional.pad(x, (left, right, top, bottom)), 0
    y = torch.nn.functional.conv2d(x, w, b, stride, padding, dilation, groups)
    return torch.nn.functional.relu(y, inplace=True) if activation == "relu" else y


def torch_conv1d(torch, x, w, b, stride=1, padding=0, dilation=1, groups=1):
    if isinstance(padding, tuple | list):
        x, padding = torch.nn.functional.pad(x, tuple(padding)), 0
    return torch.nn.functional.conv1d(x, w, b, stride, padding, dilation, groups)


def torch_conv_transpose2d(torch, x, w, b, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return torch.nn.functional.conv_transpose2d(x, w, b, stride, padding, output_padding, groups, dilation)


ALGOS = ("depthwise", "winograd4", "winograd2", "winograd5", "implicit", "im2col")

# Rounding of Winograd's F(m x m, r x r): a result is A^T [(G g G^T) . (B^T d B)] A, so that an error in a product
# enters it multiplied by at most the largest row sum of |A^T| (|G| 1) (|B^T| 1), squared for two dimensions: 48^2 for
# F(4x4, 3x3), 8^2 for F(2x2, 3x3). Against the 9 terms of the definition that is the amplification below. For
# F(2x2, 5x5) the weights' gradient is worse, G^T [(B^T d B) . (A dy A^T)] G: (122/3)^2 against the 4 terms of a tile.
# (Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution for deep neural networks", 2020.)
ROUNDING = {
    "winograd4": Rounding(2304 / 9, False),
    "winograd2": Rounding(64 / 9, True),
    "winograd5": Rounding(1654 / 4, False),
}

VGG16_BATCH_4 = tuple(
    layer(4, c, size, k, 3, padding=1, label=f"vgg16 {c}->{k} {size}x{size}")
    for c, size, k in [
        (3, 224, 64), (64, 224, 64), (64, 112, 128), (128, 112, 128), (128, 56, 256), (256, 56, 256),
        (256, 28, 512), (512, 28, 512), (512, 14, 512),
    ]
)  # fmt: skip

SPECS = (
    OpSpec(
        name="conv2d",
        grads=("x", "w", "b"),
        cases=(
            case((1, 1, 1, 1), (1, 1, 1, 1)),
            case((2, 3, 5, 7), (4, 3, 3, 2)),
            case((2, 3, 9, 8), (5, 3, 3, 3), padding=1),
            case((1, 2, 11, 13), (3, 2, 3, 5), bias=False, stride=(2, 3), padding=(1, 2)),
            case((2, 4, 10, 9), (6, 2, 3, 3), groups=2, dilation=(2, 1), padding="same"),
            case((2, 6, 8, 7), (6, 1, 3, 3), groups=6, padding=1, stride=2),
            case((2, 3, 9, 37), (3, 1, 3, 3), groups=3, padding=1),
            case((3, 5, 12, 11), (5, 1, 4, 3), groups=5, padding=2, stride=(2, 3), dilation=(1, 2)),
            case((1, 3, 7, 6), (2, 3, 2, 4), padding=(0, 2, 3, 1), dilation=(3, 1)),
            case((3, 17, 4, 5), (15, 17, 1, 1)),
            case((2, 5, 7, 6), (3, 5, 1, 1), stride=(2, 3)),
            case((1, 2, 12, 12), (2, 2, 5, 5), stride=3, dilation=2, padding=4),
            case((2, 18, 7, 9), (17, 18, 5, 5), padding=2),
            case((2, 4, 35, 6), (6, 2, 5, 5), padding=(1, 3), groups=2),
            case((5, 2, 3, 3), (3, 2, 3, 3), padding="valid"),
            case((2, 40, 6, 6), (33, 40, 3, 3), padding=1),
            case((2, 2, 33, 41), (3, 2, 3, 3), padding=1),  # several panels of Winograd tiles
            case((1, 270, 5, 6), (2, 270, 3, 3), padding=2, bias=False),  # more channels than one block of the sum
            case((1, 2, 4, 70), (13, 2, 2, 3), padding=(0, 1)),
            case((1, 1, 3, 1100), (2, 1, 2, 3), stride=(1, 1), padding=(1, 1)),
        ),
        bench=(
            layer(1, 3, 8, 8, 3, label="tiny 1x3x8x8"),
            *VGG16_BATCH_4,
            layer(8, 3, 224, 64, 7, stride=2, padding=3, label="resnet stem 7x7/2"),
            layer(8, 64, 56, 256, 1, label="resnet 1x1"),
            layer(8, 128, 28, 128, 3, stride=2, padding=1, label="resnet 3x3/2"),
            layer(64, 1, 28, 8, 3, padding=1, label="mnist 3x3"),
            layer(100, 3, 31, 25, 3, stride=2, padding=1, label="cs231n 3x3/2"),
            layer(8, 64, 56, 64, 3, padding=1, groups=64, label="depthwise 3x3"),
        ),
        products=True,
        work=work_of(describe, 1),
        backward_work=work_of(describe, 2),
        depth=depth_of(describe),
        multilinear=True,
        algos=ALGOS,
        rounding=ROUNDING,
        peers={"torch": torch_conv2d},
        prepares="w",
    ),
    OpSpec(
        name="conv1d",
        grads=("x", "w", "b"),
        cases=(
            case((1, 1, 1), (1, 1, 1)),
            case((2, 3, 19), (4, 3, 5), padding=2),
            case((2, 4, 33), (6, 2, 3), groups=2, stride=2, dilation=3, padding=(4, 1)),
            case((3, 5, 21), (5, 1, 5), groups=5, padding="same", bias=False),
        ),
        bench=(case((8, 64, 1024), (64, 64, 3), padding=1, label="conv1d 64->64 x1024"),),
        products=True,
        work=work_of(describe_1d, 1),
        backward_work=work_of(describe_1d, 2),
        depth=depth_of(describe_1d),
        multilinear=True,
        algos=tuple(algo for algo in ALGOS if not algo.startswith("winograd")),
        peers={"torch": torch_conv1d},
    ),
    OpSpec(
        name="conv_transpose2d",
        grads=("x", "w", "b"),
        cases=(
            case_transposed((1, 1, 1, 1), (1, 1, 1, 1)),
            case_transposed((2, 3, 4, 5), (3, 4, 3, 2)),
            case_transposed((2, 4, 5, 4), (4, 3, 4, 4), stride=2, padding=1),
            case_transposed((1, 4, 4, 3), (4, 3, 3, 3), stride=(3, 2), padding=(1, 0), output_padding=(2, 1), groups=2),
            case_transposed((2, 3, 5, 6), (3, 2, 3, 3), dilation=(2, 1), padding=1, bias=False),
            case_transposed((1, 2, 3, 4), (2, 2, 1, 2), stride=(2, 3), output_padding=1),
            case_transposed((2, 5, 7, 9), (5, 1, 3, 3), groups=5, stride=2, padding=1, output_padding=1),
            case_transposed((2, 18, 9, 13), (18, 17, 3, 3), padding=1),
            case_transposed((2, 3, 6, 5), (3, 4, 5, 5), padding=(2, 1)),
        ),
        bench=(
            case_transposed((8, 64, 28, 28), (64, 32, 4, 4), stride=2, padding=1, label="up-convolution 4x4/2"),
            case_transposed((8, 128, 28, 28), (128, 64, 2, 2), stride=2, label="up-convolution 2x2/2"),
            case_transposed((8, 64, 56, 56), (64, 64, 3, 3), padding=1, label="transposed 3x3"),
        ),
        products=True,
        work=work_of(describe_transposed, 1),
        backward_work=work_of(describe_transposed, 2),
        depth=depth_of(describe_transposed),
        multilinear=True,
        algos=ALGOS,
        rounding=ROUNDING,
        peers={"torch": torch_conv_transpose2d},
    ),
)
