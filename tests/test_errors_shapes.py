"""Shapes and options that do not fit each other: TypeError or ValueError that says what came and what was expected."""

import numpy as np
import pytest

from fastnn import ops
from fastnn.registry import specs

# Options that are integers, and tuples of which a cached descriptor must not be found.
INTEGER_PAIRS = [
    ("conv2d", {"x": (1, 2, 5, 5), "w": (3, 2, 3, 3)}, {"stride": 1, "padding": 1, "dilation": 1}),
    ("conv_transpose2d", {"x": (1, 2, 5, 5), "w": (2, 3, 3, 3)}, {"stride": 1, "padding": 1, "dilation": 1}),
    ("max_pool2d", {"x": (1, 2, 5, 5)}, {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 1}),
    ("avg_pool2d", {"x": (1, 2, 5, 5)}, {"kernel_size": 2, "stride": 1, "padding": 1}),
    ("subsample2d", {"x": (1, 2, 5, 5)}, {"block": 2}),
    ("upsample_zeros2d", {"x": (1, 2, 5, 5)}, {"stride": 2}),
    ("conv1d", {"x": (1, 2, 5), "w": (3, 2, 3)}, {"padding": 1}),
]


@pytest.mark.parametrize(("op", "shapes", "options"), [pytest.param(*row, id=row[0]) for row in INTEGER_PAIRS])
def test_a_pair_of_floats_is_wrong_though_it_equals_one_of_integers(op, shapes, options):
    """Whether a descriptor for the integers is in the cache already or not; and a pair of NumPy's integers is right."""
    forward = getattr(ops, f"{op}_forward")
    arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}

    def calls(change):
        """One option after the other changed."""
        return [(name, {**options, name: change(value)}) for name, value in options.items()]

    want = forward(**arrays, **options)[0]
    for _ in range(2):
        for _, changed in calls(lambda value: (value, value)):
            np.testing.assert_array_equal(forward(**arrays, **changed)[0], want)
        for _, changed in calls(lambda value: [np.int64(value), np.int32(value)]):
            np.testing.assert_array_equal(forward(**arrays, **changed)[0], want)
        for number in (float, complex, lambda value: True if value == 1 else np.float64(value)):
            for name, changed in calls(lambda value, number=number: (value, number(value))):
                with pytest.raises(TypeError, match=rf"^{op}: {name} must be"):
                    forward(**arrays, **changed)


# Operator, shapes of its arguments, options, error, what the message says.
ROWS = [
    ("matmul", {"a": (3, 4), "b": (5, 2)}, {}, ValueError, r"b has 5 rows, expected 4"),
    ("linear", {"x": (2, 7), "w": (3, 5)}, {}, ValueError, r"w has 5 columns, expected 7"),
    ("linear", {"x": (2, 7), "w": (3, 7), "b": (4,)}, {}, ValueError, r"b has shape \(4,\), expected \(3,\)"),
    ("linear", {"x": (2, 0), "w": (3, 0)}, {}, ValueError, r"w has shape \(3, 0\)"),
    ("linear", {"x": (2, 4), "w": (0, 4)}, {}, ValueError, r"w has shape \(0, 4\)"),
    *(
        ("conv2d", {"x": x, "w": w}, options, error, said)
        for x, w, options, error, said in [
            ((1, 4, 5, 5), (8, 3, 3, 3), {}, ValueError, r"w has 3 input channels per group, x has 4 .*\(8, 4, 3, 3\)"),
            ((1, 4, 5, 5), (6, 2, 3, 3), {"groups": 3}, ValueError, r"groups=3 does not divide 4"),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"groups": 0}, ValueError, r"groups must be at least 1, got 0"),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"groups": 1.0}, TypeError, r"groups must be an integer, got 1\.0"),
            ((1, 4, 2, 9), (6, 4, 3, 3), {}, ValueError, r"3 x 3 .*larger than the padded image, 2 x 9"),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"dilation": 3}, ValueError, r"7 x 7 .*larger than the padded image"),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"stride": 0}, ValueError, r"stride must be at least 1, got 0"),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"stride": 1.5}, TypeError, r"stride must be .*got 1\.5"),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"stride": (1, 1, 1)}, TypeError, r"stride must be .*\(1, 1, 1\)"),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"dilation": -1}, ValueError, r"dilation must be at least 1, got -1"),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"padding": -1}, ValueError, r"padding must not be negative, got -1"),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"padding": "full"}, TypeError, r"padding must be .*'full'"),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"padding": (1, 2, 3)}, TypeError, r"padding must be .*\(1, 2, 3\)"),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"padding": "same", "stride": 2}, ValueError, r"'same' needs stride 1"),
            ((1, 0, 5, 5), (6, 0, 3, 3), {}, ValueError, r"x has no channels"),
            ((1, 4, 5, 5), (0, 4, 3, 3), {}, ValueError, r"w is empty"),
            ((1, 4, 5, 5), (6, 4, 0, 3), {}, ValueError, r"w is empty"),
            (
                (1, 4, 5, 5),
                (6, 4, 3, 3),
                {"stride": np.array([1, 1])},
                TypeError,
                r"stride must be .*array\(\[1, 1\]\)",
            ),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"padding": np.array([1, 1])}, TypeError, r"padding must be .*array"),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"padding": 2**62}, ValueError, r"the padded input would have shape"),
            ((1, 4, 5, 5), (6, 4, 3, 3), {"padding": 2**62, "stride": 2**62}, ValueError, r"the padded input would"),
        ]
    ),
    (
        "conv2d",
        {"x": (1, 4, 5, 5), "w": (6, 4, 3, 3), "b": (5,)},
        {},
        ValueError,
        r"b has shape \(5,\), expected \(6,\)",
    ),
    ("conv1d", {"x": (1, 4, 9), "w": (6, 4, 3)}, {"padding": ()}, TypeError, r"padding must be .*got \(\)"),
    (
        "conv_transpose2d",
        {"x": (1, 4, 5, 5), "w": (4, 2, 3, 3)},
        {"stride": 2**62},
        ValueError,
        "the result with padding would have shape",
    ),
    ("avg_pool2d", {"x": (1, 4, 5, 5)}, {"kernel_size": np.array(2)}, TypeError, r"kernel_size must be .*array\(2\)"),
    (
        "subsample2d",
        {"x": (1, 4, 5, 5)},
        {"block": 2, "position": {}},
        ValueError,
        r"position is \{\}, expected 'upper_left' or 'middle'",
    ),
    ("softmax", {"x": (3, 4)}, {"axis": 1.0}, TypeError, r"axis must be an integer, got 1\.0"),
    ("log_softmax", {"x": (3, 4)}, {"axis": True}, TypeError, "axis must be an integer, got True"),
    ("softmax", {"x": (3, 4)}, {"axis": 2**64}, ValueError, r"axis 18446744073709551616 is out of range"),
    ("argmax", {"x": (3, 4)}, {"axis": 2}, ValueError, "axis 2 is out of range"),
    ("hardmax", {"x": (3, 0)}, {}, ValueError, "expected at least one element along axis 1"),
    ("leaky_relu", {"x": (3,)}, {"negative_slope": "0"}, TypeError, "negative_slope must be a number, got '0'"),
    ("elu", {"x": (3,)}, {"alpha": None}, TypeError, "alpha must be a number, got None"),
    (
        "gelu",
        {"x": (3,)},
        {"approximate": "sigmoid"},
        ValueError,
        "approximate is 'sigmoid', expected 'none' or 'tanh'",
    ),
    ("softplus", {"x": (3,)}, {"beta": "1"}, TypeError, "beta must be a number, got '1'"),
    (
        "hardtanh",
        {"x": (3,)},
        {"min_val": 2.0},
        ValueError,
        "min_val is 2.0 and max_val 1.0, expected min_val <= max_val",
    ),
    ("l1_loss", {"x": (3,), "target": (3,)}, {"reduction": "max"}, ValueError, "reduction is 'max', expected 'mean'"),
    ("smooth_l1_loss", {"x": (3,), "target": (3,)}, {"beta": -1}, ValueError, "beta is -1.0, expected at least 0"),
    ("huber_loss", {"x": (3,), "target": (3,)}, {"delta": 0}, ValueError, "delta is 0.0, expected a positive number"),
    (
        "binary_cross_entropy_with_logits",
        {"x": (3, 4), "target": (3, 4), "pos_weight": (3,)},
        {},
        ValueError,
        r"pos_weight has shape \(3,\), expected one that broadcasts to \(3, 4\)",
    ),
    (
        "binary_cross_entropy",
        {"x": (3, 4), "target": (3, 4), "weight": (3,)},
        {},
        ValueError,
        r"weight has shape \(3,\), expected one that broadcasts to \(3, 4\)",
    ),
    ("kl_div", {"x": (3,), "target": (4,)}, {}, ValueError, r"target has shape \(4,\), expected \(3,\)"),
    ("js_divergence", {"p": (3,), "q": (3,)}, {"axis": 1}, ValueError, "axis 1 is out of range for p of shape"),
    (
        "cross_entropy",
        {"x": (3, 4), "target": (3, 4), "weight": (3,)},
        {},
        ValueError,
        r"weight has shape \(3,\), expected \(4,\)",
    ),
    ("batch_norm", {"x": (3, 4)}, {"eps": "small"}, TypeError, "eps must be a number, got 'small'"),
    ("batch_norm", {"x": (3, 4)}, {"eps": -1e-5}, ValueError, "eps must not be negative or NaN, got -1e-05"),
    ("batch_norm", {"x": (3, 4)}, {"eps": float("nan")}, ValueError, "eps must not be negative or NaN, got nan"),
    ("batch_norm", {"x": (3, 4)}, {"momentum": "0.1"}, TypeError, "momentum must be a number, got '0.1'"),
    ("layer_norm", {"x": (3, 4)}, {"normalized_shape": 3}, ValueError, r"x has shape \(3, 4\), expected .*\(3,\)"),
    ("layer_norm", {"x": (4,)}, {"normalized_shape": (3, 4)}, ValueError, r"x has shape \(4,\)"),
    ("layer_norm", {"x": (3, 4)}, {"normalized_shape": (4.0,)}, TypeError, r"normalized_shape must be .*\(4\.0,\)"),
    ("layer_norm", {"x": (3, 4)}, {"normalized_shape": ()}, TypeError, r"normalized_shape must be .*\(\)"),
    ("layer_norm", {"x": (3, 4)}, {"normalized_shape": 4, "eps": -1.0}, ValueError, "eps must not be negative"),
    ("rms_norm", {"x": (3, 4), "weight": (3,)}, {"normalized_shape": [4]}, ValueError, r"weight has shape \(3,\)"),
    ("group_norm", {"x": (4,)}, {"num_groups": 2}, ValueError, r"x has shape \(4,\), expected \(N, C\)"),
    ("group_norm", {"x": (3, 4)}, {"num_groups": 3}, ValueError, "x has 4 channels, expected .*num_groups=3"),
    ("group_norm", {"x": (3, 4)}, {"num_groups": 0}, ValueError, "expected a positive multiple of num_groups=0"),
    ("group_norm", {"x": (3, 4)}, {"num_groups": 2.0}, TypeError, r"num_groups must be an integer, got 2\.0"),
    ("group_norm", {"x": (1, 4)}, {"num_groups": 4}, ValueError, "one value per group"),
    ("instance_norm", {"x": (3, 4)}, {}, ValueError, r"x has shape \(3, 4\), expected \(N, C, \*spatial\)"),
    ("instance_norm", {"x": (3, 4, 1)}, {}, ValueError, "one value per channel"),
    ("instance_norm", {"x": (3, 4, 2)}, {"use_input_stats": False}, ValueError, "running_mean and running_var"),
    ("instance_norm", {"x": (3, 4, 2)}, {"momentum": None}, TypeError, "momentum must be a number, got None"),
    ("local_response_norm", {"x": (3, 4)}, {"size": 2}, ValueError, r"expected \(N, C, \*spatial\)"),
    ("local_response_norm", {"x": (3, 4, 2)}, {"size": 0}, ValueError, "size must be at least 1, .*got 0"),
    ("local_response_norm", {"x": (3, 4, 2)}, {"size": 2.0}, TypeError, r"size must be an integer, got 2\.0"),
    ("local_response_norm", {"x": (3, 4, 2)}, {"size": 2, "k": -1}, ValueError, r"k must not be negative .*-1\.0"),
    ("whiten", {"x": (3, 4)}, {"method": "cholesky"}, ValueError, "method is 'cholesky', expected 'pca' or 'zca'"),
    ("whiten", {"x": (1, 4)}, {}, ValueError, "one sample"),
    ("whiten", {"x": (3, 0)}, {}, ValueError, "at least one feature"),
    ("whiten", {"x": (3, 4)}, {"training": False}, ValueError, "running_mean and running_cov are needed"),
    ("whiten", {"x": (3, 4), "running_cov": (4,)}, {}, ValueError, r"running_cov has shape \(4,\), expected \(4, 4\)"),
    ("whiten", {"x": (3, 4)}, {"eps": float("nan")}, ValueError, "eps must not be negative or NaN, got nan"),
    ("add", {"a": (3,), "b": (1,)}, {}, ValueError, r"b has shape \(1,\), expected \(3,\)"),
    *(
        ("pad", {"x": (1, 2, 3, 4)}, options, error, said)
        for options, error, said in [
            ({"pad": 1}, TypeError, "pad must be a tuple of integers, got 1"),
            ({"pad": (1, 1.0)}, TypeError, r"pad must be a tuple of integers, got \(1, 1\.0\)"),
            ({"pad": (1,)}, ValueError, r"pad is \(1,\), expected two values for each padded axis"),
            ({"pad": (0,) * 10}, ValueError, "expected two values for each padded axis"),
            ({"pad": (-3, -2)}, ValueError, r"pad \(-3, -2\) takes away more than there is"),
            ({"pad": (1, 1), "mode": "edge"}, ValueError, "mode is 'edge', expected 'constant', 'reflect'"),
            ({"pad": (4, 0), "mode": "reflect"}, ValueError, "expected at most 3 on an axis of 4 in mode 'reflect'"),
            ({"pad": (0, 5), "mode": "circular"}, ValueError, "expected at most 4 on an axis of 4"),
            ({"pad": (-1, 0), "mode": "replicate"}, ValueError, "expected no negative value in mode 'replicate'"),
            ({"pad": (1,) * 6, "mode": "reflect"}, ValueError, "expected two or four values in mode 'reflect'"),
            ({"pad": (1, 1), "value": "0"}, TypeError, "value must be a number, got '0'"),
            ({"pad": (2**62, 2**62)}, ValueError, "the result would have shape"),
        ]
    ),
    *(
        ("upsample_nearest2d", {"x": x}, options, error, said)
        for x, options, error, said in [
            ((1, 2, 3, 4), {}, ValueError, "size is None and scale_factor None, expected exactly one of them"),
            ((1, 2, 3, 4), {"size": 2, "scale_factor": 2}, ValueError, "expected exactly one of them"),
            ((1, 2, 3, 4), {"size": 0}, ValueError, r"size \(0, 0\) leaves nothing of x"),
            ((1, 2, 3, 4), {"size": 2.0}, TypeError, r"size must be an integer .*got \(2\.0, 2\.0\)"),
            ((1, 2, 3, 4), {"size": (2, 2, 2)}, ValueError, r"size is \(2, 2, 2\), expected one value or 2"),
            ((1, 2, 3, 4), {"scale_factor": "2"}, TypeError, "scale_factor must be a number, got '2'"),
            ((1, 2, 3, 4), {"scale_factor": -1}, ValueError, "scale_factor must be positive and finite, got -1"),
            ((1, 2, 3, 4), {"scale_factor": float("nan")}, ValueError, "scale_factor must be positive and finite"),
            ((1, 2, 3, 4), {"scale_factor": 0.1}, ValueError, "scale_factor 0.1 leaves nothing of x"),
            ((1, 2, 3, 4), {"scale_factor": 1e30}, ValueError, "scale_factor 1e.30 gives a result longer"),
            ((1, 2, 3, 4), {"size": 2**40}, ValueError, "the result"),
            ((1, 2, 0, 4), {"size": 2}, ValueError, "expected at least one channel and one pixel"),
        ]
    ),
]


@pytest.mark.parametrize(
    ("op", "shapes", "options", "error", "said"), [pytest.param(*row, id=f"{row[0]}: {row[-1]}") for row in ROWS]
)
def test_does_not_fit(op, shapes, options, error, said):
    arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    with pytest.raises(error, match=rf"^{op}: .*{said}"):
        getattr(ops, f"{op}_forward")(**arrays, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label_smoothing": "0.1"}, "label_smoothing must be a number, got '0.1'"),
        ({"ignore_index": None}, "ignore_index must be a 64-bit integer, got None"),
        ({"ignore_index": 2**64}, "ignore_index must be a 64-bit integer, got 18446744073709551616"),
    ],
)
def test_cross_entropy_options(options, said):
    with pytest.raises(TypeError, match=f"^cross_entropy: {said}"):
        ops.cross_entropy_forward(np.ones((2, 3), np.float32), np.array([0, 1]), **options)


@pytest.mark.parametrize("kernel_size", [None, 0, True, 2.0, (3,), (1, 2, 3)])
def test_window_does_not_fit(kernel_size):
    x = np.ones((1, 2, 5, 5), np.float32)
    with pytest.raises((TypeError, ValueError), match=r"^im2col: kernel_size must be"):
        ops.im2col(x, kernel_size)
    with pytest.raises((TypeError, ValueError), match=r"^col2im: kernel_size must be"):
        ops.col2im(x, x.shape, kernel_size)


@pytest.mark.parametrize("x_shape", [5, (1, 2, 5), (1, 2, 5.0, 5), (1, 2, -5, 5)])
def test_shape_of_an_image(x_shape):
    with pytest.raises(ValueError, match=r"^col2im: x_shape must be \(N, C, H, W\)"):
        ops.col2im(np.ones((1, 18, 9), np.float32), x_shape, 3)


def test_rows_name_operators():
    assert {row[0] for row in ROWS} <= set(specs())
