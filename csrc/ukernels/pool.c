/* Pooling of planes: each output is the maximum, minimum, average or p-norm of a window of kh x kw pixels.
 *
 * A row of outputs is made in two steps, so that a window costs kh + kw operations and not kh * kw. Down: the rows
 * under the window are reduced to one, whole vectors at a time whatever the stride, between margins that hold the
 * identity of the reduction (the padding). Across: that row is split by column modulo sw, so that every tap of a
 * vector of outputs is a contiguous load, and the taps are reduced. Norms are sums of powers, which are taken on the
 * way down. A kernel of 0 is adaptive: windows of different sizes that share out the axis.
 */

#undef FNN_NO_INDEX
#define FNN_NO_INDEX ((inat)(FNN_BITS == 32 ? INT32_MAX : INT64_MAX)) /* of padding */

#ifndef FNN_POOL_H /* what both element types share */
#define FNN_POOL_H
enum { POOL_MAX, POOL_MIN, POOL_AVG, POOL_SUM, POOL_SQUARES, POOL_POWERS }; /* the last three are norms */

/* Window o on an axis, without dilation, is [pool_start, pool_end). */
FNN_INLINE ptrdiff_t pool_start(ptrdiff_t o, ptrdiff_t size, ptrdiff_t outputs, ptrdiff_t kernel, ptrdiff_t stride,
                                ptrdiff_t pad)
{
    return kernel ? o * stride - pad : o * size / outputs;
}

FNN_INLINE ptrdiff_t pool_end(ptrdiff_t o, ptrdiff_t size, ptrdiff_t outputs, ptrdiff_t kernel, ptrdiff_t stride,
                              ptrdiff_t pad)
{
    return kernel ? o * stride - pad + kernel : ((o + 1) * size + outputs - 1) / outputs;
}

/* How many positions it covers. Padding counts as pixels on request, but what ceil_mode adds behind it never does. */
FNN_INLINE ptrdiff_t pool_count(ptrdiff_t o, ptrdiff_t size, ptrdiff_t outputs, ptrdiff_t kernel, ptrdiff_t stride,
                                ptrdiff_t pad, int include_pad)
{
    const ptrdiff_t start = pool_start(o, size, outputs, kernel, stride, pad);
    const ptrdiff_t end = pool_end(o, size, outputs, kernel, stride, pad), limit = include_pad ? size + pad : size;
    return (end < limit ? end : limit) - (include_pad || start > 0 ? start : 0);
}

/* The most positions an adaptive window covers. */
FNN_INLINE ptrdiff_t pool_longest(ptrdiff_t size, ptrdiff_t outputs)
{
    ptrdiff_t longest = 0;
    for (ptrdiff_t o = 0; o < outputs; o++) {
        const ptrdiff_t n = pool_count(o, size, outputs, 0, 0, 0, 0);
        longest = n > longest ? n : longest;
    }
    return longest;
}

/* Is a plane a row, and the only window as large? */
FNN_INLINE int pool_is_whole(const fnn_pool *p)
{
    return p->oh * p->ow == 1 && p->h == 1 && p->kh == 1 && p->kw == p->w && p->pw == 0 && p->dw == 1;
}

FNN_INLINE ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t step) { return (n + step - 1) / step * step; }
#endif

/* The first pixel of every adaptive window of a row, and their number. */
FNN_INLINE void FN(pool_columns)(const fnn_pool *p, inat *start, inat *count)
{
    for (ptrdiff_t v = 0; v < p->ow; v++) {
        start[v] = (inat)pool_start(v, p->w, p->ow, 0, 0, 0);
        count[v] = (inat)(pool_end(v, p->w, p->ow, 0, 0, 0) - start[v]);
    }
}

/* Stores the first n lanes, or past the caches all of them. */
FNN_INLINE void FN(pool_store)(int past, real *p, vec v, ptrdiff_t n)
{
    if (past)
        vstream(p, v);
    else
        vstore_upto(p, v, n);
}

/* Can rows of n elements from p on be written past the caches? Whole aligned vectors only can. */
FNN_INLINE int FN(pool_past)(const fnn_pool *p, const real *first, ptrdiff_t n)
{
    return p->past && n % VL == 0 && vstream_head(first, VL) == 0;
}

/* Scratch of a thread. The row is sw*phase long: pw of padding, w pixels, padding. Split, element q of phase f is
 * column q*sw + f; at stride 1 row and split are one. irow and isplit are the same for plane indices. That is four
 * rows of the image, or, when strides are so long that a phase is shorter than a vector, of sw vectors. Of adaptive
 * windows, phase f is tap f of every window. */
typedef struct {
    ptrdiff_t sw, taps;   /* stride across, 1 if there is one column of windows only; taps that can meet a pixel */
    ptrdiff_t width;      /* columns in use */
    ptrdiff_t phase;      /* elements of a phase */
    ptrdiff_t turn, step; /* the next tap is `turn` phases on, modulo sw, and that is `step` elements */
    ptrdiff_t length;     /* of the row and the split together */
    real *row, *split, *divisors;
    inat *irow, *isplit;
    inat *start, *count; /* of adaptive windows */
} FN(pool_rows);

/* Lays the scratch out and returns its size in elements. */
FNN_INLINE ptrdiff_t FN(pool_layout)(const fnn_pool *p, real *scratch, FN(pool_rows) *b)
{
    const ptrdiff_t vectors = round_up(p->ow, VL);
    ptrdiff_t row, split; /* where the split begins, and its size */
    if (p->kw) {
        const ptrdiff_t sw = p->ow > 1 ? p->sw : 1, pixels = p->pw + p->w, meet = (pixels - 1) / p->dw + 1;
        b->sw = sw;
        b->taps = p->kw < meet ? p->kw : meet;
        const ptrdiff_t reach = (b->taps - 1) * p->dw, last = (p->ow - 1) * sw + reach + 1;
        b->width = last > pixels ? last : pixels;
        const ptrdiff_t tails = vectors + reach / sw, all = (b->width + sw - 1) / sw;
        b->phase = round_up(tails > all ? tails : all, VL);
        b->turn = p->dw % sw;
        b->step = p->dw / sw + b->turn * b->phase;
        split = sw * b->phase;
        row = sw > 1 ? split : 0;
    } else {
        b->sw = b->taps = pool_longest(p->w, p->ow);
        b->width = p->w;
        b->turn = 1;
        b->step = b->phase = vectors;
        row = round_up(p->w, VL);
        split = b->taps * b->phase;
    }
    b->length = row + split;
    b->row = scratch;
    b->split = b->row + row;
    b->irow = (inat *)(b->split + split);
    b->isplit = b->irow + row;
    b->divisors = (real *)(b->isplit + split);
    b->start = (inat *)(b->divisors + vectors);
    b->count = b->start + (p->kw ? 0 : p->ow);
    return (real *)b->count - scratch + (p->kw ? 0 : p->ow);
}

FNN_INLINE real FN(pool_identity)(const int op)
{
    return op >= POOL_AVG ? 0 : op == POOL_MAX ? -(real)INFINITY : (real)INFINITY;
}

/* x^norm, apart from its users for its size. */
static __attribute__((noinline)) vec FN(pool_power)(vec x, double norm) { return vpow(x, norm); }

FNN_INLINE vec FN(pool_reduce)(const int op, vec acc, vec x)
{
    if (op >= POOL_AVG)
        return acc + x;
    return vsel(x != x, x, op == POOL_MAX ? vmax(x, acc) : vmin(x, acc)); /* these keep a NaN in acc, but not in x */
}

/* Lanes in which x replaces the extremum so far: it is better, or the first NaN. */
FNN_INLINE ivec FN(pool_better)(const int op, vec best, vec x)
{
    return ~(op == POOL_MAX ? x <= best : x >= best) & (best == best);
}

/* What a pixel adds to the reduction. */
FNN_INLINE vec FN(pool_term)(const int op, const fnn_pool *p, vec x)
{
    return op == POOL_SQUARES ? x * x : op == POOL_POWERS ? FN(pool_power)(x, p->norm) : x;
}

/* The output of a window of `count` positions. A p-norm counts as many powers as a whole window has. */
FNN_INLINE vec FN(pool_result)(const int op, const fnn_pool *p, vec acc, vec count)
{
    if (op == POOL_AVG)
        return acc / count;
    if (op < POOL_AVG)
        return acc;
    acc *= vset1((real)(p->kh * p->kw)) / count;
    return op == POOL_SQUARES ? vsqrt(acc) : op == POOL_POWERS ? FN(pool_power)(acc, 1 / p->norm) : acc;
}

/* n columns, VL at most, of `taps` rows reduced to one, and where that was found; first: the plane index of x. */
FNN_INLINE vec FN(pool_down_n)(const int op, const int index, ptrdiff_t taps, const fnn_pool *p, const real *x,
                               ptrdiff_t first, ptrdiff_t n, ivec *where)
{
    const ptrdiff_t step = p->dh * p->w;
    fetch_ahead(x);
    if (taps > 1)
        fetch_ahead(x + step);
    vec acc = FN(pool_term)(op, p, vload_upto(x, n));
    ivec at = viota() + (inat)first, best = at;
    for (ptrdiff_t i = 1; i < taps; i++) {
        x += step;
        const vec v = FN(pool_term)(op, p, vload_upto(x, n));
        if (index) {
            at += (inat)step;
            best = (ivec)vsel(FN(pool_better)(op, acc, v), (vec)at, (vec)best);
        }
        acc = FN(pool_reduce)(op, acc, v);
    }
    *where = best;
    return acc;
}

/* The row, or at stride 2 its split, of which the margins stay as they are. */
FNN_INLINE void FN(pool_down)(const int op, const int index, ptrdiff_t taps, const fnn_pool *p, const real *x,
                              ptrdiff_t first, const FN(pool_rows) *b)
{
    const ptrdiff_t w = p->w;
    ivec where, where2;
    if (b->sw == 2 && p->kw) {
        /* column c is element (c + pw) / 2 of phase (c + pw) % 2 */
        const ptrdiff_t even = p->pw / 2 + p->pw % 2 * b->phase;
        const ptrdiff_t odd = (p->pw + 1) / 2 + (1 - p->pw % 2) * b->phase;
        for (ptrdiff_t c = 0; c < w; c += 2 * VL) {
            const ptrdiff_t n = w - c;
            const vec v = FN(pool_down_n)(op, index, taps, p, x + c, first + c, n, &where);
            vec v2 = v;
            where2 = where;
            if (n > VL)
                v2 = FN(pool_down_n)(op, index, taps, p, x + c + VL, first + c + VL, n - VL, &where2);
            vstore_upto(b->split + even + c / 2, veven(v, v2), (n + 1) / 2);
            vstore_upto(b->split + odd + c / 2, vodd(v, v2), n / 2);
            if (!index)
                continue;
            vstore_upto((real *)b->isplit + even + c / 2, veven((vec)where, (vec)where2), (n + 1) / 2);
            vstore_upto((real *)b->isplit + odd + c / 2, vodd((vec)where, (vec)where2), n / 2);
        }
        return;
    }
    for (ptrdiff_t c = 0; c < w; c += VL) {
        if (c > w - VL && w >= VL) /* the last vector overlaps the one before */
            c = w - VL;
        vstore_upto(b->row + p->pw + c, FN(pool_down_n)(op, index, taps, p, x + c, first + c, w - c, &where), w - c);
        if (index)
            vstore_upto((real *)b->irow + p->pw + c, (vec)where, w - c);
    }
}

/* The split of the row: split[f][q] = row[q*sw + f]; of adaptive windows, row[start of q + f], the
 * identity where they are shorter. */
FNN_INLINE void FN(pool_split)(const fnn_pool *p, const FN(pool_rows) *b, const real *row, real *split, real identity)
{
    if (!p->kw) {
        for (ptrdiff_t q = 0; q < p->ow; q++) {
            const real *first = row + b->start[q];
            const ptrdiff_t n = b->count[q];
            for (ptrdiff_t f = 0; f < n; f++)
                split[f * b->phase + q] = first[f];
            for (ptrdiff_t f = n; f < b->taps; f++)
                split[f * b->phase + q] = identity;
        }
        return;
    }
    const ptrdiff_t reach = (b->taps - 1) * p->dw, phases = reach < b->sw ? reach + 1 : b->sw;
    for (ptrdiff_t f = 0; f < phases; f++)
        for (ptrdiff_t q = 0; q * b->sw + f < b->width; q++)
            split[f * b->phase + q] = row[q * b->sw + f];
}

/* The divisor of the average at output (u, v) is rows_divisor(u) * divisors[v]. */
FNN_INLINE ptrdiff_t FN(pool_rows_divisor)(const fnn_pool *p, ptrdiff_t u)
{
    return p->divisor ? p->divisor : pool_count(u, p->h, p->oh, p->kh, p->sh, p->ph, (int)p->include_pad);
}

FNN_INLINE void FN(pool_divisors)(const fnn_pool *p, ptrdiff_t vectors, real *divisors)
{
    for (ptrdiff_t v = 0; v < vectors; v++) /* 1 where nobody looks: no trap, no subnormal arithmetic */
        divisors[v] = p->divisor || v >= p->ow
                          ? 1
                          : (real)pool_count(v, p->w, p->ow, p->kw, p->sw, p->pw, (int)p->include_pad);
}

/* The taps of a vector of outputs are a walk over the phases. */
#define FNN_NEXT_TAP(tap, f) (tap += (f += turn) < sw ? step : (f -= sw, step + 1 - sw * b->phase))

FNN_INLINE void FN(pool_across)(const int op, const int index, const ptrdiff_t taps, const ptrdiff_t sw,
                                const ptrdiff_t turn, const ptrdiff_t step, const fnn_pool *p,
                                const FN(pool_rows) *b, ptrdiff_t u, int past, real *y, inat *iy)
{
    const ptrdiff_t to_index = (const real *)b->isplit - b->split;
    const vec rows = vset1(op >= POOL_AVG ? (real)FN(pool_rows_divisor)(p, u) : 1);
    for (ptrdiff_t v = 0; v < p->ow; v += VL) {
        const ptrdiff_t n = p->ow - v;
        const real *tap = b->split + v;
        ptrdiff_t f = 0;
        vec acc = vload(tap);
        for (ptrdiff_t j = 1; j < taps; j++) {
            FNN_NEXT_TAP(tap, f);
            acc = FN(pool_reduce)(op, acc, vload(tap));
        }
        if (op >= POOL_AVG)
            acc = FN(pool_result)(op, p, acc, rows * vload(b->divisors + v));
        FN(pool_store)(past, y + v, acc, n);
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

/* Neighbouring lanes of a, and then of b, reduced to one. */
FNN_INLINE vec FN(pool_halve)(const int op, vec a, vec b) { return FN(pool_reduce)(op, veven(a, b), vodd(a, b)); }

/* The least lane. */
FNN_INLINE inat FN(pool_least)(ivec best)
{
    for (ptrdiff_t n = VL; n > 1; n /= 2) {
        const ivec even = (ivec)veven((vec)best, (vec)best), odd = (ivec)vodd((vec)best, (vec)best);
        best = (ivec)vsel(even < odd, (vec)even, (vec)odd);
    }
    return best[0];
}

/* The same for one output, whose taps are neighbours: vectors of taps, then the lanes of one. */
FNN_INLINE void FN(pool_across_one)(const int op, const int index, const fnn_pool *p, const FN(pool_rows) *b,
                                    ptrdiff_t u, real *y, inat *iy)
{
    const vec identity = vset1(FN(pool_identity)(op));
    vec acc = identity;
    for (ptrdiff_t j = 0; j < b->taps; j += VL)
        acc = FN(pool_reduce)(op, acc, vsel(viota() < (inat)(b->taps - j), vload(b->row + j), identity));
    for (ptrdiff_t n = VL; n > 1; n /= 2)
        acc = FN(pool_halve)(op, acc, acc);
    if (op >= POOL_AVG)
        acc = FN(pool_result)(op, p, acc, vset1((real)FN(pool_rows_divisor)(p, u) * b->divisors[0]));
    *y = acc[0];
    if (!index)
        return;
    ivec best = (ivec){0} + FNN_NO_INDEX;
    for (ptrdiff_t j = 0; j < b->taps; j += VL) {
        const vec x = vload(b->row + j);
        const ivec i = (ivec)vload((const real *)b->irow + j);
        const ivec mine = viota() < (inat)(b->taps - j);
        best = (ivec)vsel(((x == acc) | (x != x)) & (i < best) & mine, (vec)i, (vec)best);
    }
    *iy = FN(pool_least)(best);
}

/* Each of four vectors reduced to one lane, as in vsum4. */
FNN_INLINE void FN(pool_lanes)(const int op, const vec v[4], real out[4])
{
    const vec ab = FN(pool_halve)(op, v[0], v[1]), cd = FN(pool_halve)(op, v[2], v[3]);
    if (VL == 2) {
        out[0] = ab[0], out[1] = ab[1], out[2] = cd[0], out[3] = cd[1];
        return;
    }
    vec all = FN(pool_halve)(op, ab, cd);
    for (ptrdiff_t n = VL; n > 4; n /= 2)
        all = FN(pool_halve)(op, all, all);
    memcpy(out, &all, 4 * sizeof(real));
}

/* One window that is the plane, which is a row of n pixels. */
FNN_INLINE void FN(pool_whole)(const int op, const int index, const fnn_pool *p, ptrdiff_t planes, const real *x,
                               real *y, inat *iy)
{
    const ptrdiff_t n = p->w, whole = n - n % VL;
    const vec identity = vset1(FN(pool_identity)(op));
    const ivec inside = viota() < (inat)(n - whole);
    for (ptrdiff_t i = 0; i < planes; i += 4) {
        const ptrdiff_t group = planes - i < 4 ? planes - i : 4;
        vec acc[4] = {identity, identity, identity, identity};
        real out[4];
        for (ptrdiff_t k = 0; k < group; k++) {
            const real *row = x + (i + k) * n;
            vec part[4] = {identity, identity, identity, identity};
            ptrdiff_t j = 0;
            for (; j + 4 * VL <= n; j += 4 * VL)
                for (ptrdiff_t t = 0; t < 4; t++)
                    part[t] = FN(pool_reduce)(op, part[t], FN(pool_term)(op, p, vload(row + j + t * VL)));
            for (; j < whole; j += VL)
                part[0] = FN(pool_reduce)(op, part[0], FN(pool_term)(op, p, vload(row + j)));
            if (j < n)
                part[1] = FN(pool_reduce)(op, part[1],
                                          vsel(inside, FN(pool_term)(op, p, vload_n(row + j, n - j)), identity));
            acc[k] = FN(pool_reduce)(op, FN(pool_reduce)(op, part[0], part[1]),
                                     FN(pool_reduce)(op, part[2], part[3]));
        }
        FN(pool_lanes)(op, acc, out);
        for (ptrdiff_t k = 0; k < group; k++)
            y[i + k] = out[k];
        for (ptrdiff_t k = 0; index && k < group; k++) { /* the first pixel that is it, or NaN */
            const real *row = x + (i + k) * n;
            ivec best = (ivec){0} + FNN_NO_INDEX;
            for (ptrdiff_t j = 0; j < n; j += VL) {
                const vec v = vload_upto(row + j, n - j);
                const ivec hit = ((v == vset1(out[k])) | (v != v)) & (viota() < (inat)(n - j)), at = viota() + (inat)j;
                best = (ivec)vsel(hit & (at < best), (vec)at, (vec)best);
            }
            iy[i + k] = FN(pool_least)(best);
        }
    }
    const vec count = vset1((real)(p->divisor ? p->divisor : n));
    for (ptrdiff_t i = 0; op >= POOL_AVG && i < planes; i += VL)
        vstore_upto(y + i, FN(pool_result)(op, p, vload_upto(y + i, planes - i), count), planes - i);
}

/* Pools `planes` planes of h x w into planes of oh x ow. */
FNN_INLINE void FN(pool_planes)(const int op, const int index, const fnn_pool *p, ptrdiff_t planes,
                                const fnn_pool_arrays *a, real *scratch)
{
    const real *x = a->src;
    real *y = a->dst;
    inat *iy = a->index;
    if (pool_is_whole(p)) {
        FN(pool_whole)(op, index, p, planes, x, y, iy);
        return;
    }
    FN(pool_rows) b;
    FN(pool_layout)(p, scratch, &b);
    const inat no_index = FNN_NO_INDEX;
    real no_index_bits;
    memcpy(&no_index_bits, &no_index, sizeof(real));
    for (ptrdiff_t i = 0; i < b.length; i++)
        b.row[i] = FN(pool_identity)(op);
    for (ptrdiff_t i = 0; index && i < b.length; i++)
        b.irow[i] = FNN_NO_INDEX;
    if (op >= POOL_AVG)
        FN(pool_divisors)(p, round_up(p->ow, VL), b.divisors);
    if (!p->kw)
        FN(pool_columns)(p, b.start, b.count);
    const int past = FN(pool_past)(p, y, p->ow);
    const int usual = p->kw && p->dw == 1;
    for (ptrdiff_t i = 0; i < planes; i++, x += p->h * p->w) {
        for (ptrdiff_t u = 0; u < p->oh; u++, y += p->ow, iy += index ? p->ow : 0) {
            /* the taps inside the image */
            ptrdiff_t start = pool_start(u, p->h, p->oh, p->kh, p->sh, p->ph);
            ptrdiff_t taps = p->kh ? p->kh : pool_end(u, p->h, p->oh, 0, 0, 0) - start;
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
            if (!p->kw || b.sw > 2) {
                FN(pool_split)(p, &b, b.row, b.split, FN(pool_identity)(op));
                if (index)
                    FN(pool_split)(p, &b, (const real *)b.irow, (real *)b.isplit, no_index_bits);
            }
            if (usual && p->ow == 1 && b.taps > 4)
                FN(pool_across_one)(op, index, p, &b, u, y, iy);
            else if (usual && b.sw == 2 && b.taps == 2)
                FN(pool_across)(op, index, 2, 2, 1, b.phase, p, &b, u, past, y, iy);
            else if (usual && b.sw == 2 && b.taps == 3)
                FN(pool_across)(op, index, 3, 2, 1, b.phase, p, &b, u, past, y, iy);
            else if (usual && b.sw == 1 && b.taps == 3)
                FN(pool_across)(op, index, 3, 1, 0, 1, p, &b, u, past, y, iy);
            else
                FN(pool_across)(op, index, b.taps, b.sw, b.turn, b.step, p, &b, u, past, y, iy);
        }
    }
    vstream_end();
}

static void FN(max_pool)(const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a, void *scratch)
{
    if (a->index)
        FN(pool_planes)(POOL_MAX, 1, p, planes, a, scratch);
    else
        FN(pool_planes)(POOL_MAX, 0, p, planes, a, scratch);
}

static void FN(min_pool)(const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a, void *scratch)
{
    if (a->index)
        FN(pool_planes)(POOL_MIN, 1, p, planes, a, scratch);
    else
        FN(pool_planes)(POOL_MIN, 0, p, planes, a, scratch);
}

static void FN(avg_pool)(const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a, void *scratch)
{
    FN(pool_planes)(POOL_AVG, 0, p, planes, a, scratch);
}

static void FN(lp_pool)(const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a, void *scratch)
{
    if (p->norm == 1)
        FN(pool_planes)(POOL_SUM, 0, p, planes, a, scratch);
    else if (p->norm == 2)
        FN(pool_planes)(POOL_SQUARES, 0, p, planes, a, scratch);
    else
        FN(pool_planes)(POOL_POWERS, 0, p, planes, a, scratch);
}

static ptrdiff_t FN(pool_scratch)(const fnn_pool *p)
{
    FN(pool_rows) b;
    return pool_is_whole(p) ? 0 : FN(pool_layout)(p, 0, &b) * (ptrdiff_t)sizeof(real);
}
