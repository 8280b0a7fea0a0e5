/* Pooling of planes: each output is the maximum, minimum or sum of a window of kh x kw pixels.
 *
 * A row of outputs is made in two steps, so that a window costs kh + kw operations and not kh * kw. Down: the rows
 * under the window are reduced to one, whole vectors at a time whatever the stride, between margins that hold the
 * identity of the reduction (the padding). Across: that row is split by column modulo sw, so that every tap of a
 * vector of outputs is a contiguous load, and the taps are reduced.
 */

#undef FNN_NO_INDEX
#define FNN_NO_INDEX ((inat)(FNN_BITS == 32 ? INT32_MAX : INT64_MAX)) /* of padding */

#ifndef FNN_POOL_H /* what both element types share */
#define FNN_POOL_H
enum { POOL_MAX, POOL_MIN, POOL_AVG };

/* How many positions window o covers on an axis of `size` pixels. Padding counts as pixels on request, but what
 * ceil_mode adds behind it never does. */
FNN_INLINE ptrdiff_t pool_count(ptrdiff_t o, ptrdiff_t size, ptrdiff_t kernel, ptrdiff_t stride, ptrdiff_t pad,
                                int include_pad)
{
    const ptrdiff_t start = o * stride - pad, end = start + kernel, limit = include_pad ? size + pad : size;
    return (end < limit ? end : limit) - (include_pad || start > 0 ? start : 0);
}

FNN_INLINE ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t step) { return (n + step - 1) / step * step; }
#endif

/* Scratch of a thread. The row is sw*phase long: pw of padding, w pixels, padding. Split, element q of phase f is
 * column q*sw + f; at stride 1 row and split are one. irow and isplit are the same for plane indices. That is four
 * rows of the image, or, when strides are so long that a phase is shorter than a vector, of sw vectors. */
typedef struct {
    ptrdiff_t sw, taps;   /* stride across, 1 if there is one column of windows only; taps that can meet a pixel */
    ptrdiff_t width;      /* columns in use */
    ptrdiff_t phase;      /* elements of a phase */
    ptrdiff_t turn, step; /* the next tap is `turn` phases on, modulo sw, and that is `step` elements */
    real *row, *split, *divisors;
    inat *irow, *isplit;
} FN(pool_rows);

/* Lays the scratch out and returns its size in elements. */
FNN_INLINE ptrdiff_t FN(pool_layout)(const fnn_pool *p, real *scratch, FN(pool_rows) *b)
{
    const ptrdiff_t sw = p->ow > 1 ? p->sw : 1, pixels = p->pw + p->w, meet = (pixels - 1) / p->dw + 1;
    b->sw = sw;
    b->taps = p->kw < meet ? p->kw : meet;
    const ptrdiff_t reach = (b->taps - 1) * p->dw, vectors = round_up(p->ow, VL);
    const ptrdiff_t last = (p->ow - 1) * sw + reach + 1;
    b->width = last > pixels ? last : pixels;
    const ptrdiff_t tails = vectors + reach / sw, all = (b->width + sw - 1) / sw;
    b->phase = round_up(tails > all ? tails : all, VL);
    b->turn = p->dw % sw;
    b->step = p->dw / sw + b->turn * b->phase;
    const ptrdiff_t n = sw * b->phase, split = sw > 1 ? n : 0;
    b->row = scratch;
    b->split = b->row + split;
    b->irow = (inat *)(b->split + n);
    b->isplit = b->irow + split;
    b->divisors = (real *)(b->isplit + n);
    return 2 * (n + split) + vectors;
}

FNN_INLINE real FN(pool_identity)(const int op)
{
    return op == POOL_AVG ? 0 : op == POOL_MAX ? -(real)INFINITY : (real)INFINITY;
}

FNN_INLINE vec FN(pool_reduce)(const int op, vec acc, vec x)
{
    if (op == POOL_AVG)
        return acc + x;
    return vsel(x != x, x, op == POOL_MAX ? vmax(x, acc) : vmin(x, acc)); /* these keep a NaN in acc, but not in x */
}

/* Lanes in which x replaces the extremum so far: it is better, or the first NaN. */
FNN_INLINE ivec FN(pool_better)(const int op, vec best, vec x)
{
    return ~(op == POOL_MAX ? x <= best : x >= best) & (best == best);
}

/* Reduces n columns, VL at most, of `taps` rows that are `step` elements apart; first: the plane index of x. */
FNN_INLINE void FN(pool_down_n)(const int op, const int index, ptrdiff_t taps, ptrdiff_t step, const real *x,
                                ptrdiff_t first, ptrdiff_t n, real *row, inat *irow)
{
    vec acc = vload_upto(x, n);
    ivec at = viota() + (inat)first, best = at;
    for (ptrdiff_t i = 1; i < taps; i++) {
        x += step;
        const vec v = vload_upto(x, n);
        if (index) {
            at += (inat)step;
            best = (ivec)vsel(FN(pool_better)(op, acc, v), (vec)at, (vec)best);
        }
        acc = FN(pool_reduce)(op, acc, v);
    }
    vstore_upto(row, acc, n);
    if (index)
        vstore_upto((real *)irow, (vec)best, n);
}

FNN_INLINE void FN(pool_down)(const int op, const int index, ptrdiff_t taps, const fnn_pool *p, const real *x,
                              ptrdiff_t first, const FN(pool_rows) *b)
{
    const ptrdiff_t w = p->w, step = p->dh * w;
    real *row = b->row + p->pw;
    inat *irow = b->irow + p->pw;
    if (w < VL) {
        FN(pool_down_n)(op, index, taps, step, x, first, w, row, irow);
        return;
    }
    for (ptrdiff_t c = 0; c < w; c += VL) {
        if (c > w - VL) /* the last vector overlaps the one before */
            c = w - VL;
        FN(pool_down_n)(op, index, taps, step, x + c, first + c, VL, row + c, irow + c);
    }
}

/* split[f][q] = row[q*sw + f] */
FNN_INLINE void FN(pool_split)(ptrdiff_t sw, ptrdiff_t phases, ptrdiff_t phase, ptrdiff_t width, const real *row,
                               real *split)
{
    if (sw == 2) {
        for (ptrdiff_t q = 0; 2 * q < width; q += VL) {
            const vec a = vload(row + 2 * q), b = vload(row + 2 * q + VL);
            vstore(split + q, veven(a, b));
            vstore(split + phase + q, vodd(a, b));
        }
        return;
    }
    for (ptrdiff_t f = 0; f < phases; f++)
        for (ptrdiff_t q = 0; q * sw + f < width; q++)
            split[f * phase + q] = row[q * sw + f];
}

/* The divisor of the average at output (u, v) is rows_divisor(u) * divisors[v]. */
FNN_INLINE ptrdiff_t FN(pool_rows_divisor)(const fnn_pool *p, ptrdiff_t u)
{
    return p->divisor ? p->divisor : pool_count(u, p->h, p->kh, p->sh, p->ph, p->include_pad);
}

FNN_INLINE void FN(pool_divisors)(const fnn_pool *p, ptrdiff_t vectors, real *divisors)
{
    for (ptrdiff_t v = 0; v < vectors; v++) /* 1 where nobody looks: no trap, no subnormal arithmetic */
        divisors[v] = p->divisor || v >= p->ow ? 1 : (real)pool_count(v, p->w, p->kw, p->sw, p->pw, p->include_pad);
}

/* The taps of a vector of outputs are a walk over the phases. */
#define FNN_NEXT_TAP(tap, f) (tap += (f += turn) < sw ? step : (f -= sw, step + 1 - sw * b->phase))

FNN_INLINE void FN(pool_across)(const int op, const int index, const ptrdiff_t taps, const ptrdiff_t sw,
                                const ptrdiff_t turn, const ptrdiff_t step, const fnn_pool *p, const FN(pool_rows) *b, ptrdiff_t u, real *y, inat *iy)
{
    if (sw > 1) {
        const ptrdiff_t reach = (taps - 1) * p->dw, phases = reach < sw ? reach + 1 : sw;
        FN(pool_split)(sw, phases, b->phase, b->width, b->row, b->split);
        if (index)
            FN(pool_split)(sw, phases, b->phase, b->width, (const real *)b->irow, (real *)b->isplit);
    }
    const ptrdiff_t to_index = (const real *)b->isplit - b->split;
    const vec rows = vset1(op == POOL_AVG ? (real)FN(pool_rows_divisor)(p, u) : 1);
    for (ptrdiff_t v = 0; v < p->ow; v += VL) {
        const ptrdiff_t n = p->ow - v;
        const real *tap = b->split + v;
        ptrdiff_t f = 0;
        vec acc = vload(tap);
        for (ptrdiff_t j = 1; j < taps; j++) {
            FNN_NEXT_TAP(tap, f);
            acc = FN(pool_reduce)(op, acc, vload(tap));
        }
        if (op == POOL_AVG)
            acc /= rows * vload(b->divisors + v);
        vstore_upto(y + v, acc, n);
        if (!index)
            continue;
        /* Down, the upper row won a tie; across, the least plane index does. That of padding is the largest. */
        ivec best = (ivec){0} + FNN_NO_INDEX;
        tap = b->split + v, f = 0;
        for (ptrdiff_t j = 0; j < taps; j++) {
            const vec x = vload(tap);
            const ivec i = (ivec)vload(tap + to_index);
            best = (ivec)vsel(((x == acc) | (x != x)) & (i < best), (vec)i, (vec)best);
            FNN_NEXT_TAP(tap, f);
        }
        vstore_upto((real *)iy + v, (vec)best, n);
    }
}
#undef FNN_NEXT_TAP

/* The same for one output, whose taps are neighbours: vectors of taps, then the lanes of one. */
FNN_INLINE void FN(pool_across_one)(const int op, const int index, const fnn_pool *p, const FN(pool_rows) *b,
                                    ptrdiff_t u, real *y, inat *iy)
{
    const vec identity = vset1(FN(pool_identity)(op));
    vec acc = identity;
    for (ptrdiff_t j = 0; j < b->taps; j += VL)
        acc = FN(pool_reduce)(op, acc, vsel(viota() < (inat)(b->taps - j), vload(b->row + j), identity));
    for (ptrdiff_t lanes = VL; lanes > 1; lanes /= 2)
        acc = FN(pool_reduce)(op, veven(acc, acc), vodd(acc, acc));
    *y = op == POOL_AVG ? acc[0] / ((real)FN(pool_rows_divisor)(p, u) * b->divisors[0]) : acc[0];
    if (!index)
        return;
    ivec best = (ivec){0} + FNN_NO_INDEX;
    for (ptrdiff_t j = 0; j < b->taps; j += VL) {
        const vec x = vload(b->row + j);
        const ivec i = (ivec)vload((const real *)b->irow + j);
        const ivec mine = viota() < (inat)(b->taps - j);
        best = (ivec)vsel(((x == acc) | (x != x)) & (i < best) & mine, (vec)i, (vec)best);
    }
    for (ptrdiff_t lanes = VL; lanes > 1; lanes /= 2) {
        const ivec even = (ivec)veven((vec)best, (vec)best), odd = (ivec)vodd((vec)best, (vec)best);
        best = (ivec)vsel(even < odd, (vec)even, (vec)odd);
    }
    *iy = best[0];
}

/* Pools `planes` planes of h x w into planes of oh x ow. */
FNN_INLINE void FN(pool_planes)(const int op, const int index, const fnn_pool *p, ptrdiff_t planes, const real *x,
                                real *y, inat *iy, real *scratch)
{
    FN(pool_rows) b;
    FN(pool_layout)(p, scratch, &b);
    const ptrdiff_t row = b.sw * b.phase * (b.sw > 1 ? 2 : 1);
    for (ptrdiff_t i = 0; i < row; i++)
        b.row[i] = FN(pool_identity)(op);
    for (ptrdiff_t i = 0; index && i < row; i++)
        b.irow[i] = FNN_NO_INDEX;
    if (op == POOL_AVG)
        FN(pool_divisors)(p, round_up(p->ow, VL), b.divisors);
    for (ptrdiff_t i = 0; i < planes; i++, x += p->h * p->w) {
        for (ptrdiff_t u = 0; u < p->oh; u++, y += p->ow, iy += index ? p->ow : 0) {
            /* the taps inside the image */
            ptrdiff_t start = u * p->sh - p->ph, taps = p->kh;
            const ptrdiff_t above = start < 0 ? (p->dh - 1 - start) / p->dh : 0;
            if (start + (taps - 1) * p->dh >= p->h)
                taps = (p->h - start + p->dh - 1) / p->dh;
            start += above * p->dh;
            taps -= above;
            /* the loops over the taps unrolled for the usual windows, 2x2 and 3x3 */
            const real *first = x + start * p->w;
            if (taps == 2)
                FN(pool_down)(op, index, 2, p, first, start * p->w, &b);
            else if (taps == 3)
                FN(pool_down)(op, index, 3, p, first, start * p->w, &b);
            else
                FN(pool_down)(op, index, taps, p, first, start * p->w, &b);
            if (p->dw == 1 && p->ow == 1 && b.taps > 4)
                FN(pool_across_one)(op, index, p, &b, u, y, iy);
            else if (p->dw == 1 && b.sw == 2 && b.taps == 2)
                FN(pool_across)(op, index, 2, 2, 1, b.phase, p, &b, u, y, iy);
            else if (p->dw == 1 && b.sw == 2 && b.taps == 3)
                FN(pool_across)(op, index, 3, 2, 1, b.phase, p, &b, u, y, iy);
            else if (p->dw == 1 && b.sw == 1 && b.taps == 3)
                FN(pool_across)(op, index, 3, 1, 0, 1, p, &b, u, y, iy);
            else
                FN(pool_across)(op, index, b.taps, b.sw, b.turn, b.step, p, &b, u, y, iy);
        }
    }
}

static void FN(max_pool)(const fnn_pool *p, ptrdiff_t planes, const void *x, void *y, void *index, void *scratch)
{
    if (index)
        FN(pool_planes)(POOL_MAX, 1, p, planes, x, y, index, scratch);
    else
        FN(pool_planes)(POOL_MAX, 0, p, planes, x, y, 0, scratch);
}

static void FN(min_pool)(const fnn_pool *p, ptrdiff_t planes, const void *x, void *y, void *index, void *scratch)
{
    if (index)
        FN(pool_planes)(POOL_MIN, 1, p, planes, x, y, index, scratch);
    else
        FN(pool_planes)(POOL_MIN, 0, p, planes, x, y, 0, scratch);
}

static void FN(avg_pool)(const fnn_pool *p, ptrdiff_t planes, const void *x, void *y, void *index, void *scratch)
{
    (void)index;
    FN(pool_planes)(POOL_AVG, 0, p, planes, x, y, 0, scratch);
}

/* dx = 0, then dx[index] += dy */
static void FN(index_pool_backward)(const fnn_pool *p, ptrdiff_t planes, const void *dy_, void *dx_, void *index,
                                    void *scratch)
{
    (void)scratch;
    const real *dy = dy_;
    const inat *iy = index;
    real *dx = dx_;
    const ptrdiff_t pixels = p->h * p->w, outputs = p->oh * p->ow;
    for (ptrdiff_t i = 0; i < planes; i++, dx += pixels, dy += outputs, iy += outputs) {
        memset(dx, 0, (size_t)pixels * sizeof(real));
        for (ptrdiff_t o = 0; o < outputs; o++)
            dx[iy[o]] += dy[o];
    }
}

/* Scratch of avg_pool_backward: quotients dy / divisor of a plane, its largest part; a sum of rows of them, between
 * zeros; a row of gradients by phase, and in order. */
typedef struct {
    ptrdiff_t sw, taps; /* as in forward */
    ptrdiff_t vectors, lead, sums, phase;
    real *divisors, *quotients, *sum, *split, *row;
} FN(avg_rows);

/* Lays the scratch out and returns its size in elements. */
FNN_INLINE ptrdiff_t FN(avg_layout)(const fnn_pool *p, real *scratch, FN(avg_rows) *b)
{
    const ptrdiff_t width = p->pw + p->w;
    b->sw = p->ow > 1 ? p->sw : 1;
    b->taps = p->kw < width ? p->kw : width;
    b->vectors = round_up(p->ow, VL);
    b->lead = (b->taps - 1) / b->sw;
    b->phase = round_up((width + b->sw - 1) / b->sw, VL);
    b->sums = b->lead + (b->vectors > b->phase ? b->vectors : b->phase);
    b->divisors = scratch;
    b->quotients = b->divisors + b->vectors;
    b->sum = b->quotients + p->oh * b->vectors;
    b->split = b->sum + b->sums;
    b->row = b->split + b->sw * b->phase;
    return (1 + p->oh) * b->vectors + b->sums + 2 * b->sw * b->phase + VL; /* the last read of the row may be long */
}

/* b->row = the gradients of a row of pixels under the rows of windows [lo, hi), from the left padding on */
FNN_INLINE void FN(avg_backward_row)(const fnn_pool *p, const FN(avg_rows) *b, ptrdiff_t lo, ptrdiff_t hi)
{
    const ptrdiff_t sw = b->sw, width = p->pw + p->w;
    if (p->ow == 1) { /* every pixel of the window gets the same */
        real sum = 0;
        for (ptrdiff_t u = lo; u < hi; u++)
            sum += b->quotients[u * b->vectors];
        for (ptrdiff_t j = 0; j < b->taps; j += VL)
            vstore_upto(b->row + j, vset1(sum), b->taps - j);
        return;
    }
    for (ptrdiff_t v = 0; v < b->vectors; v += VL) {
        vec acc = {0};
        for (ptrdiff_t u = lo; u < hi; u++)
            acc += vload(b->quotients + u * b->vectors + v);
        vstore(b->sum + b->lead + v, acc);
    }
    real *split = sw > 1 ? b->split : b->row;
    for (ptrdiff_t f = 0; f < sw && f < width; f++)
        for (ptrdiff_t q = 0; q < b->phase; q += VL) {
            vec acc = {0};
            const real *s = b->sum + b->lead + q;
            for (ptrdiff_t j = f; j < b->taps; j += sw)
                acc += vload(s--);
            vstore(split + f * b->phase + q, acc);
        }
    if (sw == 2)
        for (ptrdiff_t q = 0; q < b->phase; q += VL) {
            const vec even = vload(split + q), odd = vload(split + b->phase + q);
            vstore(b->row + 2 * q, vzip_lo(even, odd));
            vstore(b->row + 2 * q + VL, vzip_hi(even, odd));
        }
    else if (sw > 2)
        for (ptrdiff_t f = 0; f < sw; f++)
            for (ptrdiff_t q = 0; q * sw + f < width; q++)
                b->row[q * sw + f] = split[f * b->phase + q];
}

/* A pixel's gradient is the sum of the quotients of the windows over it. Rows of pixels under the same rows of windows
 * are equal, and computed once. */
static void FN(avg_pool_backward)(const fnn_pool *p, ptrdiff_t planes, const void *dy_, void *dx_, void *index,
                                  void *scratch)
{
    (void)index;
    const real *dy = dy_;
    real *dx = dx_;
    FN(avg_rows) b;
    FN(avg_layout)(p, scratch, &b);
    FN(pool_divisors)(p, b.vectors, b.divisors);
    for (ptrdiff_t i = 0; i < b.sums; i++)
        b.sum[i] = 0;
    for (ptrdiff_t i = 0; i < b.sw * b.phase; i++) /* what is not in the only window of a row */
        b.row[i] = 0;
    for (ptrdiff_t i = 0; i < planes; i++) {
        for (ptrdiff_t u = 0; u < p->oh; u++, dy += p->ow) {
            const vec rows = vset1((real)FN(pool_rows_divisor)(p, u));
            real *quotients = b.quotients + u * b.vectors;
            for (ptrdiff_t v = 0; v < p->ow; v += VL)
                vstore(quotients + v, vload_upto(dy + v, p->ow - v) / (rows * vload(b.divisors + v)));
        }
        ptrdiff_t lo = 0, hi = 0; /* rows of windows over row r of pixels */
        for (ptrdiff_t r = 0; r < p->h; r++, dx += p->w) {
            const ptrdiff_t old_lo = lo, old_hi = hi;
            while (hi < p->oh && hi * p->sh - p->ph <= r)
                hi++;
            while (lo < hi && lo * p->sh - p->ph + p->kh <= r)
                lo++;
            if (r == 0 || lo != old_lo || hi != old_hi)
                FN(avg_backward_row)(p, &b, lo, hi);
            for (ptrdiff_t c = 0; c < p->w; c += VL)
                vstore_upto(dx + c, vload(b.row + p->pw + c), p->w - c);
        }
    }
}

/* row[t] = image[t*step], or the other way round, t < count */
FNN_INLINE void FN(subsample_row)(const int spread, ptrdiff_t count, ptrdiff_t step, real *image, real *row)
{
    ptrdiff_t t = 0;
    if (step == 1) {
        memcpy(spread ? image : row, spread ? row : image, (size_t)count * sizeof(real));
        return;
    }
    if (step == 2)
        for (; t + VL < count; t += VL) { /* strictly: the odd neighbour of the last is touched too, and stays zero */
            real *pixels = image + 2 * t;
            if (spread) {
                vstore(pixels, vzip_lo(vload(row + t), (vec){0}));
                vstore(pixels + VL, vzip_hi(vload(row + t), (vec){0}));
            } else {
                vstore(row + t, veven(vload(pixels), vload(pixels + VL)));
            }
        }
#pragma GCC unroll 4
    for (; t < count; t++) {
        if (spread)
            image[t * step] = row[t];
        else
            row[t] = image[t * step];
    }
}

/* y = the windows' only pixel, x[u*sh - ph][v*sw - pw], or the other way round */
FNN_INLINE void FN(subsample_planes)(const int spread, const fnn_pool *p, ptrdiff_t planes, real *x, real *y)
{
    /* Loops over columns, rows and planes of y, each with its step in x; those of one turn are dropped, and those
     * that go on where the one inside them ends are joined with it. */
    const ptrdiff_t counts[3] = {p->ow, p->oh, planes}, steps[3] = {p->sw, p->sh * p->w, p->h * p->w};
    ptrdiff_t count[3] = {1, 1, 1}, step[3] = {1, 1, 1};
    int n = 0;
    for (int i = 0; i < 3; i++) {
        if (counts[i] == 1)
            continue;
        if (n && steps[i] == step[n - 1] * count[n - 1])
            count[n - 1] *= counts[i];
        else
            count[n] = counts[i], step[n++] = steps[i];
    }
    x -= p->ph * p->w + p->pw;
    for (ptrdiff_t k = 0; k < count[2]; k++)
        for (ptrdiff_t j = 0; j < count[1]; j++, y += count[0])
            FN(subsample_row)(spread, count[0], step[0], x + k * step[2] + j * step[1], y);
}

static void FN(subsample)(const fnn_pool *p, ptrdiff_t planes, const void *x, void *y, void *index, void *scratch)
{
    (void)index, (void)scratch;
    FN(subsample_planes)(0, p, planes, (real *)x, y);
}

static void FN(subsample_backward)(const fnn_pool *p, ptrdiff_t planes, const void *dy, void *dx, void *index,
                                   void *scratch)
{
    (void)index, (void)scratch;
    const ptrdiff_t pixels = p->h * p->w, outputs = p->oh * p->ow;
    ptrdiff_t n = 8192 / pixels + 1; /* planes at a time, few enough to be in the first-level cache the second time */
    for (ptrdiff_t i = 0; i < planes; i += n) {
        if (n > planes - i)
            n = planes - i;
        if (outputs < pixels)
            memset((real *)dx + i * pixels, 0, (size_t)(n * pixels) * sizeof(real));
        FN(subsample_planes)(1, p, n, (real *)dx + i * pixels, (real *)dy + i * outputs);
    }
}

static ptrdiff_t FN(pool_scratch)(const fnn_pool *p)
{
    FN(pool_rows) b;
    return FN(pool_layout)(p, 0, &b) * (ptrdiff_t)sizeof(real);
}

static ptrdiff_t FN(avg_pool_backward_scratch)(const fnn_pool *p)
{
    FN(avg_rows) b;
    return FN(avg_layout)(p, 0, &b) * (ptrdiff_t)sizeof(real);
}

static const fnn_pool_ukernels FN(pool_ukernels) = {
    .scratch = FN(pool_scratch),
    .max = FN(max_pool),
    .min = FN(min_pool),
    .avg = FN(avg_pool),
    .index_backward = FN(index_pool_backward),
    .avg_backward_scratch = FN(avg_pool_backward_scratch),
    .avg_backward = FN(avg_pool_backward),
    .subsample = FN(subsample),
    .subsample_backward = FN(subsample_backward),
};
