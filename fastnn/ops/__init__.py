"""Operators on arrays: op_forward(...) -> (y, ctx), op_backward(dy, ctx) -> gradients.

Every operator checks its arguments once, picks an algorithm, allocates its results and calls one compiled kernel.
`fastnn.reference` has the same functions in plain NumPy.
"""

from fastnn.ops._backward import checked
from fastnn.ops.arithmetic import *  # noqa: F403
from fastnn.ops.attention import *  # noqa: F403
from fastnn.ops.conv import *  # noqa: F403
from fastnn.ops.dropout import *  # noqa: F403
from fastnn.ops.elementwise import *  # noqa: F403
from fastnn.ops.embedding import *  # noqa: F403
from fastnn.ops.linear import *  # noqa: F403
from fastnn.ops.loss import *  # noqa: F403
from fastnn.ops.move import *  # noqa: F403
from fastnn.ops.norm import *  # noqa: F403
from fastnn.ops.optim import *  # noqa: F403
from fastnn.ops.pool import *  # noqa: F403
from fastnn.ops.recurrent import *  # noqa: F403
from fastnn.ops.response_norm import *  # noqa: F403
from fastnn.ops.row_norm import *  # noqa: F403
from fastnn.ops.softmax import *  # noqa: F403
from fastnn.ops.upsample import *  # noqa: F403
from fastnn.ops.whiten import *  # noqa: F403

for name in [name for name in globals() if name.endswith("_backward") and not name.startswith("_")]:
    globals()[name] = checked(globals()[name])
del checked, name
