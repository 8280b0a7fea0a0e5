/* Sub-sampling of planes: windows of one pixel, which may start at a negative padding. */

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

static void FN(subsample)(const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a, void *scratch)
{
    (void)scratch;
    FN(subsample_planes)(0, p, planes, (real *)a->src, a->dst);
}

static void FN(subsample_backward)(const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a, void *scratch)
{
    (void)scratch;
    real *dy = (real *)a->src, *dx = a->dst;
    const ptrdiff_t pixels = p->h * p->w, outputs = p->oh * p->ow;
    ptrdiff_t n = 8192 / pixels + 1; /* planes at a time, few enough to be in the first-level cache the second time */
    for (ptrdiff_t i = 0; i < planes; i += n) {
        if (n > planes - i)
            n = planes - i;
        if (outputs < pixels)
            memset(dx + i * pixels, 0, (size_t)(n * pixels) * sizeof(real));
        FN(subsample_planes)(1, p, n, dx + i * pixels, dy + i * outputs);
    }
}
