/* Depthwise convolution of whole planes: one kernel a channel. Rows are read where they lie: columns outside the image
 * are masked lanes, rows outside are a row of zeros. A block of VL columns goes down the plane, so that its masks are
 * made once. Strides along the row of 1 and 2; other cases take the slab of fastnn/kernels/conv.pyx.
 */

enum { FN(ROWS) = 4 }; /* of results at a time: they share a weight, and hide the latency of its sums */

typedef struct {
    lanes low, high;
} FN(columns);

/* Which of the elements first + l of two vectors lie in [0, n), and not behind `used`. */
FNN_INLINE FN(columns) FN(columns_of)(ptrdiff_t first, ptrdiff_t n, ptrdiff_t used)
{
    const ptrdiff_t low = -first, high = n - first < used ? n - first : used;
    return (FN(columns)){vbetween(low, high), vbetween(low - VL, high - VL)};
}

/* Every step-th element from p on. */
FNN_INLINE vec FN(load_columns)(const int step, FN(columns) m, const real *p)
{
    const vec a = vload_if(m.low, p);
    return step == 1 ? a : veven(a, vload_if(m.high, p + VL));
}

/* The three taps of a row of a 3 x 3 kernel without dilation; row NULL: outside the image. */
FNN_INLINE void FN(load_row)(const int step, const FN(columns) *m, const real *row, vec *e)
{
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++)
        e[j] = row ? FN(load_columns)(step, m[j], row + j) : (vec){0};
}

FNN_INLINE vec FN(sum3)(vec acc, const vec *w, const vec *e) { return acc + w[0] * e[0] + w[1] * e[1] + w[2] * e[2]; }

FNN_INLINE void FN(store_row)(vec acc, vec bias, int flags, real *y, ptrdiff_t n)
{
    acc += bias;
    vstore_upto(y, flags & FNN_RELU ? vrelu(acc) : acc, n);
}

/* Rows [u0, u1) of the result of one plane, columns from v on. */
FNN_INLINE void FN(depthwise_block)(const int r, const int s, const int step, const fnn_window *g, const real *x,
                                    const real *w, const real *zeros, vec bias, int flags, ptrdiff_t v, ptrdiff_t u0,
                                    ptrdiff_t u1, real *y)
{
    FN(columns) m[FNN_WINDOW_COLUMNS];
    const ptrdiff_t first = v * step - g->left, n = g->ow - v < VL ? g->ow - v : VL;
    for (int j = 0; j < s; j++)
        m[j] = FN(columns_of)(first + j * g->dx, g->w, 2 * VL);
    for (ptrdiff_t u = u0; u < u1; u += FN(ROWS)) {
        const ptrdiff_t rows = u1 - u < FN(ROWS) ? u1 - u : FN(ROWS);
        vec acc[FN(ROWS)];
#pragma GCC unroll 4
        for (int k = 0; k < FN(ROWS); k++)
            acc[k] = (vec){0};
#pragma GCC unroll 3
        for (int i = 0; i < r; i++) {
            const real *row[FN(ROWS)];
            ptrdiff_t at = u * g->sy + i * g->dy - g->top;
#pragma GCC unroll 4
            for (int k = 0; k < FN(ROWS); k++, at += g->sy)
                row[k] = (k < rows && at >= 0 && at < g->h ? x + at * g->w : zeros) + first;
#pragma GCC unroll 3
            for (int j = 0; j < s; j++) {
                const vec wt = vset1(w[i * s + j]);
#pragma GCC unroll 4
                for (int k = 0; k < FN(ROWS); k++)
                    acc[k] += wt * FN(load_columns)(step, m[j], row[k] + j * g->dx);
            }
        }
#pragma GCC unroll 4
        for (int k = 0; k < FN(ROWS); k++)
            if (k < rows)
                FN(store_row)(acc[k], bias, flags, y + (u + k) * g->ow + v, n);
    }
}

/* The same for 3 x 3 kernels without dilation and equal strides: going down, each row of the image is loaded once and
 * added to all the results that it meets. */
FNN_INLINE void FN(depthwise_3x3)(const int step, const fnn_window *g, const real *x, const real *w, vec bias,
                                  int flags, ptrdiff_t v, ptrdiff_t u0, ptrdiff_t u1, real *y)
{
    const ptrdiff_t first = v * step - g->left, n = g->ow - v < VL ? g->ow - v : VL;
    FN(columns) m[3];
    vec wt[9], e[3];
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++)
        m[j] = FN(columns_of)(first + j, g->w, 2 * VL);
#pragma GCC unroll 9
    for (int t = 0; t < 9; t++)
        wt[t] = vset1(w[t]);
    ptrdiff_t at = u0 * step - g->top; /* the row of x that tap row 0 of result u0 meets */
#define FNN_NEXT() (at >= 0 && at < g->h ? x + at * g->w + first : 0)
    FN(load_row)(step, m, FNN_NEXT(), e);
    vec acc = FN(sum3)((vec){0}, wt, e), next;
    y += u0 * g->ow + v;
    if (step == 1) {
        at++;
        FN(load_row)(step, m, FNN_NEXT(), e);
        acc = FN(sum3)(acc, wt + 3, e);
        next = FN(sum3)((vec){0}, wt, e);
        for (ptrdiff_t u = u0; u < u1; u++, y += g->ow) {
            at++;
            FN(load_row)(step, m, FNN_NEXT(), e);
            FN(store_row)(FN(sum3)(acc, wt + 6, e), bias, flags, y, n);
            acc = FN(sum3)(next, wt + 3, e);
            next = FN(sum3)((vec){0}, wt, e);
        }
    } else {
        for (ptrdiff_t u = u0; u < u1; u++, y += g->ow) {
            at++;
            FN(load_row)(step, m, FNN_NEXT(), e);
            acc = FN(sum3)(acc, wt + 3, e);
            at++;
            FN(load_row)(step, m, FNN_NEXT(), e);
            FN(store_row)(FN(sum3)(acc, wt + 6, e), bias, flags, y, n);
            acc = FN(sum3)((vec){0}, wt, e);
        }
    }
#undef FNN_NEXT
}

FNN_INLINE int FN(is_3x3)(const fnn_window *g)
{
    return g->r == 3 && g->s == 3 && g->dx == 1 && g->dy == 1 && g->sx == g->sy;
}

/* Planes of consecutive channels. */
static void FN(depthwise)(const fnn_window *g, ptrdiff_t planes, const void *x_, const void *w_, const void *zeros,
                          const void *bias_, int flags, ptrdiff_t u0, ptrdiff_t u1, void *y_)
{
    const real *x = x_, *w = w_, *bias = bias_;
    real *y = y_;
    const int r = (int)g->r, s = (int)g->s, step = (int)g->sx, usual = FN(is_3x3)(g);
    for (ptrdiff_t p = 0; p < planes; p++, x += g->h * g->w, w += r * s, y += g->oh * g->ow) {
        const vec b = vset1(bias ? bias[p] : 0);
        for (ptrdiff_t v = 0; v < g->ow; v += VL) {
            if (usual && step == 1)
                FN(depthwise_3x3)(1, g, x, w, b, flags, v, u0, u1, y);
            else if (usual)
                FN(depthwise_3x3)(2, g, x, w, b, flags, v, u0, u1, y);
            else if (step == 1)
                FN(depthwise_block)(r, s, 1, g, x, w, zeros, b, flags, v, u0, u1, y);
            else
                FN(depthwise_block)(r, s, 2, g, x, w, zeros, b, flags, v, u0, u1, y);
        }
    }
}

/* Columns 2a and 2a + 1, of VL columns a, of rows [y0, y1) of the input's gradient; they meet the same columns of dy,
 * each with the taps of its parity: tap j belongs to column 2a + 1 if left - j*dx is odd. left_is_odd: a constant
 * where dx is 1, else negative. */
FNN_INLINE void FN(spread_block)(const int s, const int left_is_odd, const fnn_window *g, const real *dy,
                                 const real *w, vec bias, ptrdiff_t a, ptrdiff_t y0, ptrdiff_t y1, real *dx)
{
    FN(columns) m[FNN_WINDOW_COLUMNS];
    ptrdiff_t shift[FNN_WINDOW_COLUMNS];
    int odd[FNN_WINDOW_COLUMNS];
    const ptrdiff_t n = g->w - 2 * a;
    for (int j = 0; j < s; j++) {
        const ptrdiff_t from = g->left - j * g->dx;
        odd[j] = left_is_odd >= 0 ? (left_is_odd + j) & 1 : (int)(from & 1);
        shift[j] = a + (odd[j] + from) / 2;
        m[j] = FN(columns_of)(shift[j], g->ow, VL);
    }
    for (ptrdiff_t y = y0; y < y1; y++) {
        vec even_sum = bias, odd_sum = bias;
        for (ptrdiff_t i = 0; i < g->r; i++) {
            const ptrdiff_t at = y + g->top - i * g->dy, u = at / g->sy;
            if (at < 0 || u * g->sy != at || u >= g->oh)
                continue;
            const real *row = dy + u * g->ow, *wi = w + i * s;
#pragma GCC unroll 3
            for (int j = 0; j < s; j++) {
                const vec t = vset1(wi[j]) * vload_if(m[j].low, row + shift[j]);
                if (odd[j])
                    odd_sum += t;
                else
                    even_sum += t;
            }
        }
        real *dst = dx + y * g->w + 2 * a;
        vstore_upto(dst, vzip_lo(even_sum, odd_sum), n);
        if (n > VL)
            vstore_upto(dst + VL, vzip_hi(even_sum, odd_sum), n - VL);
    }
}

/* The input's gradient for sx = 2; w is as in the forward direction. */
static void FN(depthwise_spread)(const fnn_window *g, ptrdiff_t planes, const void *dy_, const void *w_,
                                 const void *bias_, ptrdiff_t y0, ptrdiff_t y1, void *dx_)
{
    const real *dy = dy_, *w = w_, *bias = bias_;
    real *dx = dx_;
    for (ptrdiff_t p = 0; p < planes; p++, dy += g->oh * g->ow, w += g->r * g->s, dx += g->h * g->w) {
        const vec b = vset1(bias ? bias[p] : 0);
        for (ptrdiff_t a = 0; 2 * a < g->w; a += VL) {
            if (g->s == 3 && g->dx == 1 && g->left % 2)
                FN(spread_block)(3, 1, g, dy, w, b, a, y0, y1, dx);
            else if (g->s == 3 && g->dx == 1)
                FN(spread_block)(3, 0, g, dy, w, b, a, y0, y1, dx);
            else
                FN(spread_block)((int)g->s, -1, g, dy, w, b, a, y0, y1, dx);
        }
    }
}

/* `count` taps from row i, column j of the kernel on, for one block of columns: acc += dy * x over the rows */
FNN_INLINE void FN(depthwise_sums_block)(const int count, const int step, const fnn_window *g, const real *x,
                                         const real *dy, ptrdiff_t i, ptrdiff_t j, ptrdiff_t v, vec *part)
{
    FN(columns) m[4];
    vec acc[4]; /* rows outside the image count as zeros, which make a NaN of an infinite gradient */
    const ptrdiff_t first = v * step - g->left + j * g->dx, n = g->ow - v < VL ? g->ow - v : VL;
    const lanes results = vfirst(n);
#pragma GCC unroll 4
    for (int t = 0; t < count; t++) {
        m[t] = FN(columns_of)(first + t * g->dx, g->w, step * n);
        acc[t] = part[t];
    }
    ptrdiff_t at = i * g->dy - g->top;
    for (ptrdiff_t u = 0; u < g->oh; u++, at += g->sy) {
        const vec d = vload_if(results, dy + u * g->ow + v);
        const real *row = at >= 0 && at < g->h ? x + at * g->w + first : 0;
#pragma GCC unroll 4
        for (int t = 0; t < count; t++)
            acc[t] += d * (row ? FN(load_columns)(step, m[t], row + t * g->dx) : (vec){0});
    }
#pragma GCC unroll 4
    for (int t = 0; t < count; t++)
        part[t] = acc[t];
}

/* All nine taps of a 3 x 3 kernel without dilation and with equal strides; rows of x are loaded once. */
FNN_INLINE void FN(depthwise_sums_3x3)(const int step, const fnn_window *g, const real *x, const real *dy,
                                       ptrdiff_t v, vec *part)
{
    const ptrdiff_t first = v * step - g->left, n = g->ow - v < VL ? g->ow - v : VL;
    const lanes results = vfirst(n);
    FN(columns) m[3];
    vec acc[9], e[3];
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++)
        m[j] = FN(columns_of)(first + j, g->w, step * n);
#pragma GCC unroll 9
    for (int t = 0; t < 9; t++)
        acc[t] = part[t];
    vec d[3] = {{0}, {0}, {0}}; /* of results u, u - 1, u - 2 */
    dy += v;
    if (step == 1) { /* row u - top of x meets these with its tap rows 0, 1, 2 */
        for (ptrdiff_t u = 0; u < g->oh + 2; u++) {
            const ptrdiff_t at = u - g->top;
            d[2] = d[1];
            d[1] = d[0];
            d[0] = u < g->oh ? vload_if(results, dy + u * g->ow) : (vec){0};
            FN(load_row)(step, m, at >= 0 && at < g->h ? x + at * g->w + first : 0, e);
#pragma GCC unroll 9
            for (int t = 0; t < 9; t++)
                acc[t] += d[t / 3] * e[t % 3];
        }
    } else { /* row 2u - top meets u and u - 1 with tap rows 0 and 2, row 2u - top + 1 meets u with tap row 1 */
        for (ptrdiff_t u = 0; u < g->oh + 1; u++) {
            const ptrdiff_t at = 2 * u - g->top;
            d[1] = d[0];
            d[0] = u < g->oh ? vload_if(results, dy + u * g->ow) : (vec){0};
            FN(load_row)(step, m, at >= 0 && at < g->h ? x + at * g->w + first : 0, e);
#pragma GCC unroll 3
            for (int j = 0; j < 3; j++) {
                acc[j] += d[0] * e[j];
                acc[6 + j] += d[1] * e[j];
            }
            FN(load_row)(step, m, at + 1 >= 0 && at + 1 < g->h ? x + (at + 1) * g->w + first : 0, e);
#pragma GCC unroll 3
            for (int j = 0; j < 3; j++)
                acc[3 + j] += d[0] * e[j];
        }
    }
#pragma GCC unroll 9
    for (int t = 0; t < 9; t++)
        part[t] = acc[t];
}

#define FNN_SUMS(COUNT, STEP) FN(depthwise_sums_block)(COUNT, STEP, g, x, dy, i, j, v, part + i * g->s + j)
#define FNN_SUMS_OF(STEP) \
    switch (g->s - j < 4 ? g->s - j : 4) { \
    case 1: FNN_SUMS(1, STEP); break; \
    case 2: FNN_SUMS(2, STEP); break; \
    case 3: FNN_SUMS(3, STEP); break; \
    default: FNN_SUMS(4, STEP); \
    }

/* dw of one channel, summed over images whose planes lie x_image and dy_image apart */
static void FN(depthwise_sums)(const fnn_window *g, ptrdiff_t images, const void *x_, ptrdiff_t x_image,
                               const void *dy_, ptrdiff_t dy_image, void *dw_)
{
    const real *x = x_, *dy = dy_;
    real *dw = dw_;
    vec part[FNN_WINDOW_TAPS];
    for (ptrdiff_t t = 0; t < g->r * g->s; t++)
        part[t] = (vec){0};
    for (ptrdiff_t n = 0; n < images; n++, x += x_image, dy += dy_image)
        for (ptrdiff_t v = 0; v < g->ow; v += VL) {
            if (FN(is_3x3)(g)) {
                if (g->sx == 1)
                    FN(depthwise_sums_3x3)(1, g, x, dy, v, part);
                else
                    FN(depthwise_sums_3x3)(2, g, x, dy, v, part);
                continue;
            }
            for (ptrdiff_t i = 0; i < g->r; i++)
                for (ptrdiff_t j = 0; j < g->s; j += 4) {
                    if (g->sx == 1)
                        FNN_SUMS_OF(1)
                    else
                        FNN_SUMS_OF(2)
                }
        }
    for (ptrdiff_t t = 0; t < g->r * g->s; t++)
        dw[t] = vsum(part[t]);
}
#undef FNN_SUMS
#undef FNN_SUMS_OF

static const fnn_depthwise_ukernels FN(depthwise_ukernels) = {
    .forward = FN(depthwise),
    .spread = FN(depthwise_spread),
    .sums = FN(depthwise_sums),
};
