"""What is special to dropout: its random numbers, and the generator that they come from."""

from concurrent.futures import ThreadPoolExecutor
from math import sqrt

import numpy as np
import pytest

import fastnn
import fastnn.functional as F
from fastnn import ops
from fastnn.kernels import runtime
from fastnn.reference._philox import kept, philox4x32
from fastnn.registry import specs
from fastnn.verify import forced

# The known answers of Random123, the implementation of the paper's authors: counter, key, words after 7 and 10 rounds.
ONES, PI = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
KNOWN = [
    ((0,) * 4, (0, 0), "5f6fb709 0d893f64 4f121f81 4f730a48", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((ONES,) * 4, (ONES,) * 2, "5207ddc2 45165e59 4d8ee751 8c52f662", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (PI, (0xA4093822, 0x299F31D0), "4dfccaba 190a87f0 c47362ba b6b5242a", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "seven", "ten"), KNOWN)
def test_known_answers(counter, key, seven, ten):
    for rounds, want in ((7, seven), (10, ten)):
        assert " ".join(f"{int(word):08x}" for word in philox4x32(counter, key, rounds)) == want


def mask(n, p, dtype=np.float32, **options):
    return ops.dropout_forward(np.ones(n, dtype), p, **options, keep=False)[0] != 0


@pytest.mark.parametrize("p", [0.5, 0.1, 2.0**-16, 2.0**-17, 0.9999999, 1 / 3])
@pytest.mark.parametrize(("seed", "offset"), [(0, 0), (2**64 - 1, 2**64 - 1), (2**40 + 1, 2**33 + 5)])
def test_mask_is_the_definition(p, seed, offset, dtype, isa):
    """At every level and number of threads, in both dtypes, forward and backward."""
    n = 40_003
    want = kept(n, p, seed, offset)
    for threads in (1, 2, 3, 7):
        with forced(threads=threads):
            y, ctx = ops.dropout_forward(np.ones(n, dtype), p, seed=seed, offset=offset)
            np.testing.assert_array_equal(y != 0, want)
            np.testing.assert_array_equal(ops.dropout_backward(np.ones(n, dtype), ctx), y)


@pytest.mark.parametrize("p", [0.5, 0.1, 0.01, 0.875])
def test_rate_and_independence(p):
    """Within 6 standard deviations: the rate, overall and in each of 16 parts, and the joint rate of pairs of elements
    that are neighbours, share a word or a counter, or belong to different seeds or offsets."""
    n = 1 << 22
    dropped = ~mask(n, p, seed=1)

    def check(events, probability):
        deviation = sqrt(events.size * probability * (1 - probability))
        assert abs(np.count_nonzero(events) - events.size * probability) < 6 * deviation

    check(dropped, p)
    for part in np.split(dropped, 16):
        check(part, p)
    for distance in (1, 2, 16, 31, 32, 64, 96, 127, 128, 256, 16384):
        check(dropped[:-distance] & dropped[distance:], p * p)
    for other in ({"seed": 2}, {"seed": 1 + 2**32}, {"seed": 1, "offset": 1}, {"seed": 1, "offset": 2**32}):
        check(dropped & ~mask(n, p, **other), p * p)


def test_tiny_probabilities_are_met():
    """16 bits alone could not tell them from 0 and 2^-16."""
    n = 1 << 24
    for p in (2.0**-17, 2.0**-16 * 1.5):
        count = n - np.count_nonzero(mask(n, p, seed=3))
        assert abs(count - n * p) < 6 * sqrt(n * p)


def test_values():
    """x * 2 exactly; x * 0 where dropped, with x's sign, and NaN of what is not finite, as in torch."""
    x = np.array([1.5, -1.5, np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45] * 40, np.float32)
    y = ops.dropout_forward(x, 0.5, seed=5)[0]
    m = np.where(kept(x.size, 0.5, 5, 0), np.float32(2), np.float32(0))
    with np.errstate(invalid="ignore"):
        want = x * m
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(np.signbit(y[np.isfinite(y)]), np.signbit(want[np.isfinite(y)]))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(ops.dropout_forward(x, 1.0, seed=5)[0], x * np.float32(0))
    np.testing.assert_array_equal(ops.dropout_forward(x, 0.0, seed=5)[0], x)


def test_out_and_inplace(isa):
    x = np.random.default_rng(0).standard_normal(70_001, np.float32)
    want = ops.dropout_forward(x, 0.3, seed=9)[0]
    memory = np.empty(x.size + 1, np.float32)  # not aligned to a vector
    for threads in (1, 3):
        with forced(threads=threads):
            assert ops.dropout_forward(x, 0.3, seed=9, out=memory[1:])[0].base is memory
            np.testing.assert_array_equal(memory[1:], want)
    z = x.copy()
    assert F.dropout(z, 0.3, inplace=True, seed=9) is z
    np.testing.assert_array_equal(z, want)


def test_channels_share_the_elements_numbers():
    x = np.ones((5, 7, 3, 4), np.float64)
    y = F.dropout2d(x, 0.4, seed=11)
    np.testing.assert_array_equal(y, np.broadcast_to(F.dropout(x[:, :, :1, :1], 0.4, seed=11), x.shape))
    np.testing.assert_array_equal(F.dropout1d(x.reshape(5, 7, 12), 0.4, seed=11), y.reshape(5, 7, 12))
    np.testing.assert_array_equal(F.dropout1d(x[0].reshape(7, 12), 0.4, seed=11), y[0].reshape(7, 12))


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(0).standard_normal(1 << 20)
    y = F.alpha_dropout(x, 0.3, training=True, seed=1)
    assert abs(y.mean()) < 6 / sqrt(x.size)
    assert abs(y.var() - 1) < 0.02


def test_not_training_returns_the_input():
    x = np.ones((3, 4, 5, 6), np.float32)[:, :, ::2]
    x.flags.writeable = False
    before = fastnn.get_rng_state()
    assert F.dropout(x, training=False) is x
    assert F.dropout2d(x, training=False) is x
    assert F.alpha_dropout(x) is x
    assert F.dropout(x, 0.0) is x
    np.testing.assert_array_equal(fastnn.get_rng_state(), before)


# ---- the generator ----


@pytest.fixture
def restored():
    """The process's generator as it was before the test."""
    before = fastnn.get_rng_state()
    yield
    fastnn.set_rng_state(before)


def test_manual_seed_and_state(restored):
    x = np.ones(1000, np.float32)
    fastnn.manual_seed(42)
    first = [F.dropout(x) for _ in range(3)]
    state = fastnn.get_rng_state()
    more = [F.dropout(x) for _ in range(2)]
    assert len({y.tobytes() for y in first + more}) == 5
    fastnn.set_rng_state(state)
    for y in more:
        np.testing.assert_array_equal(F.dropout(x), y)
    fastnn.manual_seed(np.int64(42))
    for y in first:
        np.testing.assert_array_equal(F.dropout(x), y)
    np.testing.assert_array_equal(F.dropout(x, generator=fastnn.Generator(42)), first[0])
    np.testing.assert_array_equal(F.dropout(x, seed=42), first[0])
    assert fastnn.manual_seed(-1).initial_seed() == 2**64 - 1


def test_threads_draw_different_numbers():
    generator = fastnn.Generator(7)
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: [generator.draw() for _ in range(500)], range(8)))
    assert sorted(offset for part in drawn for _, offset in part) == list(range(4000))


@pytest.mark.parametrize("state", [(1, 2), np.zeros(2), np.zeros(2, np.int64), np.zeros(3, np.uint64), None])
def test_wrong_state(state):
    with pytest.raises((TypeError, ValueError), match=r"^set_rng_state: state .*expected|must be"):
        fastnn.set_rng_state(state)


def test_wrong_seed():
    for seed in (1.5, "1", None):
        with pytest.raises(TypeError, match=r"^manual_seed: seed must be an integer, got"):
            fastnn.manual_seed(seed)


@pytest.mark.parametrize("op", ["dropout", "dropout1d", "dropout2d", "alpha_dropout"])
@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"seed": 1.0}, TypeError, "seed must be an integer, got 1.0"),
        ({"seed": -1}, ValueError, "seed is -1, expected 0 to"),
        ({"seed": 1, "offset": 2**64}, ValueError, "offset is 18446744073709551616, expected 0 to"),
        ({"seed": 1, "p": 1.5}, ValueError, "p is 1.5, expected 0 to 1"),
        ({"seed": 1, "p": float("nan")}, ValueError, "p is nan, expected 0 to 1"),
        ({"seed": 1, "p": "half"}, TypeError, "p must be a number, got 'half'"),
    ],
)
def test_wrong_options(op, options, error, said):
    x = np.ones((2, 3, 4) if op == "dropout1d" else (2, 3, 4, 5), np.float32)
    with pytest.raises(error, match=f"^{op}: {said}"):
        getattr(ops, f"{op}_forward")(x, **options)


def test_what_bench_accepts_of_another_library():
    """Another mask of the right rate, and nothing else."""
    spec = specs()["dropout2d"]
    x = np.random.default_rng(2).standard_normal((64, 32, 4, 4), np.float32)
    y = F.dropout2d(x, 0.3, seed=77)

    def wrong(y):
        return spec.agrees("forward", [y], {"x": x}, None, p=0.3, seed=1)

    assert wrong(y) == ""
    assert "neither kept nor dropped" in wrong(y * np.float32(1.01))
    assert "expected about" in wrong(np.where(y == 0, x / np.float32(0.7), y))
    assert "kept in part" in wrong(F.dropout(x, 0.3, seed=77))


def test_levels_agree():
    """Bit for bit, shifts included, between all levels."""
    x = np.random.default_rng(1).standard_normal(5000, np.float32)
    results = []
    for isa in runtime.supported_isas():
        with forced(isa=isa):
            results.append(ops.dropout_forward(x, 0.3, seed=1)[0].tobytes())
    assert len(set(results)) == 1
