/* The table of micro-kernels.
 *
 * all.c is compiled once per instruction set; each compilation defines one external symbol, an array of two tables
 * (FNN_F32, FNN_F64). Array arguments are `void *` to elements of the table's type, so that the loop nests in
 * fastnn/kernels are written once for both types. Lengths, strides and offsets count elements, never bytes.
 * A micro-kernel is one tile of work of one thread: it never allocates, checks or fails.
 */
#ifndef FNN_UKERNELS_H
#define FNN_UKERNELS_H

#include <stddef.h>
#include <stdint.h>

enum { FNN_F32 = 0, FNN_F64 = 1 };

/* Flags of a matrix product's epilogue. */
enum { FNN_ACCUMULATE = 1 /* C += instead of C = */, FNN_RELU = 2 /* after bias */ };

/* `length` consecutive elements from `start` on. */
typedef struct {
    ptrdiff_t start, length;
} fnn_run;

/* A row of result pixels: where the source of its first pixel, tap 0, lies; how many; where the first one goes. */
typedef struct {
    ptrdiff_t start, length, y;
} fnn_line;

/* ---- gemm.c ---- */

/* A panel of B where it lies: row p is the runs at src + off[p], one after the other, and zeros up to nr. */
typedef struct {
    const ptrdiff_t *off;
    const void *src; /* of this panel, which the tile is to pack; NULL: it is packed */
    ptrdiff_t nruns;
    const fnn_run *runs;
    const void *next; /* of the panel after it; rows first <= p < last of it are prefetched. NULL: none */
    ptrdiff_t first, last;
} fnn_feed;

typedef struct {
    int mr, nr, vl; /* rows and columns of the register tile; lanes of a vector */
    int itemsize;   /* bytes of an element */
    /* tile[m]: C[m][n] (+)= A[k][m]^T * B[k][nr], 1 <= m <= mr, n <= nr, + bias[m], ReLU; reads all nr columns of B.
     * feed (may be NULL): where B comes from if it is not at b yet, and what to fetch meanwhile */
    void (*tile[15])(ptrdiff_t k, const void *a, void *b, ptrdiff_t ldb, void *c, ptrdiff_t ldc, ptrdiff_t n,
                     const void *bias, int flags, const fnn_feed *feed);
    /* dst[p][i] = a[i*rs + off[p]], i < m, p < k */
    void (*pack_a)(ptrdiff_t m, ptrdiff_t k, const void *a, ptrdiff_t rs, const ptrdiff_t *off, void *dst);
    /* dst[p][width] = the runs of row p (at src + off[p] + run.start) one after the other, zero-filled; dst needs vl
     * elements to spare. slack: vl - 1 elements behind every run may be read, which is faster */
    void (*pack_b)(ptrdiff_t k, const void *src, const ptrdiff_t *off, ptrdiff_t nruns, const fnn_run *runs, void *dst,
                   ptrdiff_t width, int slack);
    /* C[m][n] (+)= A[m][k] * B[n][k]^T, + bias[n], ReLU */
    void (*dot)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const void *a, ptrdiff_t lda, const void *b, ptrdiff_t ldb,
                void *c, ptrdiff_t ldc, const void *bias, int flags);
    /* C[m][n] (+)= A * B, n <= nr: the sum runs over the lines, whose elements of row i of A lie at a + off[i] + start
     * and whose rows of B follow each other, ldb apart; reads whole vectors of them */
    void (*outer)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t nlines, const fnn_line *lines, const void *a,
                  const ptrdiff_t *off, const void *b, ptrdiff_t ldb, void *c, ptrdiff_t ldc, int flags);
    /* dst[j][i] = src[i][j] for i < m, j < n */
    void (*transpose)(ptrdiff_t m, ptrdiff_t n, const void *src, ptrdiff_t src_row, void *dst, ptrdiff_t dst_row);
} fnn_gemm_ukernels;

/* ---- conv.c ---- */

typedef struct {
    /* for every row, src_row and dst_row apart: dst[t] = src[first + t*step] for t < count, zero outside [0, w) */
    void (*gather_rows)(ptrdiff_t rows, const void *src, ptrdiff_t src_row, ptrdiff_t w, ptrdiff_t first,
                        ptrdiff_t step, ptrdiff_t count, void *dst, ptrdiff_t dst_row);
    /* dst[first + t*step] += src[t] for t < count, dropped outside [0, w) */
    void (*scatter_row)(const void *src, ptrdiff_t count, void *dst, ptrdiff_t w, ptrdiff_t first, ptrdiff_t step);
    /* for every row: the runs' elements, which follow each other in src, to dst[start], dst[start + step], … */
    void (*put_rows)(ptrdiff_t rows, const void *src, ptrdiff_t src_row, ptrdiff_t nruns, const fnn_run *runs,
                     void *dst, ptrdiff_t dst_row, ptrdiff_t step);
    /* y[v] = bias[0] + sum over t < taps of w[t] * src[off[t] + v], v < n, ReLU */
    void (*tap_row)(ptrdiff_t n, const void *src, ptrdiff_t taps, const ptrdiff_t *off, const void *w,
                    const void *bias, int flags, void *y);
} fnn_conv_ukernels;

/* ---- depthwise.c ---- */
enum { FNN_WINDOW_COLUMNS = 16, FNN_WINDOW_TAPS = 64 }; /* most columns and taps of a kernel there */

/* Planes of h x w correlated with a kernel of r x s, giving planes of oh x ow; sx is 1 or 2. */
typedef struct {
    ptrdiff_t h, w, oh, ow, r, s, sy, sx, top, left, dy, dx; /* top, left: padding; dy, dx: dilation */
} fnn_window;

typedef struct {
    /* rows [u0, u1) of the results of `planes` consecutive channels, + bias, ReLU; zeros: w of them */
    void (*forward)(const fnn_window *g, ptrdiff_t planes, const void *x, const void *w, const void *zeros,
                    const void *bias, int flags, ptrdiff_t u0, ptrdiff_t u1, void *y);
    /* rows [y0, y1) of the input's gradient, + bias; sx = 2 */
    void (*spread)(const fnn_window *g, ptrdiff_t planes, const void *dy, const void *w, const void *bias,
                   ptrdiff_t y0, ptrdiff_t y1, void *dx);
    /* the weights' gradient of one channel */
    void (*sums)(const fnn_window *g, ptrdiff_t images, const void *x, ptrdiff_t x_image, const void *dy,
                 ptrdiff_t dy_image, void *dw);
} fnn_depthwise_ukernels;

/* ---- winograd.c, float32 only ---- */

/* Consecutive tiles of a tile row: their first pixel in the result, and how much of it they cover. */
typedef struct {
    ptrdiff_t tiles, y, rows, columns;
} fnn_tile_run;

typedef struct {
    /* of F(m x m, r x r): (m, r) is (2, 3), (4, 3) or (2, 5) */
    /* dst[x*pitch + i] = (G g G^T)[x] of `rows` filters, tap j of filter i at w[i*rs + tap[j]] */
    void (*filter)(int m, int r, ptrdiff_t rows, const void *w, ptrdiff_t rs, const ptrdiff_t *tap, void *dst,
                   ptrdiff_t pitch);
    /* dst[x*pitch + t] = (B^T d B)[x] of the runs' tiles t, at most gemm.nr, element e of a tile at
     * src + run.start + t + off[e]; reads up to vl - 1 tiles behind a run */
    void (*input)(int m, int r, const void *src, const ptrdiff_t *off, ptrdiff_t nruns, const fnn_run *runs, void *dst,
                  ptrdiff_t pitch);
    /* the pixels A^T M A of up to gemm.nr tiles, M[x] of tile t at src[x*pitch + t], + bias[0], ReLU, run by run */
    void (*output)(int m, int r, ptrdiff_t tiles, const void *src, ptrdiff_t pitch, const void *bias, int flags,
                   ptrdiff_t nruns, const fnn_tile_run *runs, void *y, ptrdiff_t y_row);
    /* as input, of (A dy A^T)[x] for tiles of m*m elements */
    void (*output_adjoint)(int m, int r, const void *src, const ptrdiff_t *off, ptrdiff_t nruns, const fnn_run *runs,
                           void *dst, ptrdiff_t pitch);
    /* dw[c*r*r + t] = tap t of G^T M G, M[x] of channel c at src[x*pitch + c], c < count */
    void (*filter_adjoint)(int m, int r, ptrdiff_t count, const void *src, ptrdiff_t pitch, void *dw);
} fnn_winograd_ukernels;

/* ---- elementwise.c: a function of x with parameters p and q ---- */
typedef struct {
    const char *name; /* NULL behind the last */
    int keeps_x;      /* the gradient is one of dy and x, else of dy and y */
    double value_flops, gradient_flops;
    void (*value)(ptrdiff_t n, const void *x, void *y, double p, double q, int past);
    void (*gradient)(ptrdiff_t n, const void *dy, const void *kept, void *dx, double p, double q, int past);
} fnn_function;

typedef struct {
    /* y = a + b, max(a + b, 0) */
    void (*add)(ptrdiff_t n, const void *a, const void *b, void *y, double, double, int past);
    void (*add_relu)(ptrdiff_t n, const void *a, const void *b, void *y, double, double, int past);
    /* da = db = dy, where y > 0 unless y is NULL; db may be NULL */
    void (*backward)(ptrdiff_t n, const void *dy, const void *y, void *da, void *db, int past);
} fnn_add_ukernels;

/* ---- pool.c, subsample.c, pool_backward.c ---- */
/* Windows of kh x kw pixels on planes of h x w, giving planes of oh x ow. A kernel of 0: adaptive windows share out the
 * axis. divisor and include_pad are for averages, norm for norms. */
typedef struct {
    ptrdiff_t h, w, oh, ow;
    ptrdiff_t kh, kw, sh, sw, ph, pw, dh, dw; /* kernel, stride, padding, dilation */
    ptrdiff_t divisor;                        /* of the sum, 0: the pixels in the window, */
    ptrdiff_t include_pad;                    /* those of the padding too */
    double norm;
    int past; /* results go past the caches */
} fnn_pool;

/* Planes in a row. index: where in its plane each output was taken from or goes to, as integers of the width of an
 * element, for un-pooling of 64 bits; NULL if not wanted. x, y: those of the forward pass, for the gradient of norms. */
typedef struct {
    const void *src;
    void *dst, *index;
    const void *x, *y;
} fnn_pool_arrays;

typedef void fnn_pool_function(const fnn_pool *p, ptrdiff_t planes, const fnn_pool_arrays *a, void *scratch);

typedef struct {
    /* bytes of scratch: of max, min, avg and lp; of index_backward; of avg_backward and lp_backward. Others: none */
    ptrdiff_t (*scratch)(const fnn_pool *p), (*index_backward_scratch)(const fnn_pool *p),
        (*avg_backward_scratch)(const fnn_pool *p);
    fnn_pool_function *max, *min, *avg, *lp;
    fnn_pool_function *index_backward; /* dx = 0, then dx[index] += dy */
    fnn_pool_function *avg_backward, *lp_backward;
    fnn_pool_function *unpool, *unpool_backward; /* y = 0, then y[index] = x, the last one wins; dx = dy[index] */
    fnn_pool_function *subsample, *subsample_backward; /* windows of one pixel, which may start at a negative padding */
} fnn_pool_ukernels;

/* ---- upsample.c ---- */
enum { FNN_ZEROS, FNN_NEAREST, FNN_LINEAR };

/* n pixels become `out` results, which are `scale` pixels apart; aligned: from the first pixel's centre on. */
typedef struct {
    ptrdiff_t n, out;
    double scale;
    int aligned;
} fnn_axis;

typedef struct {
    int mode;
    fnn_axis y, x; /* down and across */
} fnn_resample;

typedef struct {
    /* of the tables that all threads share, and of the scratch of each; backward: of that pass */
    ptrdiff_t (*table_bytes)(const fnn_resample *g, int backward), (*row_bytes)(const fnn_resample *g, int backward);
    void (*prepare)(const fnn_resample *g, int backward, void *tables);
    /* rows first <= r < last of all planes' results, and of all planes' gradients; past: past the caches */
    void (*forward)(const fnn_resample *g, const void *tables, ptrdiff_t first, ptrdiff_t last, const void *x, void *y,
                    int past, void *scratch);
    void (*backward)(const fnn_resample *g, const void *tables, ptrdiff_t first, ptrdiff_t last, const void *dy,
                     void *dx, int past, void *scratch); /* not FNN_ZEROS */
} fnn_upsample_ukernels;

/* ---- move.c ---- */
enum { FNN_CONSTANT, FNN_REFLECT, FNN_REPLICATE, FNN_CIRCULAR }; /* what is around the elements of an axis */
enum { FNN_AXES = 64 };

/* Axis a of n[a] elements, with before[a] more in front of them, fewer if negative, becomes one of out[a]. */
typedef struct {
    int mode, ndim;
    ptrdiff_t n[FNN_AXES], out[FNN_AXES], before[FNN_AXES];
    double value; /* of FNN_CONSTANT */
} fnn_pad;

/* Rows of the results are rows of `count` arrays, of lengths[k] elements, one after the other. */
typedef struct {
    ptrdiff_t count;
    const void *const *arrays;
    const ptrdiff_t *lengths;
} fnn_concat;

typedef struct {
    /* elements first <= i < last of the results */
    void (*pad)(const fnn_pad *g, ptrdiff_t first, ptrdiff_t last, const void *x, void *y, int past);
    void (*pad_backward)(const fnn_pad *g, ptrdiff_t first, ptrdiff_t last, const void *dy, void *dx,
                         int past); /* three axes, of which the first has no padding; not FNN_CONSTANT */
    void (*concat)(const fnn_concat *g, ptrdiff_t first, ptrdiff_t last, void *y, int past);
} fnn_move_ukernels;

/* ---- norm.c ---- */
/* Batch normalisation of x (n, c, s), c-contiguous, then a residual (x's shape) and ReLU. weight, bias, mean and invstd
 * have c elements. NULL: absent. */
typedef struct {
    ptrdiff_t n, c, s;
    const void *x, *weight, *bias, *residual;
    void *y, *running_mean, *running_var; /* running: updated if training, else the statistics */
    double *mean, *invstd;                /* for the backward pass, whatever the element type */
    double momentum, eps;
    int relu, past;
} fnn_batch_norm;

/* training: the statistics were those of x. y: the result, needed for ReLU after a residual. */
typedef struct {
    ptrdiff_t n, c, s;
    const void *dy, *x, *y, *weight, *bias;
    const double *mean, *invstd;
    void *dx, *dresidual, *dweight, *dbias; /* NULL: not needed; dresidual comes with dx only */
    int training, relu, past;
} fnn_batch_norm_backward;

enum { FNN_BN_RELU = 1, FNN_BN_ADD = 2, FNN_BN_MOVING = 4, FNN_BN_PAST = 8 }; /* see norm.c */

typedef struct {
    int block; /* channels of a task of batch_norm_fixed, and of the others if s == 1; else it is one channel */
    /* training: the task that begins with channel `first` */
    void (*batch_norm)(const fnn_batch_norm *args, ptrdiff_t first);
    /* inference: its images from first_image on */
    void (*batch_norm_fixed)(const fnn_batch_norm *args, ptrdiff_t first, ptrdiff_t first_image, ptrdiff_t images);
    void (*batch_norm_backward)(const fnn_batch_norm_backward *args, ptrdiff_t first);
} fnn_norm_ukernels;

/* ---- row_norm.c ---- */
/* Rows of channels * inner elements, each normalised by its own mean and variance, or, not centred, by its mean square.
 * Row r is group r % groups, and weight, bias and their gradients have groups * channels elements. NULL: absent. */
typedef struct {
    ptrdiff_t groups, channels, inner;
    const void *x, *weight, *bias;
    void *y;
    double *mean, *var, *invstd; /* of each row; mean and invstd for the backward pass */
    double eps;
    int centred, past;
} fnn_row_norm;

typedef struct {
    ptrdiff_t groups, channels, inner;
    const void *dy, *x, *weight;
    const double *mean, *invstd;
    void *dx; /* NULL: not needed, like dweight and dbias below */
    int centred, past;
} fnn_row_norm_backward;

enum { FNN_RN_WEIGHT = 1, FNN_RN_BIAS = 2, FNN_RN_SUMS = 16, FNN_RN_DX = 32 }; /* see row_norm.c; with FNN_BN_PAST */

typedef struct {
    /* rows first.. */
    void (*row_norm)(const fnn_row_norm *args, ptrdiff_t first, ptrdiff_t rows);
    /* dx; dweight and dbias (both or neither): what these rows contribute, groups * channels elements; if inner > 1,
     * what each row contributes, channels elements */
    void (*row_norm_backward)(const fnn_row_norm_backward *args, ptrdiff_t first, ptrdiff_t rows, void *dweight,
                              void *dbias);
    /* sum[j] = sum over `parts` of part[j], these `stride` apart, j < n */
    void (*sum_parts)(ptrdiff_t parts, ptrdiff_t stride, ptrdiff_t n, const void *part, void *sum);
} fnn_row_norm_ukernels;

/* ---- response_norm.c ---- */
/* y = x d^-beta with d = k + scale * (sum of the squares of channels c - before .. c + after), of c channels `stride`
 * apart. */
typedef struct {
    ptrdiff_t c, stride, before, after;
    double scale, beta, k;
    int past;
} fnn_response_norm;

typedef struct {
    /* n adjacent columns */
    void (*response_norm)(const fnn_response_norm *args, ptrdiff_t n, const void *x, void *y);
    /* scratch: of 2 * (before + after + 1) * n elements */
    void (*response_norm_backward)(const fnn_response_norm *args, ptrdiff_t n, const void *dy, const void *x, void *dx,
                                   void *scratch);
} fnn_response_norm_ukernels;

/* ---- softmax.c: w <= FNN_COLUMNS problems side by side, each of n elements `stride` apart; stride 1: w = 1 ---- */
enum { FNN_COLUMNS = 128 };

typedef struct {
    void (*softmax)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x, void *y);
    void (*softmax_backward)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *dy, const void *y, void *dx);
    void (*log_softmax)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x, void *y);
    void (*log_softmax_backward)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *dy, const void *y, void *dx);
    /* index[w]; hardmax is 1 there and 0 elsewhere */
    void (*argmax)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x, int64_t *index);
    void (*hardmax)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x, void *y);
} fnn_softmax_ukernels;

/* ---- loss.c ---- */
/* Losses of one element and its target: arrays of one size. */
typedef struct {
    const void *x, *target;
    const void *weight, *positive; /* of an element, and of a positive target; NULL is 1 */
    double p;
} fnn_pairs;

typedef struct {
    const char *name; /* NULL behind the last */
    double flops;
    /* elements first <= i < first + n: y[i], their sum, and the gradients, either of which may be NULL; that at loss i
     * is scale * dy[i * dy_step], dy_step 0 or 1 */
    void (*values)(const fnn_pairs *a, ptrdiff_t first, ptrdiff_t n, void *y);
    double (*sum)(const fnn_pairs *a, ptrdiff_t first, ptrdiff_t n);
    void (*gradients)(const fnn_pairs *a, ptrdiff_t first, ptrdiff_t n, const void *dy, ptrdiff_t dy_step, double scale,
                      void *dx, void *dtarget);
} fnn_pair_loss;

/* What all problems of a cross-entropy share. */
typedef struct {
    int64_t ignore; /* the index that does not count */
    double smoothing;
    const void *weight; /* of each class; NULL is 1 */
    double weight_sum;
} fnn_classes;

typedef struct {
    const fnn_pair_loss *pairs;
    /* targets: class indices < n, or p, probabilities that lie as x. loss, max, sum and, with p, mass (NULL, or what the
     * backward needs) have w elements, and so has target */
    void (*cross_entropy)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x, const int64_t *target,
                          const void *p, const fnn_classes *o, void *loss, void *max, void *sum, void *mass);
    /* here as below, the gradient at loss j is scale * dy[j * dy_step], dy_step 0 or 1 */
    void (*cross_entropy_backward)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *x, const int64_t *target,
                                   const void *p, const fnn_classes *o, const void *max, const void *sum,
                                   const void *mass, const void *dy, ptrdiff_t dy_step, double scale, void *dx);
    void (*nll)(ptrdiff_t stride, ptrdiff_t step, ptrdiff_t w, const void *x, const int64_t *target,
                const fnn_classes *o, void *loss);
    void (*nll_backward)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const int64_t *target, const fnn_classes *o,
                         const void *dy, ptrdiff_t dy_step, double scale, void *dx);
    void (*js_divergence)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *p, const void *q, void *y);
    void (*js_divergence_backward)(ptrdiff_t n, ptrdiff_t stride, ptrdiff_t w, const void *p, const void *q,
                                   const void *dy, ptrdiff_t dy_step, double scale, void *dp, void *dq);
    double (*sum)(ptrdiff_t n, const void *x);
} fnn_loss_ukernels;

/* ---- recurrent.c ---- */
/* The second GRU is that of 2014, which resets the state before its product with the weights. */
enum { FNN_RNN_TANH, FNN_RNN_RELU, FNN_LSTM, FNN_GRU, FNN_GRU_PAPER, FNN_CELLS };

/* A panel of packed weights, k rows of nr, and where its product goes: the first `width` <= nr elements. */
typedef struct {
    const void *w;
    void *c;
    ptrdiff_t width;
    int accumulate;
} fnn_panel;

/* A step of `units` adjacent hidden units of n samples. Rows are samples: of gates `columns * hidden` elements, of all
 * else `hidden`. Pointers are to the first of the units, of the first gate. A cell uses what it has of these. */
typedef struct {
    ptrdiff_t n, units, hidden;
    void *gates; /* from the products with x and h to what the backward pass needs; without keep, to nothing */
    const void *b_ih, *b_hh; /* NULL is zero */
    void *c;                 /* the state c, in place */
    void *c_kept;            /* and once more; NULL: not wanted */
    void *h;                 /* the state h, in place; NULL: it is made of y elsewhere */
    void *y;                 /* what the cell gives */
    void *reset;             /* r h */
    int keep;
} fnn_cell;

/* The way back. */
typedef struct {
    ptrdiff_t n, units, hidden;
    const void *gates, *after, *before; /* as kept; the state (c of an LSTM, else h) after and before the step */
    const void *dy;                     /* a further gradient at h; NULL is zero */
    void *dh;                           /* the gradient at h; then what of it passes the weights by, if anything does */
    void *dc;                           /* the gradient at c, in place */
    const void *dreset;                 /* the gradient at r h */
    void *dgates;
    void *dbias; /* sums of dgates over the samples are added to it; NULL: not wanted */
} fnn_cell_gradient;

typedef struct {
    /* c (+)= v^T w of up to 4 panels, with the sums of gemm.tile; rows of w are `pitch` elements apart */
    void (*row)(int panels, ptrdiff_t k, const void *v, const fnn_panel *panel, ptrdiff_t pitch);
    /* c[j] (+)= w[j] v, j < rows, of unpacked weights with k contiguous columns */
    void (*matvec)(ptrdiff_t rows, ptrdiff_t k, const void *w, const void *v, void *c, int accumulate);
    /* the cells; those whose second product needs the result of the first are made in two parts */
    void (*forward[FNN_CELLS][2])(const fnn_cell *s);
    void (*backward[FNN_CELLS][2])(const fnn_cell_gradient *s);
} fnn_recurrent_ukernels;

/* ---- attention.c: see there for blocks of scores s, (keys, gemm.nr) with a query a column ---- */
enum { FNN_ATTENTION_KEYS = 128 }; /* at most, in a block */

typedef struct {
    /* dst[e][j] = factor * src[j][e], e < n, for j < queries, 0 for the other columns */
    void (*columns)(ptrdiff_t queries, ptrdiff_t n, const void *src, ptrdiff_t src_row, double factor, void *dst);
    /* s[i][j] += mask[j*column + i*row]; of bytes (boolean), -inf where it is 0 */
    void (*mask)(ptrdiff_t keys, ptrdiff_t queries, const void *mask, ptrdiff_t row, ptrdiff_t column, int boolean,
                 void *s);
    /* s[i][j] = -inf for j < first + i */
    void (*causal)(ptrdiff_t keys, ptrdiff_t first, void *s);
    /* before the first keys: max = -inf, sum = 0; n a multiple of gemm.nr */
    void (*start)(ptrdiff_t n, void *max, void *sum);
    /* s = e^(s-max) with the new max; sum, and the rows of y, (rows, gemm.nr), are scaled to it */
    void (*softmax)(ptrdiff_t keys, void *s, void *max, void *sum, ptrdiff_t rows, void *y);
    /* dst[j][e] = y[e][j] / sum[j], j < queries, e < rows; max_out (may be NULL, like norm_out) and norm_out = 1 / sum */
    void (*finish)(ptrdiff_t queries, ptrdiff_t rows, void *y, const void *max, const void *sum, void *dst,
                   ptrdiff_t dst_row, void *max_out, void *norm_out);
    /* s = e^(s-max) * norm */
    void (*weights)(ptrdiff_t keys, void *s, const void *max, const void *norm);
    /* ds = factor * p * (ds - delta) */
    void (*gradient)(ptrdiff_t keys, const void *p, const void *delta, double factor, void *ds);
    /* sum[j] += a[j] . b[j], rows of n elements */
    void (*dots)(ptrdiff_t rows, ptrdiff_t n, const void *a, const void *b, void *sum);
} fnn_attention_ukernels;

/* ---- additive.c, and what works on rows of scores, with a query a row ---- */
typedef struct {
    /* s[i] = weight . tanh(q + k[i]), keys in rows of n features */
    void (*scores)(ptrdiff_t keys, ptrdiff_t n, const void *q, const void *k, const void *weight, void *s);
    /* y = factor * x */
    void (*scale)(ptrdiff_t n, double factor, const void *x, void *y);
    /* the softmax of n elements s + mask, mask (NULL is 0) in steps of `step`; of bytes (boolean), -inf where it is 0.
     * max, norm: their maximum and 1 / (sum of e^(s-max)), as of fnn_attention_ukernels.finish; NULL: not wanted */
    void (*softmax)(ptrdiff_t n, const void *mask, ptrdiff_t step, int boolean, void *s, void *max, void *norm);
    /* n features of the gradients, from ds (queries, keys); features of other rows are `row` apart. dq, dk, dweight:
     * NULL if not needed */
    void (*backward)(ptrdiff_t queries, ptrdiff_t keys, ptrdiff_t n, ptrdiff_t row, const void *q, const void *k,
                     const void *weight, const void *ds, void *dq, void *dk, void *dweight);
} fnn_additive_ukernels;

/* ---- dropout.c ---- */
enum { FNN_DRAWS = 256 }; /* elements that draw their random numbers together; tasks begin at multiples */

/* Bernoulli trials (see philox.c): an element is dropped if its 16 random bits, a signed number, are less than the
 * threshold, or equal to it and 32 further bits less than rest. The numbers are those of (seed, offset, element). */
typedef struct {
    uint64_t seed, offset;
    int16_t threshold;
    uint32_t rest;
    double scale, kept, dropped; /* y = x * scale + kept, or x * 0 + dropped */
    int shifted;                 /* else without the second terms */
} fnn_bernoulli;

typedef struct {
    /* elements [first, first + n) of x and y, and their bits (NULL: not wanted) */
    void (*dropout)(const fnn_bernoulli *b, ptrdiff_t first, ptrdiff_t n, const void *x, void *y, uint32_t *keep,
                    int past);
    /* the bits alone. Bit i % 32 of keep[i / 32] says that element i is kept; those up to a multiple of FNN_DRAWS are
     * written, too */
    void (*bits)(const fnn_bernoulli *b, ptrdiff_t first, ptrdiff_t n, uint32_t *keep);
    /* elements [first, first + n): y = x * scale, or x * 0, by their bits */
    void (*masked)(const uint32_t *keep, ptrdiff_t first, ptrdiff_t n, double scale, const void *x, void *y, int past);
    /* y = x * scale, or x * 0, in rows [first, first + rows) of s elements, by these bits of the rows */
    void (*rows)(const uint32_t *keep, ptrdiff_t first, ptrdiff_t rows, ptrdiff_t s, double scale, const void *x,
                 void *y, int past);
} fnn_dropout_ukernels;

/* ---- embedding.c ---- */
/* The rows of dy (d elements) that belong to row r of the table are order[start[r]], …, order[start[r + 1] - 1]. */
typedef struct {
    ptrdiff_t d;
    const int64_t *start, *order;
    const void *dy;
    int by_frequency; /* the sum is divided by their number */
} fnn_scatter;

typedef struct {
    /* y[j] = weight[index[j]], j < n, in rows of d elements */
    void (*gather)(ptrdiff_t n, ptrdiff_t d, const int64_t *index, const void *weight, void *y, int past);
    /* columns [c0, c1) of rows [first, first + rows) of the table's gradient */
    void (*sums)(const fnn_scatter *s, ptrdiff_t first, ptrdiff_t rows, ptrdiff_t c0, ptrdiff_t c1, void *dweight,
                 int past);
    /* a row whose p-norm exceeds max_norm is scaled to that */
    void (*renorm)(ptrdiff_t d, double max_norm, double p, void *row);
} fnn_embedding_ukernels;

/* ---- optim.c ---- */
typedef struct {
    double lr, momentum, dampening, weight_decay, beta1, beta2, eps; /* beta2 is RMSprop's alpha */
    double rate;   /* Adam: lr / (1 - beta1^step); clipping: the factor or the limit */
    double shrink; /* Adam: 1 / sqrt(1 - beta2^step) */
    int first, nesterov, maximize, centered, amsgrad, decoupled;
} fnn_step;

/* n elements of the arrays a[0], a[1], … */
typedef void fnn_step_function(const fnn_step *o, ptrdiff_t n, void *const *a);

typedef struct {
    fnn_step_function *sgd;     /* parameter, gradient, momentum buffer (if momentum is not 0) */
    fnn_step_function *rmsprop; /* parameter, gradient, mean square, mean (if centered), buffer (likewise) */
    fnn_step_function *adam;    /* parameter, gradient, mean, mean square, its maximum (if amsgrad) */
    fnn_step_function *clamp, *scale; /* gradient */
    double (*sum_of_squares)(ptrdiff_t n, const void *x);
    double (*largest)(ptrdiff_t n, const void *x); /* magnitude */
} fnn_optim_ukernels;

/* ---- limits.c: what the machine can do ---- */
typedef struct {
    double (*fma_chain)(ptrdiff_t steps); /* steps * fma_chain_flops operations */
    int fma_chain_flops;
    /* reads `reads` arrays of n elements while writing `writes` aligned ones, past the caches or not; the pairs are
     * (1, 0), (4, 1), (2, 1), (1, 1), (1, 4). Returns a value that depends on all, NaN for other pairs. */
    double (*traffic)(int reads, int writes, int past, ptrdiff_t n, const void *const *src, void *const *dst);
} fnn_limits_ukernels;

typedef struct {
    const fnn_gemm_ukernels *gemm;
    const fnn_conv_ukernels *conv;
    const fnn_depthwise_ukernels *depthwise;
    const fnn_winograd_ukernels *winograd;
    const fnn_function *functions;
    const fnn_add_ukernels *add;
    const fnn_pool_ukernels *pool;
    const fnn_upsample_ukernels *upsample;
    const fnn_move_ukernels *move;
    const fnn_norm_ukernels *norm;
    const fnn_row_norm_ukernels *row_norm;
    const fnn_response_norm_ukernels *response_norm;
    const fnn_softmax_ukernels *softmax;
    const fnn_loss_ukernels *loss;
    const fnn_recurrent_ukernels *recurrent;
    const fnn_attention_ukernels *attention;
    const fnn_additive_ukernels *additive;
    const fnn_dropout_ukernels *dropout;
    const fnn_embedding_ukernels *embedding;
    const fnn_optim_ukernels *optim;
    const fnn_limits_ukernels *limits;
} fnn_ukernels;

extern const fnn_ukernels fnn_ukernels_baseline[2], fnn_ukernels_avx2[2], fnn_ukernels_avx512[2];

#endif
