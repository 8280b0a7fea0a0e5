/* Images resampled along both axes: zero-insertion (whose backward pass is sub-sampling, pool.c), nearest pixel, linear
 * interpolation.
 *
 * Everything is a gather, and separable. Forward, a row of results is made of the one or two rows under it, reduced to
 * one, and then across by tables: the pixels under a vector of results lie in a window no longer than a vector, or
 * than two if there are fewer results than pixels, but not fewer than half; permutations give them, else gathers.
 * Backward, the rows of gradients that took part of a row of pixels are added up by their weights, and then each pixel
 * across likewise. Scale 2, the usual one, needs no tables across for interpolation: neighbours are interleaved.
 */

#ifndef FNN_UPSAMPLE_H /* what both element types share */
#define FNN_UPSAMPLE_H
/* Of result o on an axis: the pixel that it takes, or the first of two. weight: of the second, which is the next one,
 * or the same at the end. */
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

/* Pixels across are part of one result at most, but for rounding. */
FNN_INLINE int is_sparse(const fnn_resample *g) { return g->mode == FNN_NEAREST && g->x.out < g->x.n; }
#endif

/* Tables of either pass, in one block of memory, shared by all threads. */
typedef struct {
    ptrdiff_t *row;  /* [oh] the pixel row under a row of results */
    real *down, *up; /* [oh] the weight of the one after it, and of itself */
    ptrdiff_t *rows; /* [h + 1] the first row of results from pixel row i or later: backward */
    /* forward across: of vector v, the first pixel; of each result, its pixel from there, and the two weights */
    ptrdiff_t *base;
    inat *lane;
    real *left, *right;
    int window; /* vectors that all windows fit: 1, 2, or 0 for more */
    /* backward across: of tap t of a pixel, the column of the gradient, that of a zero if there is none, and its
     * weight. taps 0: nothing, there are twice as many results as pixels; sparse: the pixel of each column instead */
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
    t->up = t->down + g->y.out;
    if (!backward) {
        t->left = t->up + g->y.out;
        t->right = t->left + vectors;
        t->lane = (inat *)(t->right + vectors);
        return (char *)(t->lane + vectors) - memory;
    }
    t->vectors = is_sparse(g) ? g->x.out : FN(resample_round)(g->x.n);
    t->taps = is_double(&g->x) ? 0 : is_sparse(g) ? 1 : FN(resample_taps)(g->mode, &g->x);
    t->weight = t->up + g->y.out;
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
    return (!backward ? n : is_sparse(g) ? out + n : out) * (ptrdiff_t)sizeof(real);
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
        if (i + 1 == g->x.n) /* the last pixel has no next one */
            weight = 0;
        t->right[v] = (real)weight;
        t->left[v] = g->mode == FNN_ZEROS && v % (ow / g->x.n) ? 0 : (real)(1 - weight);
    }
    t->window = !FNN_PERMUTES || widest >= 2 * VL ? 0 : widest < VL ? 1 : 2;
}

FNN_INLINE void FN(resample_back_across)(const fnn_resample *g, FN(resample_tables) *t)
{
    const ptrdiff_t w = g->x.n, all = t->taps * t->vectors;
    double weight;
    if (is_sparse(g)) {
        for (ptrdiff_t o = 0; o < g->x.out; o++)
            t->column[o] = (inat)source_of(g->mode, &g->x, o, &weight);
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
        t->down[o] = i + 1 < g->y.n ? (real)weight : 0; /* the last has no next one */
        t->up[o] = i + 1 < g->y.n ? (real)(1 - weight) : 1;
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

/* Two rows of pixels with the weights by which a row of results lies between them; one alone if `below` is NULL. */
typedef struct {
    const real *x, *below;
    ptrdiff_t w;
    real upper, lower;
} FN(pixel_rows);

/* The pixels between the rows from column c on, zero behind the last. */
FNN_INLINE vec FN(resample_down)(const FN(pixel_rows) *p, ptrdiff_t c)
{
    const ptrdiff_t n = p->w - c > 0 ? p->w - c : 0;
    const vec x = vload_upto(p->x + c, n);
    return p->below ? vset1(p->upper) * x + vset1(p->lower) * vload_upto(p->below + c, n) : x;
}

FNN_INLINE real FN(resample_down1)(const FN(pixel_rows) *p, ptrdiff_t c)
{
    return p->below ? p->upper * p->x[c] + p->lower * p->below[c] : p->x[c];
}

/* A row of results with as many columns as there are pixels. */
FNN_INLINE void FN(resample_between)(const FN(pixel_rows) *p, FN(writer) *o)
{
    for (ptrdiff_t c = 0; c < p->w; c += FNN_CLAIM) {
        const ptrdiff_t n = p->w - c < FNN_CLAIM ? p->w - c : FNN_CLAIM;
        real *y = FN(writer_claim)(o, n);
        for (ptrdiff_t v = 0; v < n; v += VL)
            vstore_upto(y + v, FN(resample_down)(p, c + v), n - v);
    }
}

/* A row of results by tables, each between a pixel and the next. Those under a vector are made where they are needed: a
 * row of them in memory would be read, shifted by one, before it is out of the store buffer. Windows of more than two
 * vectors are gathered all the same, from `row`. */
FNN_INLINE void FN(resample_lerp)(const int window, const FN(resample_tables) *t, const FN(pixel_rows) *p,
                                  ptrdiff_t ow, real *row, FN(writer) *o)
{
    if (!window) {
        for (ptrdiff_t c = 0; c <= p->w; c += VL)
            vstore(row + c, FN(resample_down)(p, c));
    }
    for (ptrdiff_t c = 0; c < ow; c += FNN_CLAIM) {
        const ptrdiff_t n = ow - c < FNN_CLAIM ? ow - c : FNN_CLAIM;
        real *y = FN(writer_claim)(o, n);
        for (ptrdiff_t v = 0; v < n; v += VL) {
            const ptrdiff_t at = t->base[(c + v) / VL];
            const ivec lane = (ivec)vload((const real *)t->lane + c + v);
            vec a, b;
            if (window == 0) {
                a = vgather(row + at, lane);
                b = vgather(row + at + 1, lane);
            } else {
                a = FN(resample_down)(p, at);
                b = FN(resample_down)(p, at + 1);
#if FNN_PERMUTES
                a = window == 1 ? vpermute(a, lane) : vpermute2(a, FN(resample_down)(p, at + VL), lane);
                b = window == 1 ? vpermute(b, lane) : vpermute2(b, FN(resample_down)(p, at + 1 + VL), lane);
#endif
            }
            vstore_upto(y + v, vload(t->left + c + v) * a + vload(t->right + c + v) * b, n - v);
        }
    }
}

/* The same at twice as many results: y[2j] = p[j-1]/4 + p[j]*3/4, y[2j+1] = p[j]*3/4 + p[j+1]/4. */
FNN_INLINE void FN(resample_lerp_double)(const FN(pixel_rows) *p, FN(writer) *o)
{
    const ptrdiff_t w = p->w;
    const vec near = vset1((real)0.75), far = vset1((real)0.25);
    vec before = {0}, here = FN(resample_down)(p, 0);
    for (ptrdiff_t c = 0; c < w; c += FNN_CLAIM / 2) {
        const ptrdiff_t pixels = w - c < FNN_CLAIM / 2 ? w - c : FNN_CLAIM / 2;
        real *y = FN(writer_claim)(o, 2 * pixels);
        for (ptrdiff_t j = 0; j < pixels; j += VL) {
            const vec after = FN(resample_down)(p, c + j + VL), most = near * here;
            const vec even = far * vbefore(before, here) + most, odd = far * vafter(here, after) + most;
            const ptrdiff_t n = 2 * (pixels - j);
            vstore_upto(y + 2 * j, vzip_lo(even, odd), n);
            if (n > VL)
                vstore_upto(y + 2 * j + VL, vzip_hi(even, odd), n - VL);
            before = here, here = after;
        }
        if (c == 0) /* the first is nothing but the first pixel; 0 inf is NaN as everywhere */
            y[0] = FN(resample_down1)(p, 0) + 0 * FN(resample_down1)(p, w > 1);
        if (c + pixels == w)
            y[2 * pixels - 1] = FN(resample_down1)(p, w - 1);
    }
}

static void FN(resample)(const fnn_resample *g, const void *tables, ptrdiff_t first, ptrdiff_t last, const void *x_,
                         void *y, int past, void *scratch)
{
    const FN(resample_tables) *t = tables;
    const ptrdiff_t h = g->y.n, w = g->x.n, oh = g->y.out, ow = g->x.out;
    real *row = (real *)scratch + VL;
    FN(writer) o;
    FN(writer_begin)(&o, (real *)y + first * ow, past);
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
            const FN(pixel_rows) p = {x, i + 1 < h && h != oh ? x + w : 0, w, t->up[u], t->down[u]};
            if (w == ow)
                FN(resample_between)(&p, &o);
            else if (is_double(&g->x))
                FN(resample_lerp_double)(&p, &o);
            else if (t->window == 1)
                FN(resample_lerp)(1, t, &p, ow, row, &o);
            else if (t->window == 2)
                FN(resample_lerp)(2, t, &p, ow, row, &o);
            else
                FN(resample_lerp)(0, t, &p, ow, row, &o);
        }
    }
    FN(writer_end)(&o);
}

/* The rows of gradients that took part of a pixel row: first <= u < middle by lower[u], middle <= u < last by
 * upper[u]. */
typedef struct {
    const real *dy;
    ptrdiff_t ow, first, middle, last;
    const real *lower, *upper;
} FN(gradient_rows);

/* The sum of the rows from column c on, zero behind the last. */
FNN_INLINE vec FN(resample_back_down)(const FN(gradient_rows) *p, ptrdiff_t c)
{
    const ptrdiff_t n = p->ow - c > 0 ? p->ow - c : 0;
    const real *dy = p->dy + c;
    vec sum = {0};
    for (ptrdiff_t u = p->first; u < p->middle; u++)
        sum += vset1(p->lower[u]) * vload_upto(dy + u * p->ow, n);
    for (ptrdiff_t u = p->middle; u < p->last; u++)
        sum += vset1(p->upper[u]) * vload_upto(dy + u * p->ow, n);
    return sum;
}

FNN_INLINE void FN(resample_back_all)(const FN(gradient_rows) *p, real *row)
{
    for (ptrdiff_t c = 0; c < p->ow; c += VL)
        vstore(row + c, FN(resample_back_down)(p, c));
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

/* The same at twice as many results as pixels: with d the sum of the rows, dx[j] = d[2j] + d[2j+1], or if linear
 * (d[2j] + d[2j+1])*3/4 + (d[2j-1] + d[2j+2])/4, where d[-1] is d[0] and that behind the last is the last. */
FNN_INLINE void FN(resample_back_double)(const int linear, const FN(gradient_rows) *p, FN(writer) *o)
{
    const ptrdiff_t w = p->ow / 2;
    const vec near = vset1((real)0.75), far = vset1((real)0.25);
    vec a = FN(resample_back_down)(p, 0), b = FN(resample_back_down)(p, VL), even = veven(a, b), odd = vodd(a, b);
    vec before = vset1(even[0]);
    for (ptrdiff_t c = 0; c < w; c += FNN_CLAIM) {
        const ptrdiff_t n = w - c < FNN_CLAIM ? w - c : FNN_CLAIM;
        real *dx = FN(writer_claim)(o, n);
        for (ptrdiff_t j = 0; j < n; j += VL) {
            a = FN(resample_back_down)(p, 2 * (c + j + VL)), b = FN(resample_back_down)(p, 2 * (c + j + VL) + VL);
            const vec next = veven(a, b);
            vec sum = even + odd;
            if (linear)
                sum = near * sum + far * (vbefore(before, odd) + vafter(even, next));
            vstore_upto(dx + j, sum, n - j);
            if (linear && c + j + VL >= w)
                dx[n - 1] += (real)0.25 * odd[w - 1 - c - j];
            before = odd, even = next, odd = vodd(a, b);
        }
    }
}

/* The same of nearest pixels, most of which are part of no result: put where they belong in the row dx. */
FNN_INLINE void FN(resample_back_sparse)(const fnn_resample *g, const FN(resample_tables) *t, const real *row, real *dx,
                                         FN(writer) *o)
{
    const ptrdiff_t w = g->x.n, ow = g->x.out;
    memset(dx, 0, (size_t)w * sizeof(real));
    for (ptrdiff_t v = 0; v < ow; v++)
        dx[t->column[v]] += row[v];
    FN(writer_copy)(o, dx, w);
}

/* Has the machine fetch n elements a little behind p: short rows that are read side by side are no sequence to it. */
FNN_INLINE void FN(resample_fetch)(const real *p, ptrdiff_t n)
{
    if (n * (ptrdiff_t)sizeof(real) > 2 * FNN_AHEAD)
        return;
    for (ptrdiff_t i = 0; i < n; i += FNN_LINE / (ptrdiff_t)sizeof(real))
        fetch_ahead(p + i);
}

static void FN(resample_backward)(const fnn_resample *g, const void *tables, ptrdiff_t first, ptrdiff_t last,
                                  const void *dy_, void *dx, int past, void *scratch)
{
    const FN(resample_tables) *t = tables;
    const ptrdiff_t h = g->y.n, w = g->x.n, oh = g->y.out, ow = g->x.out;
    const int spread = g->mode == FNN_LINEAR && h != oh; /* a row is part of the pixel row under it and of the next */
    real *row = (real *)scratch + VL;
    FN(writer) o;
    FN(writer_begin)(&o, (real *)dx + first * w, past);
    for (ptrdiff_t r = first; r < last; r++) {
        const real *dy = (const real *)dy_ + r / h * oh * ow;
        const ptrdiff_t i = r % h;
        const FN(gradient_rows) p = {
            dy, ow, t->rows[spread && i ? i - 1 : i], t->rows[i], t->rows[i + 1], t->down, t->up,
        };
        FN(resample_fetch)(dy + p.last * ow, (p.last - p.middle) * ow);
        if (p.first == p.last) {
            FN(writer_fill)(&o, 0, w);
        } else if (t->taps == 0 && g->mode == FNN_LINEAR) {
            FN(resample_back_double)(1, &p, &o);
        } else if (t->taps == 0) {
            FN(resample_back_double)(0, &p, &o);
        } else {
            FN(resample_back_all)(&p, row);
            row[ow] = 0;
            if (g->mode == FNN_LINEAR && w == ow)
                FN(writer_copy)(&o, row, w);
            else if (is_sparse(g))
                FN(resample_back_sparse)(g, t, row, row + FN(resample_span)(ow) - VL, &o);
            else
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
