/* Results that a task makes from the first element to the last, row by row, whatever the length of a row and wherever
 * it begins. Past the caches they gather in a buffer, of which whole vectors leave: a line that two rows share is
 * written once. */

#ifndef FNN_WRITER_H
#define FNN_WRITER_H
enum { FNN_CLAIM = 1024 }; /* most elements of a claim */
enum { FNN_WAITING = 1024 }; /* bytes after which they leave: few, so that their stores overlap with work on the next */

/* Sources are fetched so many bytes ahead, as memory delivers while it takes to answer: where they are read with gaps, or
 * several side by side, the machine's own prefetching gives up (a crop of 31 MB ran at 12 GB/s without, and at 44 where the gaps were shorter). */
enum { FNN_AHEAD = 4096, FNN_LINE = 64, FNN_MANY = 2048 };
FNN_INLINE void fetch_ahead(const void *p) { __builtin_prefetch((const void *)((uintptr_t)p + FNN_AHEAD)); }
#endif

typedef struct {
    real buffer[FNN_WAITING / sizeof(real) + FNN_CLAIM] __attribute__((aligned(64)));
    real *dst;           /* where buffer[0] goes, or the next element if nothing is buffered */
    ptrdiff_t first, n;  /* buffer[i], first <= i < n, waits */
    int past;
} FN(writer);

FNN_INLINE void FN(writer_begin)(FN(writer) *o, real *dst, int past)
{
    o->past = past;
    o->first = o->n = past ? (ptrdiff_t)((uintptr_t)dst % FNN_VBYTES / sizeof(real)) : 0;
    o->dst = dst - o->first;
}

FNN_INLINE void FN(writer_flush)(FN(writer) *o)
{
    const ptrdiff_t whole = o->n / VL * VL;
    ptrdiff_t i = 0;
    if (o->first && whole) {
        vstore_n(o->dst + o->first, vload_upto(o->buffer + o->first, VL - o->first), VL - o->first);
        o->first = 0, i = VL;
    }
    for (; i < whole; i += VL)
        vstream(o->dst + i, vload(o->buffer + i));
    vstore(o->buffer, vload_upto(o->buffer + whole, o->n - whole));
    o->dst += whole, o->n -= whole;
}

/* Where to put the next n <= FNN_CLAIM elements; nothing behind them may be touched. */
FNN_INLINE real *FN(writer_claim)(FN(writer) *o, ptrdiff_t n)
{
    if (!o->past)
        return (o->dst += n) - n;
    if (o->n > (ptrdiff_t)(FNN_WAITING / sizeof(real)))
        FN(writer_flush)(o);
    return o->buffer + (o->n += n) - n;
}

FNN_INLINE void FN(writer_end)(FN(writer) *o)
{
    if (!o->past)
        return;
    FN(writer_flush)(o);
    for (ptrdiff_t i = o->first; i < o->n; i++)
        o->dst[i] = o->buffer[i];
    vstream_end();
}

/* The next n <= FNN_CLAIM elements are those at src. */
FNN_INLINE void FN(writer_copy_some)(FN(writer) *o, const real *src, ptrdiff_t n)
{
    real *p = FN(writer_claim)(o, n);
    ptrdiff_t i = 0;
    if (n > 2 * VL) { /* stores that cross lines cost more than loads, and the buffer is read by whole vectors */
        i = vstream_head(p, n);
        vstore_n(p, vload_n(src, i), i);
    }
    for (; i < n; i += VL) {
        fetch_ahead(src + i);
        vstore_upto(p + i, vload_upto(src + i, n - i), n - i);
    }
}

/* The next n elements are those at src. Many go past the buffer, too; or, if the caches keep them, through memcpy,
 * which can write whole lines without reading them first. */
FNN_INLINE void FN(writer_copy)(FN(writer) *o, const real *src, ptrdiff_t n)
{
    if (!o->past && n * (ptrdiff_t)sizeof(real) >= FNN_MANY) {
        memcpy(o->dst, src, (size_t)n * sizeof(real));
        o->dst += n;
        return;
    }
    if (o->past && n > FNN_CLAIM) {
        ptrdiff_t i = (VL - o->n % VL) % VL;
        FN(writer_copy_some)(o, src, i);
        FN(writer_flush)(o); /* of all, since it is whole vectors */
        real *dst = o->dst - i;
        for (; i + VL <= n; i += VL) {
            fetch_ahead(src + i);
            vstream(dst + i, vload(src + i));
        }
        o->dst = dst + i, src += i, n -= i;
    }
    for (; n > 0; n -= FNN_CLAIM, src += FNN_CLAIM)
        FN(writer_copy_some)(o, src, n < FNN_CLAIM ? n : FNN_CLAIM);
}

/* The next n elements are `value`. */
FNN_INLINE void FN(writer_fill)(FN(writer) *o, real value, ptrdiff_t n)
{
    for (; n > 0; n -= FNN_CLAIM) {
        const ptrdiff_t some = n < FNN_CLAIM ? n : FNN_CLAIM;
        real *p = FN(writer_claim)(o, some);
        for (ptrdiff_t i = 0; i < some; i += VL)
            vstore_upto(p + i, vset1(value), some - i);
    }
}
