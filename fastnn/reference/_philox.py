"""Philox4x32-7, the counter-based generator of Salmon et al. 2011, and the Bernoulli trials of dropout."""

import numpy as np

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = 0x9E3779B9, 0xBB67AE85
LOW, WORD = np.uint64(2**32 - 1), np.uint64(32)


def philox4x32(counter, key, rounds=7):
    """The four words of every counter (4, …) under the key (k0, k1): 32 bits each, as uint64."""
    c0, c1, c2, c3 = np.asarray(counter, np.uint64)
    for r in range(rounds):
        k0, k1 = (np.uint64((k + r * w) % 2**32) for k, w in zip(key, (W0, W1), strict=True))
        p0, p1 = c0 * M0, c2 * M1
        c0, c1, c2, c3 = (p1 >> WORD) ^ c1 ^ k0, p1 & LOW, (p0 >> WORD) ^ c3 ^ k1, p0 & LOW
    return np.stack([c0, c1, c2, c3])


def words(block, seed, offset):
    """The four words of the counters offset * 2^64 + block under the key `seed`."""
    high = np.broadcast_to(np.uint64(offset), block.shape)
    counter = block & LOW, block >> WORD, high & LOW, high >> WORD
    return philox4x32(counter, (seed % 2**32, seed >> 32))


def kept(n, p, seed, offset, first=0):
    """Which of n elements from number `first` on Bernoulli trials keep that drop with probability p, as
    fastnn.ops.dropout says."""
    i = np.arange(first, first + n)
    word = np.choose(i // 32 % 4, words((i // 128 * 16 + i % 32 // 2).astype(np.uint64), seed, offset))
    half = word.astype(np.int64) >> i % 2 * 16 & 0xFFFF
    u = (half + 2**15) % 2**16  # half + 2^15 with half as a signed number
    more = words(i.astype(np.uint64) + np.uint64(2**63), seed, offset)[0]
    return (u > np.floor(65536 * p)) | ((u == np.floor(65536 * p)) & (more >= np.floor(65536 * p % 1 * 2**32)))
