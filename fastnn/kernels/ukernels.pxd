# The micro-kernel table of csrc/ukernels.h as Cython sees it.

from libc.stdint cimport int16_t, int64_t, uint32_t, uint64_t

cdef extern from "ukernels.h" nogil:
    enum:
        FNN_F32
        FNN_F64
        FNN_ACCUMULATE
        FNN_RELU

    ctypedef struct fnn_run:
        Py_ssize_t start
        Py_ssize_t length

    ctypedef struct fnn_line:
        Py_ssize_t start
        Py_ssize_t length
        Py_ssize_t y

    # ---- gemm.c ----
    ctypedef struct fnn_feed:
        const Py_ssize_t *off
        const void *src
        Py_ssize_t nruns
        const fnn_run *runs
        const void *next
        Py_ssize_t first
        Py_ssize_t last

    ctypedef struct fnn_gemm_ukernels:
        int mr
        int nr
        int vl
        int itemsize
        void (*tile[15])(Py_ssize_t k, const void *a, void *b, Py_ssize_t ldb, void *c, Py_ssize_t ldc,
                         Py_ssize_t n, const void *bias, int flags, const fnn_feed *feed) noexcept nogil
        void (*pack_a)(Py_ssize_t m, Py_ssize_t k, const void *a, Py_ssize_t rs, const Py_ssize_t *off,
                       void *dst) noexcept nogil
        void (*pack_b)(Py_ssize_t k, const void *src, const Py_ssize_t *off, Py_ssize_t nruns, const fnn_run *runs,
                       void *dst, Py_ssize_t width, int slack) noexcept nogil
        void (*dot)(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a, Py_ssize_t lda, const void *b,
                    Py_ssize_t ldb, void *c, Py_ssize_t ldc, const void *bias, int flags) noexcept nogil
        void (*outer)(Py_ssize_t m, Py_ssize_t n, Py_ssize_t nlines, const fnn_line *lines, const void *a,
                      const Py_ssize_t *off, const void *b, Py_ssize_t ldb, void *c, Py_ssize_t ldc,
                      int flags) noexcept nogil
        void (*transpose)(Py_ssize_t m, Py_ssize_t n, const void *src, Py_ssize_t src_row, void *dst,
                          Py_ssize_t dst_row) noexcept nogil

    # ---- conv.c ----
    ctypedef struct fnn_conv_ukernels:
        void (*gather_rows)(Py_ssize_t rows, const void *src, Py_ssize_t src_row, Py_ssize_t w, Py_ssize_t first,
                            Py_ssize_t step, Py_ssize_t count, void *dst, Py_ssize_t dst_row) noexcept nogil
        void (*scatter_row)(const void *src, Py_ssize_t count, void *dst, Py_ssize_t w, Py_ssize_t first,
                            Py_ssize_t step) noexcept nogil
        void (*put_rows)(Py_ssize_t rows, const void *src, Py_ssize_t src_row, Py_ssize_t nruns, const fnn_run *runs,
                         void *dst, Py_ssize_t dst_row, Py_ssize_t step) noexcept nogil
        void (*tap_row)(Py_ssize_t n, const void *src, Py_ssize_t taps, const Py_ssize_t *off, const void *w,
                        const void *bias, int flags, void *y) noexcept nogil

    # ---- depthwise.c ----
    enum:
        FNN_WINDOW_COLUMNS
        FNN_WINDOW_TAPS

    ctypedef struct fnn_window:
        Py_ssize_t h, w, oh, ow, r, s, sy, sx, top, left, dy, dx

    ctypedef struct fnn_depthwise_ukernels:
        void (*forward)(const fnn_window *g, Py_ssize_t planes, const void *x, const void *w, const void *zeros,
                        const void *bias, int flags, Py_ssize_t u0, Py_ssize_t u1, void *y) noexcept nogil
        void (*spread)(const fnn_window *g, Py_ssize_t planes, const void *dy, const void *w, const void *bias,
                       Py_ssize_t y0, Py_ssize_t y1, void *dx) noexcept nogil
        void (*sums)(const fnn_window *g, Py_ssize_t images, const void *x, Py_ssize_t x_image, const void *dy,
                     Py_ssize_t dy_image, void *dw) noexcept nogil

    # ---- winograd.c ----
    ctypedef struct fnn_tile_run:
        Py_ssize_t tiles
        Py_ssize_t y
        Py_ssize_t rows
        Py_ssize_t columns

    ctypedef struct fnn_winograd_ukernels:
        void (*filter)(int m, int r, Py_ssize_t rows, const void *w, Py_ssize_t rs, const Py_ssize_t *tap, void *dst,
                       Py_ssize_t pitch) noexcept nogil
        void (*input)(int m, int r, const void *src, const Py_ssize_t *off, Py_ssize_t nruns, const fnn_run *runs,
                      void *dst, Py_ssize_t pitch) noexcept nogil
        void (*output)(int m, int r, Py_ssize_t tiles, const void *src, Py_ssize_t pitch, const void *bias, int flags,
                       Py_ssize_t nruns, const fnn_tile_run *runs, void *y, Py_ssize_t y_row) noexcept nogil
        void (*output_adjoint)(int m, int r, const void *src, const Py_ssize_t *off, Py_ssize_t nruns,
                               const fnn_run *runs, void *dst, Py_ssize_t pitch) noexcept nogil
        void (*filter_adjoint)(int m, int r, Py_ssize_t count, const void *src, Py_ssize_t pitch,
                               void *dw) noexcept nogil

    # ---- elementwise.c ----
    ctypedef struct fnn_function:
        const char *name
        int keeps_x
        double value_flops, gradient_flops
        void (*value)(Py_ssize_t n, const void *x, void *y, double p, double q, int past) noexcept nogil
        void (*gradient)(Py_ssize_t n, const void *dy, const void *kept, void *dx, double p, double q,
                         int past) noexcept nogil

    ctypedef struct fnn_add_ukernels:
        void (*add)(Py_ssize_t n, const void *a, const void *b, void *y, double p, double q, int past) noexcept nogil
        void (*add_relu)(Py_ssize_t n, const void *a, const void *b, void *y, double p, double q,
                         int past) noexcept nogil
        void (*backward)(Py_ssize_t n, const void *dy, const void *y, void *da, void *db, int past) noexcept nogil

    # ---- pool.c, subsample.c, pool_backward.c ----
    ctypedef struct fnn_pool:
        Py_ssize_t h, w, oh, ow
        Py_ssize_t kh, kw, sh, sw, ph, pw, dh, dw
        Py_ssize_t divisor
        Py_ssize_t include_pad
        double norm
        int past

    ctypedef struct fnn_pool_arrays:
        const void *src
        void *dst
        void *index
        const void *x
        const void *y

    ctypedef void fnn_pool_function(const fnn_pool *p, Py_ssize_t planes, const fnn_pool_arrays *a,
                                    void *scratch) noexcept nogil

    ctypedef struct fnn_pool_ukernels:
        Py_ssize_t (*scratch)(const fnn_pool *p) noexcept nogil
        Py_ssize_t (*index_backward_scratch)(const fnn_pool *p) noexcept nogil
        Py_ssize_t (*avg_backward_scratch)(const fnn_pool *p) noexcept nogil
        fnn_pool_function *max
        fnn_pool_function *min
        fnn_pool_function *avg
        fnn_pool_function *lp
        fnn_pool_function *index_backward
        fnn_pool_function *avg_backward
        fnn_pool_function *lp_backward
        fnn_pool_function *unpool
        fnn_pool_function *unpool_backward
        fnn_pool_function *subsample
        fnn_pool_function *subsample_backward

    # ---- upsample.c ----
    enum:
        FNN_ZEROS
        FNN_NEAREST
        FNN_LINEAR

    ctypedef struct fnn_axis:
        Py_ssize_t n, out
        double scale
        int aligned

    ctypedef struct fnn_resample:
        int mode
        fnn_axis y, x

    ctypedef struct fnn_upsample_ukernels:
        Py_ssize_t (*table_bytes)(const fnn_resample *g, int backward) noexcept nogil
        Py_ssize_t (*row_bytes)(const fnn_resample *g, int backward) noexcept nogil
        void (*prepare)(const fnn_resample *g, int backward, void *tables) noexcept nogil
        void (*forward)(const fnn_resample *g, const void *tables, Py_ssize_t first, Py_ssize_t last, const void *x,
                        void *y, int past, void *scratch) noexcept nogil
        void (*backward)(const fnn_resample *g, const void *tables, Py_ssize_t first, Py_ssize_t last, const void *dy,
                         void *dx, int past, void *scratch) noexcept nogil

    # ---- move.c ----
    enum:
        FNN_CONSTANT
        FNN_REFLECT
        FNN_REPLICATE
        FNN_CIRCULAR
        FNN_AXES

    ctypedef struct fnn_pad:
        int mode, ndim
        Py_ssize_t[FNN_AXES] n
        Py_ssize_t[FNN_AXES] out
        Py_ssize_t[FNN_AXES] before
        double value

    ctypedef struct fnn_concat:
        Py_ssize_t count
        const void **arrays
        const Py_ssize_t *lengths

    ctypedef struct fnn_move_ukernels:
        void (*pad)(const fnn_pad *g, Py_ssize_t first, Py_ssize_t last, const void *x, void *y,
                    int past) noexcept nogil
        void (*pad_backward)(const fnn_pad *g, Py_ssize_t first, Py_ssize_t last, const void *dy, void *dx,
                             int past) noexcept nogil
        void (*concat)(const fnn_concat *g, Py_ssize_t first, Py_ssize_t last, void *y, int past) noexcept nogil

    # ---- norm.c ----
    ctypedef struct fnn_batch_norm:
        Py_ssize_t n, c, s
        const void *x
        const void *weight
        const void *bias
        const void *residual
        void *y
        void *running_mean
        void *running_var
        double *mean
        double *invstd
        double momentum, eps
        int relu, past

    ctypedef struct fnn_batch_norm_backward:
        Py_ssize_t n, c, s
        const void *dy
        const void *x
        const void *y
        const void *weight
        const void *bias
        const double *mean
        const double *invstd
        void *dx
        void *dresidual
        void *dweight
        void *dbias
        int training, relu, past

    ctypedef struct fnn_norm_ukernels:
        int block
        void (*batch_norm)(const fnn_batch_norm *args, Py_ssize_t first) noexcept nogil
        void (*batch_norm_fixed)(const fnn_batch_norm *args, Py_ssize_t first, Py_ssize_t first_image,
                                 Py_ssize_t images) noexcept nogil
        void (*batch_norm_backward)(const fnn_batch_norm_backward *args, Py_ssize_t first) noexcept nogil

    # ---- row_norm.c ----
    ctypedef struct fnn_row_norm:
        Py_ssize_t groups, channels, inner
        const void *x
        const void *weight
        const void *bias
        void *y
        double *mean
        double *var
        double *invstd
        double eps
        int centred, past

    ctypedef struct fnn_row_norm_backward:
        Py_ssize_t groups, channels, inner
        const void *dy
        const void *x
        const void *weight
        const double *mean
        const double *invstd
        void *dx
        int centred, past

    ctypedef struct fnn_row_norm_ukernels:
        void (*row_norm)(const fnn_row_norm *args, Py_ssize_t first, Py_ssize_t rows) noexcept nogil
        void (*row_norm_backward)(const fnn_row_norm_backward *args, Py_ssize_t first, Py_ssize_t rows, void *dweight,
                                  void *dbias) noexcept nogil
        void (*sum_parts)(Py_ssize_t parts, Py_ssize_t stride, Py_ssize_t n, const void *part,
                          void *sum) noexcept nogil

    # ---- response_norm.c ----
    ctypedef struct fnn_response_norm:
        Py_ssize_t c, stride, before, after
        double scale, beta, k
        int past

    ctypedef struct fnn_response_norm_ukernels:
        void (*response_norm)(const fnn_response_norm *args, Py_ssize_t n, const void *x, void *y) noexcept nogil
        void (*response_norm_backward)(const fnn_response_norm *args, Py_ssize_t n, const void *dy, const void *x,
                                       void *dx, void *scratch) noexcept nogil

    # ---- softmax.c ----
    enum:
        FNN_COLUMNS

    ctypedef struct fnn_softmax_ukernels:
        void (*softmax)(Py_ssize_t n, Py_ssize_t stride, Py_ssize_t w, const void *x, void *y) noexcept nogil
        void (*softmax_backward)(Py_ssize_t n, Py_ssize_t stride, Py_ssize_t w, const void *dy, const void *y,
                                 void *dx) noexcept nogil
        void (*log_softmax)(Py_ssize_t n, Py_ssize_t stride, Py_ssize_t w, const void *x, void *y) noexcept nogil
        void (*log_softmax_backward)(Py_ssize_t n, Py_ssize_t stride, Py_ssize_t w, const void *dy, const void *y,
                                     void *dx) noexcept nogil
        void (*argmax)(Py_ssize_t n, Py_ssize_t stride, Py_ssize_t w, const void *x, int64_t *index) noexcept nogil
        void (*hardmax)(Py_ssize_t n, Py_ssize_t stride, Py_ssize_t w, const void *x, void *y) noexcept nogil

    # ---- loss.c ----
    ctypedef struct fnn_pairs:
        const void *x
        const void *target
        const void *weight
        const void *positive
        double p

    ctypedef struct fnn_pair_loss:
        const char *name
        double flops
        void (*values)(const fnn_pairs *a, Py_ssize_t first, Py_ssize_t n, void *y) noexcept nogil
        double (*sum)(const fnn_pairs *a, Py_ssize_t first, Py_ssize_t n) noexcept nogil
        void (*gradients)(const fnn_pairs *a, Py_ssize_t first, Py_ssize_t n, const void *dy, Py_ssize_t dy_step,
                          double scale, void *dx, void *dtarget) noexcept nogil

    ctypedef struct fnn_classes:
        int64_t ignore
        double smoothing
        const void *weight
        double weight_sum

    ctypedef struct fnn_loss_ukernels:
        const fnn_pair_loss *pairs
        void (*cross_entropy)(Py_ssize_t n, Py_ssize_t stride, Py_ssize_t w, const void *x, const int64_t *target,
                              const void *p, const fnn_classes *o, void *loss, void *max, void *sum,
                              void *mass) noexcept nogil
        void (*cross_entropy_backward)(Py_ssize_t n, Py_ssize_t stride, Py_ssize_t w, const void *x,
                                       const int64_t *target, const void *p, const fnn_classes *o, const void *max,
                                       const void *sum, const void *mass, const void *dy, Py_ssize_t dy_step,
                                       double scale, void *dx) noexcept nogil
        void (*nll)(Py_ssize_t stride, Py_ssize_t step, Py_ssize_t w, const void *x, const int64_t *target,
                    const fnn_classes *o, void *loss) noexcept nogil
        void (*nll_backward)(Py_ssize_t n, Py_ssize_t stride, Py_ssize_t w, const int64_t *target,
                             const fnn_classes *o, const void *dy, Py_ssize_t dy_step, double scale,
                             void *dx) noexcept nogil
        void (*js_divergence)(Py_ssize_t n, Py_ssize_t stride, Py_ssize_t w, const void *p, const void *q,
                              void *y) noexcept nogil
        void (*js_divergence_backward)(Py_ssize_t n, Py_ssize_t stride, Py_ssize_t w, const void *p, const void *q,
                                       const void *dy, Py_ssize_t dy_step, double scale, void *dp,
                                       void *dq) noexcept nogil
        double (*sum)(Py_ssize_t n, const void *x) noexcept nogil

    # ---- recurrent.c ----
    enum:
        FNN_RNN_TANH, FNN_RNN_RELU, FNN_LSTM, FNN_GRU, FNN_GRU_PAPER

    ctypedef struct fnn_panel:
        const void *w
        void *c
        Py_ssize_t width
        int accumulate

    ctypedef struct fnn_cell:
        Py_ssize_t n, units, hidden
        void *gates
        const void *b_ih
        const void *b_hh
        void *c
        void *c_kept
        void *h
        void *y
        void *reset
        int keep

    ctypedef struct fnn_cell_gradient:
        Py_ssize_t n, units, hidden
        const void *gates
        const void *after
        const void *before
        const void *dy
        void *dh
        void *dc
        const void *dreset
        void *dgates
        void *dbias

    ctypedef void (*fnn_forward_t)(const fnn_cell *s) noexcept nogil
    ctypedef void (*fnn_backward_t)(const fnn_cell_gradient *s) noexcept nogil

    ctypedef struct fnn_recurrent_ukernels:
        void (*row)(int panels, Py_ssize_t k, const void *v, const fnn_panel *panel, Py_ssize_t pitch) noexcept nogil
        void (*matvec)(Py_ssize_t rows, Py_ssize_t k, const void *w, const void *v, void *c,
                       int accumulate) noexcept nogil
        fnn_forward_t forward[5][2]
        fnn_backward_t backward[5][2]

    # ---- attention.c ----
    enum:
        FNN_ATTENTION_KEYS

    ctypedef struct fnn_attention_ukernels:
        void (*columns)(Py_ssize_t queries, Py_ssize_t n, const void *src, Py_ssize_t src_row, double factor,
                        void *dst) noexcept nogil
        void (*mask)(Py_ssize_t keys, Py_ssize_t queries, const void *mask, Py_ssize_t row, Py_ssize_t column,
                     int boolean, void *s) noexcept nogil
        void (*causal)(Py_ssize_t keys, Py_ssize_t first, void *s) noexcept nogil
        void (*start)(Py_ssize_t n, void *max, void *sum) noexcept nogil
        void (*softmax)(Py_ssize_t keys, void *s, void *max, void *sum, Py_ssize_t rows, void *y) noexcept nogil
        void (*finish)(Py_ssize_t queries, Py_ssize_t rows, void *y, const void *max, const void *sum, void *dst,
                       Py_ssize_t dst_row, void *max_out, void *norm_out) noexcept nogil
        void (*weights)(Py_ssize_t keys, void *s, const void *max, const void *norm) noexcept nogil
        void (*gradient)(Py_ssize_t keys, const void *p, const void *delta, double factor, void *ds) noexcept nogil
        void (*dots)(Py_ssize_t rows, Py_ssize_t n, const void *a, const void *b, void *sum) noexcept nogil

    # ---- additive.c ----
    ctypedef struct fnn_additive_ukernels:
        void (*scores)(Py_ssize_t keys, Py_ssize_t n, const void *q, const void *k, const void *weight,
                       void *s) noexcept nogil
        void (*scale)(Py_ssize_t n, double factor, const void *x, void *y) noexcept nogil
        void (*softmax)(Py_ssize_t n, const void *mask, Py_ssize_t step, int boolean, void *s, void *max,
                        void *norm) noexcept nogil
        void (*backward)(Py_ssize_t queries, Py_ssize_t keys, Py_ssize_t n, Py_ssize_t row, const void *q,
                         const void *k, const void *weight, const void *ds, void *dq, void *dk,
                         void *dweight) noexcept nogil

    # ---- dropout.c ----
    enum:
        FNN_DRAWS

    ctypedef struct fnn_bernoulli:
        uint64_t seed, offset
        int16_t threshold
        uint32_t rest
        double scale, kept, dropped
        int shifted

    ctypedef struct fnn_dropout_ukernels:
        void (*dropout)(const fnn_bernoulli *b, Py_ssize_t first, Py_ssize_t n, const void *x, void *y, uint32_t *keep,
                        int past) noexcept nogil
        void (*bits)(const fnn_bernoulli *b, Py_ssize_t first, Py_ssize_t n, uint32_t *keep) noexcept nogil
        void (*masked)(const uint32_t *keep, Py_ssize_t first, Py_ssize_t n, double scale, const void *x, void *y,
                       int past) noexcept nogil
        void (*rows)(const uint32_t *keep, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t s, double scale,
                     const void *x, void *y, int past) noexcept nogil

    # ---- embedding.c ----
    ctypedef struct fnn_scatter:
        Py_ssize_t d
        const int64_t *start
        const int64_t *order
        const void *dy
        int by_frequency

    ctypedef struct fnn_embedding_ukernels:
        void (*gather)(Py_ssize_t n, Py_ssize_t d, const int64_t *index, const void *weight, void *y,
                       int past) noexcept nogil
        void (*sums)(const fnn_scatter *s, Py_ssize_t first, Py_ssize_t rows, Py_ssize_t c0, Py_ssize_t c1,
                     void *dweight, int past) noexcept nogil
        void (*renorm)(Py_ssize_t d, double max_norm, double p, void *row) noexcept nogil

    # ---- optim.c ----
    ctypedef struct fnn_step:
        double lr, momentum, dampening, weight_decay, beta1, beta2, eps
        double rate
        double shrink
        int first, nesterov, maximize, centered, amsgrad, decoupled

    ctypedef void fnn_step_function(const fnn_step *o, Py_ssize_t n, void **a) noexcept nogil

    ctypedef struct fnn_optim_ukernels:
        fnn_step_function *sgd
        fnn_step_function *rmsprop
        fnn_step_function *adam
        fnn_step_function *clamp
        fnn_step_function *scale
        double (*sum_of_squares)(Py_ssize_t n, const void *x) noexcept nogil
        double (*largest)(Py_ssize_t n, const void *x) noexcept nogil

    # ---- limits.c ----
    ctypedef struct fnn_limits_ukernels:
        double (*fma_chain)(Py_ssize_t steps) noexcept nogil
        int fma_chain_flops
        double (*traffic)(int reads, int writes, int past, Py_ssize_t n, const void **src, void **dst) noexcept nogil

    ctypedef struct fnn_ukernels:
        const fnn_gemm_ukernels *gemm
        const fnn_conv_ukernels *conv
        const fnn_depthwise_ukernels *depthwise
        const fnn_winograd_ukernels *winograd
        const fnn_function *functions
        const fnn_add_ukernels *add
        const fnn_pool_ukernels *pool
        const fnn_upsample_ukernels *upsample
        const fnn_move_ukernels *move
        const fnn_norm_ukernels *norm
        const fnn_row_norm_ukernels *row_norm
        const fnn_response_norm_ukernels *response_norm
        const fnn_softmax_ukernels *softmax
        const fnn_loss_ukernels *loss
        const fnn_recurrent_ukernels *recurrent
        const fnn_attention_ukernels *attention
        const fnn_additive_ukernels *additive
        const fnn_dropout_ukernels *dropout
        const fnn_embedding_ukernels *embedding
        const fnn_optim_ukernels *optim
        const fnn_limits_ukernels *limits

    const fnn_ukernels fnn_ukernels_baseline[2]
    const fnn_ukernels fnn_ukernels_avx2[2]
    const fnn_ukernels fnn_ukernels_avx512[2]
