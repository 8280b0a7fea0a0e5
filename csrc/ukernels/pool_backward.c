/* The gradients of pooling, un-pooling, and the family's table.
 *
 * A pixel's gradient is the sum of what the windows over it give to it: of an average its share, of a maximum all or
 * nothing. Where few windows overlap, rows of pixels are computed from rows of windows, whole vectors at a time: pixels
 * are taken by column modulo sw, so that the windows over neighbouring ones are neighbours too.
 */

#undef SPREAD_GROUP
#define SPREAD_GROUP 2048 /* elements of rows of windows at a time */

/* Scratch of a thread: rows of windows of a group of planes, each between zeros (indices: -1), `pitch` apart; a sum of
 * such rows; a row of gradients, and the same by column modulo sw. Vectors are read across those that were written,
 * which has to wait until these have left the core: hence several small planes at a time. */
typedef struct {
    ptrdiff_t sw, taps; /* as in forward */
    ptrdiff_t vectors, lead, pitch, phase, group;
    real *divisors, *windows, *sum, *split, *row;
    inat *index;
    inat *start, *count; /* of adaptive windows */
} FN(spread_rows);

/* Lays the scratch out and returns its size in elements. */
FNN_INLINE ptrdiff_t FN(spread_layout)(const int index, const fnn_pool *p, real *scratch, FN(spread_rows) *b)
{
    const ptrdiff_t width = p->pw + p->w;
    b->sw = p->ow > 1 && p->kw ? p->sw : 1;
    b->taps = p->kw < width ? p->kw : width;
    b->vectors = round_up(p->ow, VL);
    b->phase = round_up((p->w + b->sw - 1) / b->sw, VL);
    const int alone = p->ow == 1 || !p->kw; /* nobody looks beside a row */
    const ptrdiff_t last = b->phase + (b->sw - 1 + p->pw) / b->sw; /* windows that the last vector of pixels looks at */
    b->lead = alone ? 0 : (b->taps - 1) / b->sw;
    b->pitch = alone ? b->vectors : round_up(b->lead + (b->vectors > last ? b->vectors : last), VL);
    b->group = SPREAD_GROUP / (p->oh * b->pitch) + 1;
    const ptrdiff_t windows = b->group * p->oh * b->pitch, columns = p->kw ? 0 : p->ow;
    b->divisors = scratch;
    b->windows = b->divisors + b->vectors;
    b->sum = b->windows + windows;
    b->split = b->sum + b->pitch;
    b->row = b->split + b->sw * b->phase;
    b->index = (inat *)(b->row + round_up(p->w, VL));
    b->start = b->index + (index ? windows : 0);
    b->count = b->start + columns;
    return (real *)(b->count + columns) - scratch;
}

/* The windows over pixel q*sw + f: first + q, …, first + q + count - 1. */
typedef struct {
    ptrdiff_t first, count;
} FN(spread_taps);

FNN_INLINE FN(spread_taps) FN(spread_phase)(const fnn_pool *p, const FN(spread_rows) *b, ptrdiff_t f)
{
    const ptrdiff_t tap = (f + p->pw) % b->sw; /* of the last of these windows, the next ones being sw on */
    FN(spread_taps) t = {(f + p->pw) / b->sw + 1, tap < b->taps ? (b->taps - 1 - tap) / b->sw + 1 : 0};
    t.first += b->lead - t.count;
    return t;
}

/* What `rows` rows of `count` windows from `windows` on give to the VL pixels whose plane indices are `pixel`. */
FNN_INLINE vec FN(spread_taps_sum)(const int select, const FN(spread_rows) *b, const real *windows, ptrdiff_t rows,
                                   ptrdiff_t count, ivec pixel)
{
    const ptrdiff_t to_index = b->index - (inat *)b->windows;
    vec acc = {0};
    for (ptrdiff_t u = 0; u < rows; u++, windows += b->pitch)
        for (ptrdiff_t k = 0; k < count; k++) {
            const vec v = vload(windows + k);
            if (select)
                acc += vsel((ivec)vload(windows + k + to_index) == pixel, v, (vec){0});
            else
                acc += v;
        }
    return acc;
}

/* The same with the loops unrolled for the usual windows. */
FNN_INLINE vec FN(spread_sum)(const int select, const FN(spread_rows) *b, const real *windows, ptrdiff_t rows,
                              ptrdiff_t count, ivec pixel)
{
    if (count == 1)
        return FN(spread_taps_sum)(select, b, windows, rows, 1, pixel);
    if (count == 2)
        return FN(spread_taps_sum)(select, b, windows, rows, 2, pixel);
    if (count == 3)
        return FN(spread_taps_sum)(select, b, windows, rows, 3, pixel);
    return FN(spread_taps_sum)(select, b, windows, rows, count, pixel);
}

/* out[0, w) = the gradients of a row of pixels, whose first has the plane index `at`, under `rows` rows of windows. */
FNN_INLINE void FN(spread_row)(const int select, const ptrdiff_t sw, const fnn_pool *p, const FN(spread_rows) *b,
                               const real *windows, ptrdiff_t rows, ptrdiff_t at, int past, real *out)
{
    const ptrdiff_t w = p->w;
    const ivec columns = viota() * (inat)sw + (inat)at;
    if (sw == 2) {
        const FN(spread_taps) even = FN(spread_phase)(p, b, 0), odd = FN(spread_phase)(p, b, 1);
        for (ptrdiff_t q = 0; 2 * q < w; q += VL) {
            const ivec pixel = columns + (inat)(2 * q);
            vec e, o;
            if (rows == 1 && even.count == 1 && odd.count == 1) { /* windows that do not overlap */
                e = FN(spread_sum)(select, b, windows + even.first + q, 1, 1, pixel);
                o = FN(spread_sum)(select, b, windows + odd.first + q, 1, 1, pixel + 1);
            } else {
                e = FN(spread_sum)(select, b, windows + even.first + q, rows, even.count, pixel);
                o = FN(spread_sum)(select, b, windows + odd.first + q, rows, odd.count, pixel + 1);
            }
            FN(pool_store)(past, out + 2 * q, vzip_lo(e, o), w - 2 * q);
            if (w > 2 * q + VL)
                FN(pool_store)(past, out + 2 * q + VL, vzip_hi(e, o), w - 2 * q - VL);
        }
        return;
    }
    for (ptrdiff_t f = 0; f < sw && f < w; f++) {
        const FN(spread_taps) t = FN(spread_phase)(p, b, f);
        const ptrdiff_t n = (w - f + sw - 1) / sw;
        real *to = sw == 1 ? out : b->split;
        for (ptrdiff_t q = 0; q < n; q += VL)
            FN(pool_store)(past && sw == 1, to + q,
                           FN(spread_sum)(select, b, windows + t.first + q, rows, t.count,
                                          columns + (inat)(sw * q + f)),
                           n - q);
        for (ptrdiff_t q = 0; sw > 1 && q < n; q++)
            out[q * sw + f] = to[q];
    }
}

/* The rows of windows over row r of pixels are [lo, hi). Both only grow with r. */
FNN_INLINE void FN(spread_range)(const fnn_pool *p, ptrdiff_t r, ptrdiff_t *lo, ptrdiff_t *hi)
{
    while (*hi < p->oh && pool_start(*hi, p->h, p->oh, p->kh, p->sh, p->ph) <= r)
        ++*hi;
    while (*lo < *hi && pool_end(*lo, p->h, p->oh, p->kh, p->sh, p->ph) <= r)
        ++*lo;
}

/* ---- maximum and minimum ---- */

/* dx = 0, then dx[index] += dy. Planes side by side: additions to one pixel follow each other, and wait. */
FNN_INLINE void FN(scatter)(ptrdiff_t pixels, ptrdiff_t outputs, ptrdiff_t planes, const real *dy, const inat *iy,
                            real *dx)
{
    enum { SIDE = 4 };
    ptrdiff_t n = round_up(4096 / pixels + 1, SIDE); /* as many as stay in the first-level cache until they are full */
    for (ptrdiff_t i = 0; i < planes; i += n) {
        if (n > planes - i)
            n = planes - i;
        memset(dx + i * pixels, 0, (size_t)(n * pixels) * sizeof(real));
        ptrdiff_t k = i;
        for (; k + SIDE <= i + n; k += SIDE)
            for (ptrdiff_t o = k * outputs; o < (k + 1) * outputs; o++)
#pragma GCC unroll 4
                for (ptrdiff_t t = 0; t < SIDE; t++)
                    dx[(k + t) * pixels + iy[o + t * outputs]] += dy[o + t * outputs];
        for (; k < i + n; k++)
            for (ptrdiff_t o = k * outputs; o < (k + 1) * outputs; o++)
                dx[k * pixels + iy[o]] += dy[o];
    }
}

/* Are there so few windows over a pixel that to look at all costs less than to scatter? */
FNN_INLINE int FN(pool_is_sparse)(const fnn_pool *p)
{
    return p->kh && p->kw && p->dh == 1 && p->dw == 1 && p->ow > 1 && p->sw <= 2 &&
           p->kh * p->kw <= 4 * p->sh * p->sw;
}

FNN_INLINE void FN(select_planes)(const ptrdiff_t sw, const fnn_pool *p, ptrdiff_t planes, const real *dy,
                                  const inat *iy, real *dx, const FN(spread_rows) *b)
{
    const ptrdiff_t all = b->group * p->oh * b->pitch;
    for (ptrdiff_t i = 0; i < all; i++)
        b->windows[i] = 0, b->index[i] = -1;
    const int past = FN(pool_past)(p, dx, p->w);
    for (ptrdiff_t i = 0; i < planes; i += b->group) {
        const ptrdiff_t group = planes - i < b->group ? planes - i : b->group;
        for (ptrdiff_t u = 0; u < group * p->oh; u++, dy += p->ow, iy += p->ow)
            for (ptrdiff_t v = 0; v < p->ow; v += VL) {
                const ptrdiff_t to = u * b->pitch + b->lead + v, n = p->ow - v;
                vstore_upto(b->windows + to, vload_upto(dy + v, n), n);
                vstore_upto((real *)b->index + to, vload_upto((const real *)iy + v, n), n);
            }
        for (ptrdiff_t k = 0; k < group; k++) {
            const real *windows = b->windows + k * p->oh * b->pitch;
            ptrdiff_t lo = 0, hi = 0;
            for (ptrdiff_t r = 0; r < p->h; r++, dx += p->w) {
                FN(spread_range)(p, r, &lo, &hi);
                FN(spread_row)(1, sw, p, b, windows + lo * b->pitch, hi - lo, r * p->w, past, dx);
            }
        }
    }
    vstream_end();
}

static void FN(index_pool_backward)(const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a, void *scratch)
{
    if (!FN(pool_is_sparse)(p)) {
        FN(scatter)(p->h * p->w, p->oh * p->ow, planes, a->src, a->index, a->dst);
        return;
    }
    FN(spread_rows) b;
    FN(spread_layout)(1, p, scratch, &b);
    if (p->sw == 2)
        FN(select_planes)(2, p, planes, a->src, a->index, a->dst, &b);
    else
        FN(select_planes)(1, p, planes, a->src, a->index, a->dst, &b);
}

static ptrdiff_t FN(index_pool_backward_scratch)(const fnn_pool *p)
{
    FN(spread_rows) b;
    return FN(pool_is_sparse)(p) ? FN(spread_layout)(1, p, 0, &b) * (ptrdiff_t)sizeof(real) : 0;
}

/* ---- averages and norms ---- */

/* What a window of `count` positions gives to each pixel under it, up to the factor pool_slope. */
FNN_INLINE vec FN(pool_share)(const int op, const fnn_pool *p, vec dy, vec y, vec count)
{
    if (op == POOL_AVG)
        return dy / count;
    dy *= vset1((real)(p->kh * p->kw)) / count;
    if (op == POOL_SQUARES)
        dy /= y;
    if (op == POOL_POWERS)
        dy *= FN(pool_power)(y, 1 - p->norm);
    /* nothing where the sum of powers is zero */
    const ivec zero = p->norm > 0 ? y == (vec){0} : (y == vset1(INFINITY)) | (y == vset1(-INFINITY));
    return vsel(zero, (vec){0}, dy);
}

FNN_INLINE vec FN(pool_slope)(const int op, const fnn_pool *p, vec x)
{
    return op == POOL_SQUARES ? x : FN(pool_power)(x, p->norm - 1);
}

/* dx[0, n) = gradients, times the slopes */
FNN_INLINE void FN(pool_put)(const int op, const fnn_pool *p, ptrdiff_t n, const real *row, const real *x, int past,
                            real *dx)
{
    for (ptrdiff_t c = 0; c < n; c += VL) {
        vec g = vload_upto(row + c, n - c);
        if (op > POOL_SUM)
            g *= FN(pool_slope)(op, p, vload_upto(x + c, n - c));
        FN(pool_store)(past, dx + c, g, n - c);
    }
}

/* One window that is the plane. */
FNN_INLINE void FN(avg_whole_backward)(const int op, const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a)
{
    const ptrdiff_t n = p->w;
    const real *dy = a->src, *x = a->x, *y = a->y;
    const vec count = vset1((real)(p->divisor ? p->divisor : n));
    real *dx = a->dst;
    const int past = FN(pool_past)(p, dx, n);
    for (ptrdiff_t i = 0; i < planes; i += VL) {
        const ptrdiff_t group = planes - i < VL ? planes - i : VL;
        const vec kept = op == POOL_AVG ? (vec){0} : vload_upto(y + i, group);
        real shares[VL];
        vstore(shares, FN(pool_share)(op, p, vload_upto(dy + i, group), kept, count));
        for (ptrdiff_t k = 0; k < group; k++, dx += n)
            for (ptrdiff_t c = 0; c < n; c += VL) {
                vec share = vset1(shares[k]);
                if (op > POOL_SUM)
                    share *= FN(pool_slope)(op, p, vload_upto(x + (i + k) * n + c, n - c));
                FN(pool_store)(past, dx + c, share, n - c);
            }
    }
    vstream_end();
}

/* b->row = the gradients of a row of pixels under `rows` rows of windows */
FNN_INLINE void FN(avg_backward_row)(const fnn_pool *p, const FN(spread_rows) *b, const real *windows, ptrdiff_t rows)
{
    if (rows != 1) {
        for (ptrdiff_t v = 0; v < b->pitch; v += VL) {
            vec acc = {0};
            for (ptrdiff_t u = 0; u < rows; u++)
                acc += vload(windows + u * b->pitch + v);
            vstore(b->sum + v, acc);
        }
        windows = b->sum;
    }
    if (p->ow == 1) { /* every pixel of the window gets the same */
        for (ptrdiff_t c = 0; c < b->taps - p->pw; c += VL)
            vstore_upto(b->row + c, vset1(*windows), b->taps - p->pw - c);
    } else if (!p->kw) {
        for (ptrdiff_t c = 0; c < p->w; c++)
            b->row[c] = 0;
        for (ptrdiff_t v = 0; v < p->ow; v++)
            for (ptrdiff_t c = b->start[v]; c < b->start[v] + b->count[v]; c++)
                b->row[c] += windows[v];
    } else if (b->sw == 1) {
        FN(spread_row)(0, 1, p, b, windows, 1, 0, 0, b->row);
    } else if (b->sw == 2) {
        FN(spread_row)(0, 2, p, b, windows, 1, 0, 0, b->row);
    } else {
        FN(spread_row)(0, b->sw, p, b, windows, 1, 0, 0, b->row);
    }
}

/* Rows of pixels under the same rows of windows are equal, and computed once. */
FNN_INLINE void FN(avg_planes_backward)(const int op, const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a,
                                        real *scratch)
{
    if (pool_is_whole(p)) {
        FN(avg_whole_backward)(op, p, planes, a);
        return;
    }
    const real *dy = a->src, *x = a->x, *y = a->y;
    FN(spread_rows) b;
    const ptrdiff_t size = FN(spread_layout)(0, p, scratch, &b);
    for (ptrdiff_t i = 0; i < size; i++)
        scratch[i] = 0;
    FN(pool_divisors)(p, b.vectors, b.divisors);
    if (!p->kw)
        FN(pool_columns)(p, b.start, b.count);
    real *dx = a->dst;
    const int past = FN(pool_past)(p, dx, p->w);
    for (ptrdiff_t i = 0; i < planes; i += b.group) {
        const ptrdiff_t group = planes - i < b.group ? planes - i : b.group;
        real *windows = b.windows + b.lead;
        for (ptrdiff_t k = 0; k < group; k++)
            for (ptrdiff_t u = 0; u < p->oh; u++, dy += p->ow, windows += b.pitch) {
                const vec rows = vset1((real)FN(pool_rows_divisor)(p, u));
                for (ptrdiff_t v = 0; v < p->ow; v += VL) {
                    const ptrdiff_t n = p->ow - v;
                    const vec kept = op == POOL_AVG ? (vec){0} : vload_upto(y + v, n);
                    const vec count = rows * vload(b.divisors + v);
                    vstore_upto(windows + v, FN(pool_share)(op, p, vload_upto(dy + v, n), kept, count), n);
                }
                if (op != POOL_AVG)
                    y += p->ow;
            }
        for (ptrdiff_t k = 0; k < group; k++) {
            ptrdiff_t lo = 0, hi = 0;
            for (ptrdiff_t r = 0; r < p->h; r++, dx += p->w) {
                const ptrdiff_t old_lo = lo, old_hi = hi;
                FN(spread_range)(p, r, &lo, &hi);
                if (r == 0 || lo != old_lo || hi != old_hi)
                    FN(avg_backward_row)(p, &b, b.windows + (k * p->oh + lo) * b.pitch, hi - lo);
                FN(pool_put)(op, p, p->w, b.row, x, past, dx);
                if (op != POOL_AVG)
                    x += p->w;
            }
        }
    }
    vstream_end();
}

static void FN(avg_pool_backward)(const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a, void *scratch)
{
    FN(avg_planes_backward)(POOL_AVG, p, planes, a, scratch);
}

static void FN(lp_pool_backward)(const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a, void *scratch)
{
    if (p->norm == 1)
        FN(avg_planes_backward)(POOL_SUM, p, planes, a, scratch);
    else if (p->norm == 2)
        FN(avg_planes_backward)(POOL_SQUARES, p, planes, a, scratch);
    else
        FN(avg_planes_backward)(POOL_POWERS, p, planes, a, scratch);
}

static ptrdiff_t FN(avg_pool_backward_scratch)(const fnn_pool *p)
{
    FN(spread_rows) b;
    return pool_is_whole(p) ? 0 : FN(spread_layout)(0, p, 0, &b) * (ptrdiff_t)sizeof(real);
}

/* ---- un-pooling ---- */

/* y = 0, then y[index] = x: planes of oh x ow onto planes of h x w */
static void FN(max_unpool)(const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a, void *scratch)
{
    (void)scratch;
    const ptrdiff_t pixels = p->h * p->w, outputs = p->oh * p->ow;
    const real *x = a->src;
    const int64_t *at = a->index;
    real *y = a->dst;
    for (ptrdiff_t i = 0; i < planes; i++, x += outputs, at += outputs, y += pixels) {
        memset(y, 0, (size_t)pixels * sizeof(real));
        for (ptrdiff_t o = 0; o < outputs; o++)
            y[at[o]] = x[o];
    }
}

/* dx = dy[index] */
static void FN(max_unpool_backward)(const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a, void *scratch)
{
    (void)scratch;
    const ptrdiff_t pixels = p->h * p->w, outputs = p->oh * p->ow;
    const real *dy = a->src;
    const int64_t *at = a->index;
    real *dx = a->dst;
    for (ptrdiff_t i = 0; i < planes; i++, dx += outputs, at += outputs, dy += pixels)
        for (ptrdiff_t o = 0; o < outputs; o++)
            dx[o] = dy[at[o]];
}

static const fnn_pool_ukernels FN(pool_ukernels) = {
    .scratch = FN(pool_scratch),
    .max = FN(max_pool),
    .min = FN(min_pool),
    .avg = FN(avg_pool),
    .lp = FN(lp_pool),
    .index_backward_scratch = FN(index_pool_backward_scratch),
    .index_backward = FN(index_pool_backward),
    .avg_backward_scratch = FN(avg_pool_backward_scratch),
    .avg_backward = FN(avg_pool_backward),
    .lp_backward = FN(lp_pool_backward),
    .unpool = FN(max_unpool),
    .unpool_backward = FN(max_unpool_backward),
    .subsample = FN(subsample),
    .subsample_backward = FN(subsample_backward),
};
