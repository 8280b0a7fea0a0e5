/* Elements moved as they are: padding, cropping and concatenation, any piece of the results at a time. */

#ifndef FNN_MOVE_H /* what both element types share */
#define FNN_MOVE_H
/* The element of an axis of n that padding repeats at i < 0 or i >= n; -1 for none. */
FNN_INLINE ptrdiff_t pad_source(int mode, ptrdiff_t i, ptrdiff_t n)
{
    if (i >= 0 && i < n)
        return i;
    switch (mode) {
    case FNN_REFLECT:
        return i < 0 ? -i : 2 * (n - 1) - i;
    case FNN_REPLICATE:
        return i < 0 ? 0 : n - 1;
    case FNN_CIRCULAR:
        return i < 0 ? i + n : i - n;
    default:
        return -1;
    }
}

FNN_INLINE ptrdiff_t move_min(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
#endif

/* Columns [c0, c1) of a padded row; x NULL: of one that is all padding. blank: so many values are due, by which they go
 * from the end of one row to the beginning of the next at once. */
FNN_INLINE void FN(pad_row)(const fnn_pad *g, const real *x, ptrdiff_t c0, ptrdiff_t c1, FN(writer) *o,
                            ptrdiff_t *blank)
{
    const ptrdiff_t n = g->n[g->ndim - 1], before = g->before[g->ndim - 1];
    /* the columns that are x: none of a row without it */
    const ptrdiff_t start = x ? before < c0 ? c0 : move_min(before, c1) : c1;
    const ptrdiff_t stop = x && before + n > start ? move_min(before + n, c1) : start;
    if (g->mode == FNN_CONSTANT) {
        if (start < stop) {
            FN(writer_fill)(o, (real)g->value, *blank + start - c0);
            FN(writer_copy)(o, x + (start - before), stop - start);
            *blank = c1 - stop;
        } else {
            *blank += c1 - c0;
        }
        return;
    }
    for (ptrdiff_t c = c0; c < start; c++)
        *FN(writer_claim)(o, 1) = x[pad_source(g->mode, c - before, n)];
    FN(writer_copy)(o, x + (start - before), stop - start);
    for (ptrdiff_t c = stop; c < c1; c++)
        *FN(writer_claim)(o, 1) = x[pad_source(g->mode, c - before, n)];
}

static void FN(pad)(const fnn_pad *g, ptrdiff_t first, ptrdiff_t last, const void *x, void *y, int past)
{
    const int axes = g->ndim - 1; /* those of the rows */
    const ptrdiff_t width = g->out[axes];
    ptrdiff_t index[FNN_AXES], row = first / width;
    for (int a = axes - 1; a >= 0; a--) {
        index[a] = row % g->out[a];
        row /= g->out[a];
    }
    FN(writer) o;
    FN(writer_begin)(&o, (real *)y + first, past);
    ptrdiff_t blank = 0;
    for (ptrdiff_t at = first, c = first % width; at < last; at += width - c, c = 0) {
        ptrdiff_t source = 0;
        for (int a = 0; a < axes && source >= 0; a++) {
            const ptrdiff_t i = pad_source(g->mode, index[a] - g->before[a], g->n[a]);
            source = i < 0 ? -1 : source * g->n[a] + i;
        }
        FN(pad_row)(g, source < 0 ? 0 : (const real *)x + source * g->n[axes], c, move_min(width, c + last - at), &o,
                    &blank);
        for (int a = axes - 1; a >= 0 && ++index[a] == g->out[a]; a--)
            index[a] = 0;
    }
    FN(writer_fill)(&o, (real)g->value, blank);
    FN(writer_end)(&o);
}

/* Columns [c0, c1) of dx += those of a padded row of gradients that repeat them. */
FNN_INLINE void FN(pad_row_backward)(const fnn_pad *g, const real *dy, ptrdiff_t c0, ptrdiff_t c1, real *dx)
{
    const ptrdiff_t n = g->n[2], before = g->before[2];
    for (ptrdiff_t c = c0; c < c1; c += VL)
        vstore_upto(dx + c - c0, vload_upto(dx + c - c0, c1 - c) + vload_upto(dy + before + c, c1 - c), c1 - c);
    for (ptrdiff_t c = 0; c < g->out[2]; c++) {
        if (c == before)
            c += n;
        if (c == g->out[2])
            break;
        const ptrdiff_t j = pad_source(g->mode, c - before, n);
        if (j >= c0 && j < c1)
            dx[j - c0] += dy[c];
    }
}

static void FN(pad_backward)(const fnn_pad *g, ptrdiff_t first, ptrdiff_t last, const void *dy_, void *dx, int past)
{
    const ptrdiff_t h = g->n[1], w = g->n[2], before = g->before[1], oh = g->out[1], ow = g->out[2];
    FN(writer) o;
    FN(writer_begin)(&o, (real *)dx + first, past);
    for (ptrdiff_t at = first, n; at < last; at += n) {
        const ptrdiff_t c = at % w, row = at / w % h;
        const real *dy = (const real *)dy_ + at / w / h * oh * ow;
        n = move_min(move_min(w - c, last - at), FNN_CLAIM);
        real *p = FN(writer_claim)(&o, n);
        for (ptrdiff_t i = 0; i < n; i += VL)
            vstore_upto(p + i, (vec){0}, n - i);
        FN(pad_row_backward)(g, dy + (before + row) * ow, c, c + n, p);
        for (ptrdiff_t u = 0; u < oh; u++) { /* the rows of padding that repeat this one */
            if (u == before)
                u += h;
            if (u < oh && pad_source(g->mode, u - before, h) == row)
                FN(pad_row_backward)(g, dy + u * ow, c, c + n, p);
        }
    }
    FN(writer_end)(&o);
}

static void FN(concat)(const fnn_concat *g, ptrdiff_t first, ptrdiff_t last, void *y, int past)
{
    ptrdiff_t width = 0, k = 0;
    for (ptrdiff_t i = 0; i < g->count; i++)
        width += g->lengths[i];
    ptrdiff_t row = first / width, c = first % width;
    while (c >= g->lengths[k])
        c -= g->lengths[k++];
    FN(writer) o;
    FN(writer_begin)(&o, (real *)y + first, past);
    for (ptrdiff_t at = first; at < last; c = 0) {
        const ptrdiff_t length = g->lengths[k], n = move_min(length - c, last - at);
        FN(writer_copy)(&o, (const real *)g->arrays[k] + row * length + c, n);
        at += n;
        if (++k == g->count)
            k = 0, row++;
    }
    FN(writer_end)(&o);
}

static const fnn_move_ukernels FN(move_ukernels) = {
    .pad = FN(pad),
    .pad_backward = FN(pad_backward),
    .concat = FN(concat),
};
