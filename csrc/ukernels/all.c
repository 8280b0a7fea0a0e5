/* Every micro-kernel of one instruction set, as one compilation unit with one external symbol. setup.py compiles
 * it once per instruction set. All functions are static: nothing compiled for a newer CPU can be merged with, or
 * called from, code that runs on an older one. */
#include "simd.h"

#include "philox.c"

#define FNN_BITS 32
#include "families.h"
#undef FNN_BITS
#define FNN_BITS 64
#include "families.h"

#define FNN_FAMILIES(bits) \
    { \
        .gemm = &gemm_ukernels_f##bits, \
        .conv = &conv_ukernels_f##bits, \
        .depthwise = &depthwise_ukernels_f##bits, \
        .winograd = &winograd_ukernels_f##bits, \
        .functions = elementwise_functions_f##bits, \
        .add = &add_ukernels_f##bits, \
        .pool = &pool_ukernels_f##bits, \
        .upsample = &upsample_ukernels_f##bits, \
        .move = &move_ukernels_f##bits, \
        .norm = &norm_ukernels_f##bits, \
        .row_norm = &row_norm_ukernels_f##bits, \
        .response_norm = &response_norm_ukernels_f##bits, \
        .softmax = &softmax_ukernels_f##bits, \
        .loss = &loss_ukernels_f##bits, \
        .recurrent = &recurrent_ukernels_f##bits, \
        .attention = &attention_ukernels_f##bits, \
        .additive = &additive_ukernels_f##bits, \
        .dropout = &dropout_ukernels_f##bits, \
        .embedding = &embedding_ukernels_f##bits, \
        .optim = &optim_ukernels_f##bits, \
        .limits = &limits_ukernels_f##bits, \
    }

const fnn_ukernels FNN_TABLE[2] = {FNN_FAMILIES(32), FNN_FAMILIES(64)};
