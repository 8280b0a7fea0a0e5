# How a convolution is described and cut; shared by the direct and the Winograd kernels.
cimport numpy as cnp

from fastnn.kernels.runtime cimport aligned, ceil_div
from fastnn.kernels.ukernels cimport fnn_line, fnn_ukernels

cdef struct Correlation:
    Py_ssize_t images, groups, channels, h, w         # the source; channels of a group
    Py_ssize_t filters, oh, ow                        # the result; filters of a group
    Py_ssize_t sy, sx, top, left
    Py_ssize_t row_taps, col_taps                     # how many
    const Py_ssize_t *row_tap                         # source offsets, all >= 0
    const Py_ssize_t *col_tap
    Py_ssize_t y_image, y_filter, y_row, y_col        # strides of the result, in elements


cdef struct Plan:
    Py_ssize_t depth                       # channels * taps: steps of the sum
    Py_ssize_t segment, segments           # pixels of a line, lines of a result row
    Py_ssize_t lines                       # of all images
    Py_ssize_t task_lines, task_pixels     # most lines and pixels of a task
    bint direct                            # the source is read in place: no padding, no stride along the row
    Py_ssize_t row_span, col_span          # largest tap offsets + 1
    Py_ssize_t pitch, residue_pitch        # slab: elements of a source row, and of one residue within it
    Py_ssize_t channel_pitch               # slab or source: elements of a channel
    bint by_tap                            # slab: the lines' rows of one tap after those of another, not rows in order
    Py_ssize_t slab_bytes


cdef struct Weights:                       # filter m, channel c, tap t of group g lies at
    const char *w                          # w + g*group + m*filter + c*channel + tap[t]
    Py_ssize_t filter, channel, group
    const Py_ssize_t *tap


cdef void plan_lines(const Correlation *q, Plan *p) noexcept nogil
cdef void plan_task(const fnn_ukernels *uk, const Correlation *q, Plan *p, Py_ssize_t lines,
                    Py_ssize_t channels) noexcept nogil
cdef void tap_offsets(const Correlation *q, const Plan *p, Py_ssize_t *off) noexcept nogil
cdef Py_ssize_t make_lines(const fnn_ukernels *uk, const Correlation *q, const Plan *p, Py_ssize_t first,
                           Py_ssize_t last, Py_ssize_t c0, Py_ssize_t c1, const char *x, char *slab,
                           fnn_line *lines) noexcept nogil

cdef Py_ssize_t tap_table_bytes(desc) except -1
cdef int filters_of(cnp.ndarray w, const Correlation *q, Py_ssize_t *table, Weights *weights) except -1
cdef int forward_correlation(Correlation *q, desc, Py_ssize_t *table) except -1

# One correlation with rotated kernels for every residue of the input position modulo the stride: the input's gradient.
# Sets up residue (y0, x0) in q and w_tap; False if no tap meets it (fill_residue). table: input_table_bytes(desc).
cdef Py_ssize_t input_table_bytes(desc) except -1
cdef bint input_correlation(Correlation *q, desc, Py_ssize_t y0, Py_ssize_t x0, Py_ssize_t *table,
                            Py_ssize_t **w_tap) except -1
cdef int input_filters(cnp.ndarray w, const Correlation *q, desc, const Py_ssize_t *w_tap, Weights *weights) except -1
cdef int fill_residue(const fnn_ukernels *uk, const Correlation *q, const char *bias, char *y) except -1
