"""Scaled dot-product attention in blocks of queries and keys, after FlashAttention (Dao et al. 2022, "FlashAttention:
fast and memory-efficient exact attention"): scores exist a block at a time, and the backward pass computes them again.

A block of scores is held transposed, as panels of gemm.nr queries: a panel is a product of packed tiles of keys with
the panel's queries, softmax runs down its columns, and it is the right-hand side of the product with the values.
Sums over keys and over queries run in blocks in their order, whoever computes them, so that results do not depend on
how the work is shared out.
"""

cimport numpy as cnp
from cython.parallel cimport prange, threadid
from libc.string cimport memcpy, memset

from fastnn.kernels.gemm cimport pack_tiles, tile_count, tile_row
from fastnn.kernels.runtime cimport (
    Scratch, aligned, ceil_div, data_or_null, fnn_additive_ukernels, fnn_attention_ukernels, fnn_gemm_ukernels, scratch,
    table_of, threads_for,
)
from fastnn.kernels.ukernels cimport FNN_ACCUMULATE, fnn_ukernels

cdef extern from *:
    """
    static inline void fnn_fetch(const char *p, Py_ssize_t nbytes)
    {
        for (Py_ssize_t i = 0; i < nbytes; i += 64)
            __builtin_prefetch(p + i, 0, 2);
    }
    """
    void fnn_fetch(const char *p, Py_ssize_t nbytes) noexcept nogil  # into the second-level cache

cnp.import_array()

cdef enum:
    FEW_QUERIES = 24  # so few do without packed keys, which would cost more than their products, if
    FEW_BYTES = 8 << 20  # their scores take no more than this
    QUERIES = 128     # in a block of the backward pass; a multiple of gemm.nr, like the two below
    MOST_QUERIES = 256  # of a task of the forward pass, which packs the keys for itself: fewer if there are
    LEAST_QUERIES = 64
    TASKS = 8         # fewer tasks than these

# A score's share of the time beside the products, in operations: exponential, maximum, sum.
cdef double SCORE_FLOPS = 30

cdef struct Problem:
    const fnn_gemm_ukernels *gemm
    const fnn_attention_ukernels *uk
    const fnn_additive_ukernels *rows
    Py_ssize_t heads, group   # of queries in the whole batch; so many share their keys and values
    Py_ssize_t t, s, e, ev    # queries, keys; features of these, and of values
    Py_ssize_t es
    const char *q
    const char *k
    const char *v
    const char *mask          # NULL: none; the mask of head h begins at mask_at[h], in bytes
    const Py_ssize_t *mask_at
    Py_ssize_t mask_row, mask_column  # steps from key to key, from query to query
    bint boolean, causal
    double scale
    char *max                 # (heads, t): of the scores, and 1 / (the sum of e^(score - max)); NULL if not wanted
    char *norm
    char *weights             # (heads, t, s); NULL if not wanted
    Py_ssize_t *along         # 0, 1, 2, …
    Py_ssize_t *down          # by rows of values, and of a panel of scores
    Py_ssize_t *down_scores


cdef struct Gradients:
    const char *dy
    const char *y
    const char *dweights      # NULL: zero
    char *dq                  # NULL: not needed, like those below
    char *dk
    char *dv
    char *dmask               # (heads, t, s)


cdef inline Py_ssize_t limit_of(const Problem *g, Py_ssize_t q, Py_ssize_t k0, Py_ssize_t keys) noexcept nogil:
    """Of `keys` keys from k0 on, how many the queries before q see."""
    return max(<Py_ssize_t>0, min(keys, q - k0)) if g.causal else keys


cdef void multiply(const fnn_gemm_ukernels *uk, Py_ssize_t rows, Py_ssize_t m, Py_ssize_t k, Py_ssize_t packed_k,
                   const char *packed, char *b, char *c, int flags) noexcept nogil:
    """A panel C[rows][nr] (+)= the first rows, and a few more of their tile, of A[m][k] times B[k][nr]; A is packed as
    tiles of packed_k columns."""
    cdef Py_ssize_t i, row, height, tiles = tile_count(uk, m)
    for i in range(tiles):
        row = tile_row(i, tiles, m)
        if row >= rows:
            return
        height = tile_row(i + 1, tiles, m) - row
        uk.tile[height](k, packed + row * packed_k * uk.itemsize, b, uk.nr, c + row * uk.nr * uk.itemsize, uk.nr,
                        uk.nr, NULL, flags, NULL)


cdef void multiply_rows(const fnn_gemm_ukernels *uk, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t k, const char *tile,
                        char *b, Py_ssize_t ldb, char *c, int flags) noexcept nogil:
    """C[rows][n] (+)= a packed tile A[rows][k] times B[k][n]"""
    cdef Py_ssize_t j = 0
    while j < n:
        uk.tile[rows](k, tile, b + j * uk.itemsize, ldb, c + j * uk.itemsize, n, min(n - j, <Py_ssize_t>uk.nr), NULL,
                      flags, NULL)
        j += uk.nr


cdef Py_ssize_t row_length(const fnn_gemm_ukernels *uk, Py_ssize_t n) noexcept nogil:
    """Of rows of n elements that a tile can read in whole vectors."""
    return n if n % uk.vl == 0 else ceil_div(n, uk.nr) * uk.nr


cdef char *whole_rows(const fnn_gemm_ukernels *uk, const char *x, Py_ssize_t rows, Py_ssize_t n,
                      char *copy) noexcept nogil:
    """x (rows, n), or a copy in rows of row_length."""
    cdef Py_ssize_t i, length = row_length(uk, n), es = uk.itemsize
    if length == n:
        return <char *>x
    for i in range(rows):
        memcpy(copy + i * length * es, x + i * n * es, n * es)
        memset(copy + (i * length + n) * es, 0, (length - n) * es)
    return copy


cdef void scores(const Problem *g, Py_ssize_t head, Py_ssize_t q0, Py_ssize_t queries, Py_ssize_t k0, Py_ssize_t keys,
                 Py_ssize_t packed_keys, const char *key_tiles, char *panel, char *s) noexcept nogil:
    """s = the scores, masked, of the queries in `panel` and the first `keys` of the packed keys."""
    multiply(g.gemm, keys, packed_keys, g.e, g.e, key_tiles, panel, s, 0)
    if g.mask != NULL:
        g.uk.mask(keys, queries, g.mask + g.mask_at[head]
                  + (q0 * g.mask_column + k0 * g.mask_row) * (1 if g.boolean else g.es),
                  g.mask_row, g.mask_column, g.boolean, s)
    if g.causal and k0 + keys - 1 > q0:
        g.uk.causal(keys, k0 - q0, s)


# ---- forward ----

cdef Py_ssize_t task_queries(const Problem *g) noexcept nogil:
    cdef Py_ssize_t queries = MOST_QUERIES
    while queries > LEAST_QUERIES and g.heads * ceil_div(g.t, queries) < TASKS:
        queries //= 2
    return queries


cdef Py_ssize_t forward_bytes(const Problem *g) noexcept nogil:
    """Scratch memory of a thread."""
    cdef Py_ssize_t queries = task_queries(g), es = g.es, nr = g.gemm.nr
    return (aligned(KEYS * g.e * es) + aligned(KEYS * g.ev * es) + aligned(queries * g.e * es)
            + aligned(queries * g.ev * es) + 2 * aligned(queries * es) + aligned(KEYS * nr * es))


cdef inline void fetch_share(const Problem *g, const char *k, const char *v, Py_ssize_t k0, Py_ssize_t end,
                             Py_ssize_t part, Py_ssize_t parts) noexcept nogil:
    """One of so many parts of the block of keys from k0 on, and of their values."""
    cdef Py_ssize_t keys = max(<Py_ssize_t>0, min(<Py_ssize_t>KEYS, end - k0))
    cdef Py_ssize_t first = k0 + keys * part // parts, last = k0 + keys * (part + 1) // parts
    fnn_fetch(k + first * g.e * g.es, (last - first) * g.e * g.es)
    fnn_fetch(v + first * g.ev * g.es, (last - first) * g.ev * g.es)


cdef void forward_task(const Problem *g, char *y, Py_ssize_t task, char *tmp) noexcept nogil:
    """A head's results for a block of queries."""
    cdef Py_ssize_t most = task_queries(g), blocks = ceil_div(g.t, most), es = g.es, nr = g.gemm.nr
    cdef Py_ssize_t head = task // blocks, q0 = task % blocks * most, queries = min(most, g.t - q0)
    cdef Py_ssize_t panels = ceil_div(queries, nr), seen = limit_of(g, q0 + queries, 0, g.s)
    cdef Py_ssize_t k0 = 0, keys, n, i, j, count, at
    cdef const char *q = g.q + (head * g.t + q0) * g.e * es
    cdef const char *k = g.k + head // g.group * g.s * g.e * es
    cdef const char *v = g.v + head // g.group * g.s * g.ev * es
    cdef char *key_tiles = tmp
    cdef char *value_tiles = key_tiles + aligned(KEYS * g.e * es)
    cdef char *q_panels = value_tiles + aligned(KEYS * g.ev * es)
    cdef char *y_panels = q_panels + aligned(most * g.e * es)
    cdef char *maxima = y_panels + aligned(most * g.ev * es)
    cdef char *sums = maxima + aligned(most * es)
    cdef char *s = sums + aligned(most * es)
    # Packing reads in an order that the processor does not foresee.
    fnn_fetch(k, min(<Py_ssize_t>KEYS, seen) * g.e * es)
    fnn_fetch(v, min(<Py_ssize_t>KEYS, seen) * g.ev * es)
    for j in range(panels):
        g.uk.columns(min(nr, queries - j * nr), g.e, q + j * nr * g.e * es, g.e, g.scale, q_panels + j * nr * g.e * es)
    g.uk.start(panels * nr, maxima, sums)
    while k0 < seen:
        keys = min(<Py_ssize_t>KEYS, seen - k0)
        pack_tiles(g.gemm, 0, tile_count(g.gemm, keys), keys, g.e, k + k0 * g.e * es, g.e, g.along, key_tiles)
        pack_tiles(g.gemm, 0, tile_count(g.gemm, g.ev), g.ev, keys, v + k0 * g.ev * es, 1, g.down, value_tiles)
        for j in range(panels):
            i, count = j * nr, min(nr, queries - j * nr)
            n = limit_of(g, q0 + i + count, k0, keys)
            fetch_share(g, k, v, k0 + keys, seen, j, panels)
            if n == 0:
                continue
            scores(g, head, q0 + i, count, k0, n, keys, key_tiles, q_panels + i * g.e * es, s)
            g.uk.softmax(n, s, maxima + i * es, sums + i * es, g.ev if k0 else 0, y_panels + i * g.ev * es)
            multiply(g.gemm, g.ev, g.ev, n, keys, value_tiles, s, y_panels + i * g.ev * es,
                     FNN_ACCUMULATE if k0 else 0)
        k0 += keys
    for j in range(panels):
        i, count = j * nr, min(nr, queries - j * nr)
        at = (head * g.t + q0 + i) * es
        g.uk.finish(count, g.ev, y_panels + i * g.ev * es, maxima + i * es, sums + i * es, y + at * g.ev, g.ev,
                    g.max + at if g.max != NULL else NULL, g.norm + at if g.max != NULL else NULL)
    if g.weights == NULL:
        return
    k0 = 0
    while k0 < g.s:
        keys = min(<Py_ssize_t>KEYS, g.s - k0)
        pack_tiles(g.gemm, 0, tile_count(g.gemm, keys), keys, g.e, k + k0 * g.e * es, g.e, g.along, key_tiles)
        for j in range(panels):
            i, count = j * nr, min(nr, queries - j * nr)
            n = limit_of(g, q0 + i + count, k0, keys)
            at = (head * g.t + q0 + i) * es
            memset(maxima, 0, nr * es)                   # lanes beyond the last query, too
            memset(sums, 0, nr * es)
            memcpy(maxima, g.max + at, count * es)
            memcpy(sums, g.norm + at, count * es)
            if n:
                scores(g, head, q0 + i, count, k0, n, keys, key_tiles, q_panels + i * g.e * es, s)
                g.uk.weights(n, s, maxima, sums)
            memset(s + n * nr * es, 0, (keys - n) * nr * es)
            g.gemm.transpose(keys, count, s, nr, g.weights + at * g.s + k0 * es, g.s)
        k0 += keys


cdef void read_values(const fnn_gemm_ukernels *uk, Py_ssize_t rows, Py_ssize_t keys, Py_ssize_t n, const char *weights,
                      Py_ssize_t ldw, const char *v, const Py_ssize_t *along, char *y, char *tmp) noexcept nogil:
    """y[rows][n] = weights[rows][keys] v, at most gemm.mr rows; tmp: read_bytes."""
    cdef Py_ssize_t k0 = 0, count, es = uk.itemsize
    while k0 < keys:
        count = min(<Py_ssize_t>KEYS, keys - k0)
        uk.pack_a(rows, count, weights + k0 * es, ldw, along, tmp)
        multiply_rows(uk, rows, n, count, tmp,
                      whole_rows(uk, v + k0 * n * es, count, n, tmp + aligned(uk.mr * KEYS * es)),
                      row_length(uk, n), y, FNN_ACCUMULATE if k0 else 0)
        k0 += count


cdef Py_ssize_t read_bytes(const fnn_gemm_ukernels *uk, Py_ssize_t n) noexcept nogil:
    """A packed tile, and a block of values in whole rows."""
    return aligned(uk.mr * KEYS * uk.itemsize) + aligned(KEYS * row_length(uk, n) * uk.itemsize)


cdef Py_ssize_t few_bytes(const Problem *g) noexcept nogil:
    return read_bytes(g.gemm, g.ev) + aligned(g.t * g.e * g.es) + aligned(g.t * g.s * g.es)


cdef void few_task(const Problem *g, char *y, Py_ssize_t head, char *tmp) noexcept nogil:
    """A head's results for its few queries: scores by dot products, softmax row by row, values tile by tile."""
    cdef Py_ssize_t es = g.es, i, seen, longest = limit_of(g, g.t, 0, g.s)
    cdef const char *k = g.k + head // g.group * g.s * g.e * es
    cdef const char *v = g.v + head // g.group * g.s * g.ev * es
    cdef char *q = tmp + read_bytes(g.gemm, g.ev)
    cdef char *s = q + aligned(g.t * g.e * es)
    cdef char *row
    cdef const char *mask = NULL
    if g.weights != NULL:
        s = g.weights + head * g.t * g.s * es
    g.rows.scale(g.t * g.e, g.scale, g.q + head * g.t * g.e * es, q)
    g.gemm.dot(g.t, longest, g.e, q, g.e, k, g.e, s, g.s, NULL, 0)
    for i in range(g.t):
        seen, row = limit_of(g, i + 1, 0, g.s), s + i * g.s * es
        if g.mask != NULL:
            mask = g.mask + g.mask_at[head] + i * g.mask_column * (1 if g.boolean else es)
        g.rows.softmax(seen, mask, g.mask_row, g.boolean, row,
                       g.max + (head * g.t + i) * es if g.max != NULL else NULL,
                       g.norm + (head * g.t + i) * es if g.max != NULL else NULL)
        memset(row + seen * es, 0, (g.s - seen) * es)
    i = 0
    while i < g.t:
        read_values(g.gemm, min(<Py_ssize_t>g.gemm.mr, g.t - i), longest, g.ev, s + i * g.s * es, g.s, v, g.along,
                    y + (head * g.t + i) * g.ev * es, tmp)
        i += g.gemm.mr


# ---- backward ----

cdef Py_ssize_t backward_bytes(const Problem *g) noexcept nogil:
    """Scratch memory of a thread."""
    cdef Py_ssize_t es = g.es, nr = g.gemm.nr, e = row_length(g.gemm, g.e), ev = row_length(g.gemm, g.ev)
    return (aligned(KEYS * g.e * es) + aligned(KEYS * g.ev * es) + aligned(nr * g.e * es) + aligned(nr * g.ev * es)
            + 2 * aligned(KEYS * QUERIES * es) + aligned(max(nr * KEYS, g.gemm.mr * QUERIES) * es)
            + aligned(KEYS * nr * es) + 3 * aligned(nr * es) + aligned(KEYS * e * es) + aligned(QUERIES * e * es)
            + aligned(QUERIES * ev * es))


cdef void backward_task(const Problem *g, const Gradients *d, Py_ssize_t kv, Py_ssize_t head0, Py_ssize_t head1,
                        Py_ssize_t q_begin, Py_ssize_t q_end, Py_ssize_t k_begin, Py_ssize_t k_end,
                        char *tmp) noexcept nogil:
    """What pairs of these queries of heads head0.. and these keys of head kv contribute to the gradients that d has,
    whose sums over keys begin with k_begin = 0, and over queries with q_begin = 0."""
    cdef Py_ssize_t es = g.es, nr = g.gemm.nr, e = row_length(g.gemm, g.e), ev = row_length(g.gemm, g.ev)
    cdef Py_ssize_t k0 = k_begin, keys, n, head, q0, queries, i, j, count, at, tiles, tile, row, height, first, p
    cdef char *key_tiles = tmp
    cdef char *value_tiles = key_tiles + aligned(KEYS * g.e * es)
    cdef char *q_panel = value_tiles + aligned(KEYS * g.ev * es)
    cdef char *dy_panel = q_panel + aligned(nr * g.e * es)
    cdef char *weights = dy_panel + aligned(nr * g.ev * es)
    cdef char *ds = weights + aligned(KEYS * QUERIES * es)
    cdef char *packed = ds + aligned(KEYS * QUERIES * es)
    cdef char *spare = packed + aligned(max(nr * KEYS, g.gemm.mr * QUERIES) * es)
    cdef char *maxima = spare + aligned(KEYS * nr * es)
    cdef char *norms = maxima + aligned(nr * es)
    cdef char *delta = norms + aligned(nr * es)
    cdef char *k_copy = delta + aligned(nr * es)
    cdef char *q_copy = k_copy + aligned(KEYS * e * es)
    cdef char *dy_copy = q_copy + aligned(QUERIES * e * es)
    cdef char *k_rows
    cdef char *q_rows
    cdef char *dy_rows
    cdef const char *k = g.k + kv * g.s * g.e * es
    cdef const char *v = g.v + kv * g.s * g.ev * es
    cdef const char *q
    cdef const char *dy
    cdef char *w_panel
    cdef char *ds_panel
    cdef bint begun
    cdef bint dkv = d.dk != NULL or d.dv != NULL
    while k0 < k_end:
        keys = min(<Py_ssize_t>KEYS, k_end - k0)
        tiles = tile_count(g.gemm, keys)
        pack_tiles(g.gemm, 0, tiles, keys, g.e, k + k0 * g.e * es, g.e, g.along, key_tiles)
        pack_tiles(g.gemm, 0, tiles, keys, g.ev, v + k0 * g.ev * es, g.ev, g.along, value_tiles)
        k_rows = whole_rows(g.gemm, k + k0 * g.e * es, keys, g.e, k_copy)
        begun = False
        for head in range(head0, head1):
            q0 = q_begin
            while q0 < q_end:
                queries = min(<Py_ssize_t>QUERIES, q_end - q0)
                if limit_of(g, q0 + queries, k0, keys) == 0:
                    q0 += queries
                    continue
                q = g.q + (head * g.t + q0) * g.e * es
                dy = d.dy + (head * g.t + q0) * g.ev * es
                for j in range(ceil_div(queries, nr)):
                    i, count = j * nr, min(nr, queries - j * nr)
                    n = limit_of(g, q0 + i + count, k0, keys)
                    at = (head * g.t + q0 + i) * es
                    w_panel = weights + j * KEYS * nr * es
                    ds_panel = ds + j * KEYS * nr * es
                    if n:
                        g.uk.columns(count, g.e, q + i * g.e * es, g.e, g.scale, q_panel)
                        g.uk.columns(count, g.ev, dy + i * g.ev * es, g.ev, 1, dy_panel)
                        memset(maxima, 0, nr * es)           # lanes beyond the last query, too
                        memset(norms, 0, nr * es)
                        memset(delta, 0, nr * es)
                        memcpy(maxima, g.max + at, count * es)
                        memcpy(norms, g.norm + at, count * es)
                        g.uk.dots(count, g.ev, dy + i * g.ev * es, d.y + at * g.ev, delta)
                        scores(g, head, q0 + i, count, k0, n, keys, key_tiles, q_panel, w_panel)
                        g.uk.weights(n, w_panel, maxima, norms)
                        multiply(g.gemm, n, keys, g.ev, g.ev, value_tiles, dy_panel, ds_panel, 0)
                        if d.dweights != NULL:
                            g.uk.dots(count, g.s, d.dweights + at * g.s, g.weights + at * g.s, delta)
                            g.uk.mask(n, count, d.dweights + at * g.s + k0 * es, 1, g.s, False, ds_panel)
                        if d.dmask != NULL:
                            memcpy(spare, ds_panel, n * nr * es)
                            g.uk.gradient(n, w_panel, delta, 1, spare)
                            g.gemm.transpose(n, count, spare, nr, d.dmask + at * g.s + k0 * es, g.s)
                        g.uk.gradient(n, w_panel, delta, g.scale, ds_panel)
                    if d.dq != NULL and n:
                        for tile in range(tile_count(g.gemm, count)):
                            row = tile_row(tile, tile_count(g.gemm, count), count)
                            height = tile_row(tile + 1, tile_count(g.gemm, count), count) - row
                            g.gemm.pack_a(height, n, ds_panel + row * es, 1, g.down_scores, packed)
                            multiply_rows(g.gemm, height, g.e, n, packed, k_rows, e, d.dq + (at + row * es) * g.e,
                                          FNN_ACCUMULATE if k0 else 0)
                    memset(w_panel + n * nr * es, 0, (keys - n) * nr * es)
                    memset(ds_panel + n * nr * es, 0, (keys - n) * nr * es)
                if dkv:
                    q_rows = whole_rows(g.gemm, q, queries, g.e, q_copy)
                    dy_rows = whole_rows(g.gemm, dy, queries, g.ev, dy_copy)
                for tile in range(tiles if dkv else 0):
                    row = tile_row(tile, tiles, keys)
                    height = tile_row(tile + 1, tiles, keys) - row
                    # the first panel that sees the tile; panels before that one hold zeros there
                    first = max(<Py_ssize_t>0, (k0 + row - q0) // nr) if g.causal else 0
                    p = first * nr
                    if p >= queries:
                        first = p = 0
                    at = kv * g.s + k0 + row
                    if d.dv != NULL:
                        transposed(g, height, weights + row * nr * es, first, queries, packed)
                        multiply_rows(g.gemm, height, g.ev, queries - p, packed, dy_rows + p * ev * es, ev,
                                      d.dv + at * g.ev * es, FNN_ACCUMULATE if begun else 0)
                    if d.dk != NULL:
                        transposed(g, height, ds + row * nr * es, first, queries, packed)
                        multiply_rows(g.gemm, height, g.e, queries - p, packed, q_rows + p * e * es, e,
                                      d.dk + at * g.e * es, FNN_ACCUMULATE if begun else 0)
                begun = True
                q0 += queries
        if not begun and d.dk != NULL:
            memset(d.dk + (kv * g.s + k0) * g.e * es, 0, keys * g.e * es)
        if not begun and d.dv != NULL:
            memset(d.dv + (kv * g.s + k0) * g.ev * es, 0, keys * g.ev * es)
        k0 += keys


cdef void transposed(const Problem *g, Py_ssize_t height, const char *panels, Py_ssize_t first, Py_ssize_t queries,
                     char *packed) noexcept nogil:
    """A tile [query][height] from `height` rows of the panels number first.., KEYS * nr elements apart."""
    cdef Py_ssize_t nr = g.gemm.nr, j
    for j in range(first, ceil_div(queries, nr)):
        g.gemm.pack_a(height, min(nr, queries - j * nr), panels + j * KEYS * nr * g.es, nr, g.along,
                      packed + (j - first) * nr * height * g.es)


# ---- for Python ----

cdef class Arguments:
    """A Problem of arrays, which live as long as this."""
    cdef Problem g
    cdef tuple arrays
    cdef Scratch offsets

    def __init__(self, cnp.ndarray q, cnp.ndarray k, cnp.ndarray v, Py_ssize_t group, mask, mask_at,
                 Py_ssize_t mask_row, Py_ssize_t mask_column, bint causal, double scale, maxima, norms, weights):
        cdef Problem *g = &self.g
        cdef const fnn_ukernels *uk = table_of(q)
        cdef Py_ssize_t i, most
        self.arrays = q, k, v, mask, mask_at, maxima, norms, weights
        g.gemm, g.uk, g.rows = uk.gemm, uk.attention, uk.additive
        g.heads, g.t, g.e = q.shape[0], q.shape[1], q.shape[2]
        g.group, g.s, g.ev, g.es = group, k.shape[1], v.shape[2], q.itemsize
        g.q, g.k, g.v = data_or_null(q), data_or_null(k), data_or_null(v)
        g.mask, g.mask_at = data_or_null(mask), <const Py_ssize_t *>data_or_null(mask_at)
        g.mask_row, g.mask_column = mask_row, mask_column
        g.boolean = mask is not None and cnp.PyArray_ISBOOL(mask)
        g.causal, g.scale = causal, scale
        g.max, g.norm, g.weights = data_or_null(maxima), data_or_null(norms), data_or_null(weights)
        most = max(g.e, g.ev, <Py_ssize_t>KEYS)  # KEYS >= gemm.nr
        self.offsets = scratch((most + 2 * KEYS) * sizeof(Py_ssize_t))
        g.along = <Py_ssize_t *>self.offsets.ptr
        g.down = g.along + most
        g.down_scores = g.down + KEYS
        for i in range(most):
            g.along[i] = i
        for i in range(KEYS):
            g.down[i], g.down_scores[i] = i * g.ev, i * g.gemm.nr

    cdef int threads(self, double products):
        """For so many products with all scores, or their gradients."""
        cdef Problem *g = &self.g
        cdef double pairs = <double>g.heads * g.t * g.s * (0.5 if g.causal else 1)
        cdef double nbytes = (<double>g.heads * g.t + <double>g.heads // g.group * g.s) * (g.e + g.ev) * g.es
        return threads_for(pairs * (products * (g.e + g.ev) + SCORE_FLOPS), products / 2 * nbytes)


def forward(Arguments a, cnp.ndarray y):
    """y (heads, T, Ev), and what of maxima, norms and weights there is room for."""
    cdef const Problem *g = &a.g
    cdef bint few = g.t <= FEW_QUERIES and g.t * g.s * g.es <= FEW_BYTES
    cdef Py_ssize_t i, tasks = g.heads if few else g.heads * ceil_div(g.t, task_queries(g))
    cdef Py_ssize_t nbytes = few_bytes(g) if few else forward_bytes(g)
    cdef int threads = <int>min(<Py_ssize_t>a.threads(3 if g.weights != NULL else 2), tasks)
    cdef Scratch tmp = scratch(threads * nbytes)
    cdef char *to = data_or_null(y)
    if few:
        for i in prange(tasks, nogil=True, num_threads=threads, schedule="static"):
            few_task(g, to, i, tmp.ptr + threadid() * nbytes)
        return
    for i in prange(tasks, nogil=True, num_threads=threads, schedule="dynamic"):
        forward_task(g, to, i, tmp.ptr + threadid() * nbytes)


def backward(Arguments a, cnp.ndarray dy, cnp.ndarray y, dweights, dq, dk, dv, dmask):
    """Those gradients that are not None; zero where nothing contributes, but for dmask. dweights: None is zero."""
    cdef const Problem *g = &a.g
    cdef Gradients d, of_queries, of_keys
    cdef Py_ssize_t i, pairs = g.heads // g.group, nbytes = backward_bytes(g), tasks
    cdef Py_ssize_t key_blocks = ceil_div(g.s, KEYS), query_blocks = ceil_div(g.t, QUERIES)
    cdef int threads = a.threads(5)
    cdef Scratch tmp = scratch(threads * nbytes)
    d.dy, d.y, d.dweights = data_or_null(dy), data_or_null(y), data_or_null(dweights)
    d.dq, d.dk, d.dv, d.dmask = data_or_null(dq), data_or_null(dk), data_or_null(dv), data_or_null(dmask)
    of_queries = of_keys = d
    of_queries.dk = of_queries.dv = NULL
    of_keys.dq = of_keys.dmask = NULL
    cdef bint for_queries = d.dq != NULL or d.dmask != NULL, for_keys = d.dk != NULL or d.dv != NULL
    # Both in one go take five products a block, one after the other seven, but there are more tasks.
    if for_queries and for_keys and (threads == 1 or 5 * ceil_div(pairs, threads) * threads <= 7 * pairs):
        for i in prange(pairs, nogil=True, num_threads=<int>min(<Py_ssize_t>threads, pairs), schedule="dynamic"):
            backward_task(g, &d, i, i * g.group, (i + 1) * g.group, 0, g.t, 0, g.s, tmp.ptr + threadid() * nbytes)
        return
    if for_keys:
        tasks = pairs * key_blocks
        for i in prange(tasks, nogil=True, num_threads=<int>min(<Py_ssize_t>threads, tasks), schedule="dynamic"):
            backward_task(g, &of_keys, i // key_blocks, i // key_blocks * g.group, (i // key_blocks + 1) * g.group, 0,
                          g.t, i % key_blocks * KEYS, min(g.s, (i % key_blocks + 1) * KEYS),
                          tmp.ptr + threadid() * nbytes)
    if for_queries:
        tasks = g.heads * query_blocks
        for i in prange(tasks, nogil=True, num_threads=<int>min(<Py_ssize_t>threads, tasks), schedule="dynamic"):
            backward_task(g, &of_queries, i // query_blocks // g.group, i // query_blocks, i // query_blocks + 1,
                          i % query_blocks * QUERIES, min(g.t, (i % query_blocks + 1) * QUERIES), 0, g.s,
                          tmp.ptr + threadid() * nbytes)
