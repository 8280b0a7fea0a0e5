/* All families of one element type; all.c includes this once per type. */
#include "real.h"

#include "math.c" /* vector exp, tanh, sigmoid: used by the families below */

#include "writer.c" /* results row by row past the caches: used by pool.c, upsample.c and move.c */

#include "runs.c" /* vectors joined from pieces: used by gemm.c and winograd.c */

#include "gemm.c"
#include "conv.c"
#include "depthwise.c"
#include "winograd.c"
#include "elementwise.c"
#include "pool.c"
#include "subsample.c"
#include "pool_backward.c"
#include "upsample.c"
#include "move.c"
#include "moments.c" /* used by norm.c and row_norm.c */

#include "norm.c"
#include "row_norm.c"
#include "response_norm.c"
#include "softmax.c"
#include "loss.c"
#include "recurrent.c"
#include "attention.c"
#include "additive.c"
#include "dropout.c"
#include "embedding.c"
#include "optim.c"
#include "limits.c"
