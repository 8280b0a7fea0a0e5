/* Images resampled along both axes: zero-insertion (whose backward pass is sub-sampling, pool.c), nearest pixel, linear
 * interpolation.
 *
 * Everything is a gather, and separable. Forward, a row of results is made of the one or two rows under it, reduced to
 * one, and then across by tables: the pixels under a vector of results lie in a window that is hardly ever longer
 * than a vector (never, if there are no fewer results than pixels), so that permutations of one or two loads give
 * them. Backward, the rows of gradients that took part of a row of pixels are added up by their weights, and then each
 * pixel across likewise. Scale 2, the usual one, needs no tables across for interpolation: neighbours are interleaved.
 */

#ifndef FNN_UPSAMPLE_H /* what both element types share */
#define FNN_UPSAMPLE_H
enum { FNN_AHEAD = 4096 }; /* bytes that gradients are prefetched ahead */

/* Of result o on an axis: the pixel that it takes, or the first of two. weight: of the second, which is the next one, or
 * the same at the end. */
FNN_INLINE ptrdiff_t source_of(int mode, const fnn_axis *a, ptrdiff_t o, double *weight)
{
    *weight = 0;
    if (mode == FNN_ZEROS)
        return o / (a->out / a->n);
    if (mode == FNN_LINEAR) {
        if (a->n == a->out)
            return o;
        /* Rounded apart, and not contracted to a fused multiply-add, so that the reference gets the same number. */
        volatile double product = a->scale * (a->aligned ? (double)o : (double)o + 0.5);
        double at = a->aligned ? product : product - 0.5;
        at = at < 0 ? 0 : at;
        ptrdiff_t i = (ptrdiff_t)at;
        i = i < a->n ? i : a->n - 1;
        *weight = at - (double)i < 1 ? at - (double)i : 1;
        return i;
    }
    const ptrdiff_t i = (ptrdiff_t)((float)a->scale * (float)o); /* in single precision for either type, as PyTorch */
    return i < a->n ? i : a->n - 1;
}

/* The pixel under result o, and linear the next, are halfway between results: scale 2. */
FNN_INLINE int is_double(const fnn_axis *a) { return a->out == 2 * a->n && a->scale == 0.5 && !a->aligned; }
#endif

/* Tables of either pass, in one block of memory, shared by all threads. */
typedef struct {
    ptrdiff_t *row;  /* [oh] the pixel row under a row of results */
    real *down;      /* [oh] and the weight of the one after it */
    ptrdiff_t *rows; /* [h + 1] the first row of results from pixel row i or later: backward */
    /* forward across: of vector v, the first pixel; of each result, its pixel from there, and the two weights */
    ptrdiff_t *base;
    inat *lane;
    real *left, *right;
    int window; /* vectors that all windows fit: 1, 2, or 0 for more */
    /* backward across: of tap t of a pixel, the column of the gradient, that of a zero if there is none, and its weight.
     * taps 0: nothing, there are twice as many results as pixels; fewer results: the pixel of each column, and the
     * weight of the next one */
    ptrdiff_t taps, vectors;
    inat *column;
    real *weight;
} FN(resample_tables);

FNN_INLINE ptrdiff_t FN(resample_round)(ptrdiff_t n) { return (n + VL - 1) / VL * VL; }

/* The most results that one pixel of an axis is part of. */
FNN_INLINE ptrdiff_t FN(resample_taps)(int mode, const fnn_axis *a)
{
    ptrdiff_t most = 0, before = 0, now = 0, pixel = 0;
    double weight;
    for (ptrdiff_t o = 0; o < a->out; o++) {
        const ptrdiff_t i = source_of(mode, a, o, &weight);
        if (i != pixel) {
            before = i == pixel + 1 ? now : 0;
            pixel = i, now = 0;
        }
        now++;
        const ptrdiff_t taps = mode == FNN_LINEAR ? before + now : now;
        most = taps > most ? taps : most;
    }
    return most;
}

/* Lays the tables out and returns their size in bytes. */
FNN_INLINE ptrdiff_t FN(resample_layout)(const fnn_resample *g, int backward, char *memory, FN(resample_tables) *t)
{
    const ptrdiff_t vectors = FN(resample_round)(g->x.out);
    t->row = (ptrdiff_t *)memory;
    t->rows = t->row + g->y.out;
    t->base = t->rows + g->y.n + 1;
    t->down = (real *)(t->base + vectors / VL);
    if (!backward) {
        t->left = t->down + g->y.out;
        t->right = t->left + vectors;
        t->lane = (inat *)(t->right + vectors);
        return (char *)(t->lane + vectors) - memory;
    }
    t->vectors = g->x.out < g->x.n ? g->x.out : FN(resample_round)(g->x.n);
    t->taps = is_double(&g->x) ? 0 : g->x.out < g->x.n ? 1 : FN(resample_taps)(g->mode, &g->x);
    t->weight = t->down + g->y.out;
    t->column = (inat *)(t->weight + t->taps * t->vectors);
    return (char *)(t->column + t->taps * t->vectors) - memory;
}

static ptrdiff_t FN(resample_bytes)(const fnn_resample *g, int backward)
{
    FN(resample_tables) t;
    return FN(resample_layout)(g, backward, 0, &t) + (ptrdiff_t)sizeof t;
}

/* Of a row of one thread, the vectors it holds, between one and four whose elements may be read. */
FNN_INLINE ptrdiff_t FN(resample_span)(ptrdiff_t n) { return FN(resample_round)(n) + 5 * VL; }

static ptrdiff_t FN(resample_row_bytes)(const fnn_resample *g, int backward)
{
    const ptrdiff_t n = FN(resample_span)(g->x.n), out = FN(resample_span)(g->x.out);
    return (!backward ? n : g->x.out < g->x.n ? out + n : out) * (ptrdiff_t)sizeof(real);
}

FNN_INLINE void FN(resample_across)(const fnn_resample *g, FN(resample_tables) *t)
{
    const ptrdiff_t ow = g->x.out;
    double weight = 0;
    ptrdiff_t widest = 0;
    for (ptrdiff_t v = 0, i = 0; v < FN(resample_round)(ow); v++) {
        if (v < ow)
            i = source_of(g->mode, &g->x, v, &weight);
        if (v % VL == 0)
            t->base[v / VL] = i;
        const ptrdiff_t lane = i - t->base[v / VL];
        widest = lane > widest ? lane : widest;
        t->lane[v] = (inat)lane;
        t->right[v] = (real)weight;
        t->left[v] = g->mode == FNN_ZEROS && v % (ow / g->x.n) ? 0 : (real)(1 - weight);
    }
    t->window = !FNN_PERMUTES || widest >= 2 * VL ? 0 : widest < VL ? 1 : 2;
}

FNN_INLINE void FN(resample_back_across)(const fnn_resample *g, FN(resample_tables) *t)
{
    const ptrdiff_t w = g->x.n, all = t->taps * t->vectors;
    double weight;
    if (g->x.out < w) {
        for (ptrdiff_t o = 0; o < g->x.out; o++) {
            t->column[o] = (inat)source_of(g->mode, &g->x, o, &weight);
            t->weight[o] = t->column[o] + 1 < w ? (real)weight : 0;
        }
        return;
    }
    for (ptrdiff_t k = 0; k < all; k++)
        t->column[k] = (inat)g->x.out, t->weight[k] = 0;
    ptrdiff_t used[2] = {0, 0}; /* taps of the pixel, and of the next one */
    for (ptrdiff_t o = 0, pixel = 0; o < g->x.out; o++) {
        const ptrdiff_t i = source_of(g->mode, &g->x, o, &weight);
        if (i != pixel) {
            used[0] = i == pixel + 1 ? used[1] : 0, used[1] = 0;
            pixel = i;
        }
        const int both = g->mode == FNN_LINEAR && i + 1 < w && g->x.n != g->x.out;
        const ptrdiff_t at = used[0]++ * t->vectors + i;
        t->column[at] = (inat)o, t->weight[at] = both ? (real)(1 - weight) : 1;
        if (both) {
            const ptrdiff_t next = used[1]++ * t->vectors + i + 1;
            t->column[next] = (inat)o, t->weight[next] = (real)weight;
        }
    }
}

static void FN(resample_prepare)(const fnn_resample *g, int backward, void *memory)
{
    FN(resample_tables) *t = memory;
    FN(resample_layout)(g, backward, (char *)(t + 1), t);
    ptrdiff_t from = 0;
    double weight;
    for (ptrdiff_t o = 0; o < g->y.out; o++) {
        const ptrdiff_t i = t->row[o] = source_of(g->mode, &g->y, o, &weight);
        t->down[o] = (real)weight;
        while (from <= i)
            t->rows[from++] = o;
    }
    while (from <= g->y.n)
        t->rows[from++] = g->y.out;
    if (!backward)
        FN(resample_across)(g, t);
    else if (t->taps)
        FN(resample_back_across)(g, t);
}

/* The pixels at lanes `lane` of p, in a window of so many vectors; behind `limit` of them nothing is read. */
FNN_INLINE vec FN(resample_pick)(const int window, const real *p, ptrdiff_t limit, ivec lane)
{
#if FNN_PERMUTES
    if (window == 1)
        return vpermute(vload_upto(p, limit), lane);
    if (window == 2)
        return vpermute2(vload_upto(p, limit), limit > VL ? vload_upto(p + VL, limit - VL) : (vec){0}, lane);
#endif
    (void)window, (void)limit;
    return vgather(p, lane);
}

/* A row of results, each one pixel of the row x; zeros: those of weight 0 are zero. */
FNN_INLINE void FN(resample_row)(const int window, const int zeros, const fnn_resample *g,
                                 const FN(resample_tables) *t, const real *x, FN(writer) *o)
{
    const ptrdiff_t w = g->x.n, ow = g->x.out;
    for (ptrdiff_t c = 0; c < ow; c += FNN_CLAIM) {
        const ptrdiff_t n = ow - c < FNN_CLAIM ? ow - c : FNN_CLAIM;
        real *y = FN(writer_claim)(o, n);
        for (ptrdiff_t v = 0; v < n; v += VL) {
            const ptrdiff_t base = t->base[(c + v) / VL];
            vec pixels = FN(resample_pick)(window, x + base, w - base, (ivec)vload((const real *)t->lane + c + v));
            if (zeros)
                pixels = vsel(vload(t->left + c + v) > vset1(0), pixels, (vec){0});
            vstore_upto(y + v, pixels, n - v);
        }
    }
}

/* A row of results between the pixels of t and the next ones, t[w] = t[w - 1]. */
FNN_INLINE void FN(resample_lerp)(const int window, const fnn_resample *g, const FN(resample_tables) *t,
                                  const real *row, FN(writer) *o)
{
    const ptrdiff_t ow = g->x.out;
    for (ptrdiff_t c = 0; c < ow; c += FNN_CLAIM) {
        const ptrdiff_t n = ow - c < FNN_CLAIM ? ow - c : FNN_CLAIM;
        real *y = FN(writer_claim)(o, n);
        for (ptrdiff_t v = 0; v < n; v += VL) {
            const real *p = row + t->base[(c + v) / VL];
            const ivec lane = (ivec)vload((const real *)t->lane + c + v);
            const vec a = FN(resample_pick)(window, p, 2 * VL, lane);
            const vec b = FN(resample_pick)(window, p + 1, 2 * VL, lane);
            vstore_upto(y + v, vload(t->left + c + v) * a + vload(t->right + c + v) * b, n - v);
        }
    }
}

/* The same at twice as many results: y[2j] = t[j-1]/4 + t[j]*3/4, y[2j+1] = t[j]*3/4 + t[j+1]/4. */
FNN_INLINE void FN(resample_lerp_double)(const fnn_resample *g, const real *row, FN(writer) *o)
{
    const ptrdiff_t w = g->x.n;
    const vec near = vset1((real)0.75), far = vset1((real)0.25);
    for (ptrdiff_t c = 0; c < w; c += FNN_CLAIM / 2) {
        const ptrdiff_t pixels = w - c < FNN_CLAIM / 2 ? w - c : FNN_CLAIM / 2;
        real *y = FN(writer_claim)(o, 2 * pixels);
        for (ptrdiff_t j = 0; j < pixels; j += VL) {
            const real *p = row + c + j;
            const vec here = near * vload(p), even = far * vload(p - 1) + here, odd = far * vload(p + 1) + here;
            const ptrdiff_t n = 2 * (pixels - j);
            vstore_upto(y + 2 * j, vzip_lo(even, odd), n);
            if (n > VL)
                vstore_upto(y + 2 * j + VL, vzip_hi(even, odd), n - VL);
        }
        if (c == 0)
            y[0] = row[0] + 0 * row[1]; /* the first is nothing but the first pixel; 0 inf is NaN as everywhere */
    }
}

/* row = (1 - weight) * x + weight * below, w pixels */
FNN_INLINE void FN(resample_down)(ptrdiff_t w, const real *x, const real *below, real weight, real *row)
{
    const vec a = vset1(1 - weight), b = vset1(weight);
    for (ptrdiff_t c = 0; c < w; c += VL)
        vstore(row + c, a * vload_upto(x + c, w - c) + b * vload_upto(below + c, w - c));
}

static void FN(resample)(const fnn_resample *g, const void *tables, ptrdiff_t first, ptrdiff_t last, const void *x_,
                         void *y, int past, void *scratch)
{
    const FN(resample_tables) *t = tables;
    const ptrdiff_t h = g->y.n, w = g->x.n, oh = g->y.out, ow = g->x.out;
    real *row = (real *)scratch + VL;
    FN(writer) o;
    FN(writer_begin)(&o, (real *)y + first * ow, past);
    row[-1] = 0;
    for (ptrdiff_t r = first; r < last; r++) {
        const ptrdiff_t u = r % oh, i = t->row[u];
        const real *x = (const real *)x_ + (r / oh * h + i) * w;
        if (g->mode == FNN_ZEROS) {
            if (u % (oh / h))
                FN(writer_fill)(&o, 0, ow);
            else if (t->window == 1)
                FN(resample_row)(1, 1, g, t, x, &o);
            else
                FN(resample_row)(0, 1, g, t, x, &o);
        } else if (g->mode == FNN_NEAREST) {
            if (t->window == 1)
                FN(resample_row)(1, 0, g, t, x, &o);
            else if (t->window == 2)
                FN(resample_row)(2, 0, g, t, x, &o);
            else
                FN(resample_row)(0, 0, g, t, x, &o);
        } else {
            if (h == oh && w == ow) {
                FN(writer_copy)(&o, x, w);
                continue;
            }
            if (h == oh)
                memcpy(row, x, (size_t)w * sizeof(real));
            else
                FN(resample_down)(w, x, i + 1 < h ? x + w : x, t->down[u], row);
            row[w] = row[w - 1];
            if (w == ow)
                FN(writer_copy)(&o, row, w);
            else if (is_double(&g->x))
                FN(resample_lerp_double)(g, row, &o);
            else if (t->window == 1)
                FN(resample_lerp)(1, g, t, row, &o);
            else if (t->window == 2)
                FN(resample_lerp)(2, g, t, row, &o);
            else
                FN(resample_lerp)(0, g, t, row, &o);
        }
    }
    FN(writer_end)(&o);
}

/* row = the sum of the gradients of results that pixel row i is part of, each by its weight; returns how many */
FNN_INLINE ptrdiff_t FN(resample_back_down)(const fnn_resample *g, const FN(resample_tables) *t, ptrdiff_t i,
                                       const real *dy, real *row)
{
    const ptrdiff_t ow = g->x.out, h = g->y.n;
    const int linear = g->mode == FNN_LINEAR && h != g->y.out;
    const ptrdiff_t lo = t->rows[linear && i ? i - 1 : i], hi = t->rows[i + 1];
    /* The rows that the next pixel rows need, a few lines ahead: as many rows at once are no sequence to the machine. */
    const ptrdiff_t rows = t->rows[i + 1] - t->rows[i];
    const real *next = dy + hi * ow + FNN_AHEAD / (ptrdiff_t)sizeof(real);
    for (ptrdiff_t c = 0; c < ow; c += 2 * VL) {
        vec a = {0}, b = {0};
        for (ptrdiff_t k = 0; k < rows; k++, next += 2 * VL) {
            __builtin_prefetch(next);
            __builtin_prefetch(next + VL);
        }
        const ptrdiff_t n = ow - c, m = n > VL ? n - VL : 0;
        for (ptrdiff_t u = lo; u < hi; u++) {
            const vec weight = vset1(!linear ? 1 : t->row[u] < i ? t->down[u] : i + 1 < h ? 1 - t->down[u] : 1);
            a += weight * vload_upto(dy + u * ow + c, n);
            b += weight * vload_upto(dy + u * ow + c + VL, m);
        }
        vstore(row + c, a);
        vstore(row + c + VL, b);
    }
    return hi - lo;
}

/* dx[j] = the sum of the row's columns that pixel j is part of, by their weights; row[ow] = 0 */
FNN_INLINE void FN(resample_back_row)(const fnn_resample *g, const FN(resample_tables) *t, const real *row,
                                      FN(writer) *o)
{
    const ptrdiff_t w = g->x.n;
    for (ptrdiff_t c = 0; c < w; c += FNN_CLAIM) {
        const ptrdiff_t n = w - c < FNN_CLAIM ? w - c : FNN_CLAIM;
        real *dx = FN(writer_claim)(o, n);
        for (ptrdiff_t j = 0; j < n; j += VL) {
            vec sum = {0};
            for (ptrdiff_t tap = 0; tap < t->taps; tap++) {
                const ptrdiff_t at = tap * t->vectors + c + j;
                sum += vload(t->weight + at) * vgather(row, (ivec)vload((const real *)t->column + at));
            }
            vstore_upto(dx + j, sum, n - j);
        }
    }
}

/* The same at twice as many results as pixels: dx[j] = (row[2j-1] + row[2j+2])/4 + (row[2j] + row[2j+1])*3/4 if linear,
 * with the ends of the row repeated once, else row[2j] + row[2j+1]. */
FNN_INLINE void FN(resample_back_double)(const int linear, const fnn_resample *g, const real *row, FN(writer) *o)
{
    const ptrdiff_t w = g->x.n;
    const vec near = vset1((real)0.75), far = vset1((real)0.25);
    for (ptrdiff_t c = 0; c < w; c += FNN_CLAIM) {
        const ptrdiff_t n = w - c < FNN_CLAIM ? w - c : FNN_CLAIM;
        real *dx = FN(writer_claim)(o, n);
        for (ptrdiff_t j = 0; j < n; j += VL) {
            const real *p = row + 2 * (c + j);
            const vec a = vload(p), b = vload(p + VL), inner = veven(a, b) + vodd(a, b);
            vec sum = inner;
            if (linear) {
                const vec before = veven(vload(p - 1), vload(p + VL - 1));
                const vec after = veven(vload(p + 2), vload(p + VL + 2));
                sum = near * inner + far * (before + after);
            }
            vstore_upto(dx + j, sum, n - j);
        }
    }
}

/* The same where there are fewer results than pixels, by way of the row dx, which has one element to spare. */
FNN_INLINE void FN(resample_back_few)(const fnn_resample *g, const FN(resample_tables) *t, const real *row, real *dx,
                                      FN(writer) *o)
{
    const ptrdiff_t w = g->x.n, ow = g->x.out;
    memset(dx, 0, (size_t)(w + 1) * sizeof(real));
    if (g->mode == FNN_LINEAR)
        for (ptrdiff_t v = 0; v < ow; v++) {
            const ptrdiff_t j = t->column[v];
            dx[j] += (1 - t->weight[v]) * row[v];
            dx[j + 1] += t->weight[v] * row[v];
        }
    else
        for (ptrdiff_t v = 0; v < ow; v++)
            dx[t->column[v]] += row[v];
    FN(writer_copy)(o, dx, w);
}

static void FN(resample_backward)(const fnn_resample *g, const void *tables, ptrdiff_t first, ptrdiff_t last,
                                  const void *dy_, void *dx, int past, void *scratch)
{
    const FN(resample_tables) *t = tables;
    const ptrdiff_t h = g->y.n, w = g->x.n, oh = g->y.out, ow = g->x.out;
    real *row = (real *)scratch + VL;
    FN(writer) o;
    FN(writer_begin)(&o, (real *)dx + first * w, past);
    for (ptrdiff_t r = first; r < last; r++) {
        const real *dy = (const real *)dy_ + r / h * oh * ow;
        if (FN(resample_back_down)(g, t, r % h, dy, row) <= 0)
            FN(writer_fill)(&o, 0, w);
        else if (g->mode == FNN_LINEAR && w == ow)
            FN(writer_copy)(&o, row, w);
        else if (ow < w)
            FN(resample_back_few)(g, t, row, row + FN(resample_span)(ow) - VL, &o);
        else if (t->taps == 0) {
            row[-1] = row[0], row[ow] = row[ow - 1];
            if (g->mode == FNN_LINEAR)
                FN(resample_back_double)(1, g, row, &o);
            else
                FN(resample_back_double)(0, g, row, &o);
        } else {
            row[ow] = 0;
            FN(resample_back_row)(g, t, row, &o);
        }
    }
    FN(writer_end)(&o);
}

static const fnn_upsample_ukernels FN(upsample_ukernels) = {
    .table_bytes = FN(resample_bytes),
    .row_bytes = FN(resample_row_bytes),
    .prepare = FN(resample_prepare),
    .forward = FN(resample),
    .backward = FN(resample_backward),
};
