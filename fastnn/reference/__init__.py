"""What every operator means, in plain NumPy: the names and signatures of `fastnn.ops`, and no compiled code.

Clear before fast, and generic in dtype: run in float64 it is the truth that kernels are tested against.
"""

from fastnn.reference.arithmetic import *  # noqa: F403
from fastnn.reference.attention import *  # noqa: F403
from fastnn.reference.conv import *  # noqa: F403
from fastnn.reference.dropout import *  # noqa: F403
from fastnn.reference.elementwise import *  # noqa: F403
from fastnn.reference.embedding import *  # noqa: F403
from fastnn.reference.linear import *  # noqa: F403
from fastnn.reference.loss import *  # noqa: F403
from fastnn.reference.move import *  # noqa: F403
from fastnn.reference.norm import *  # noqa: F403
from fastnn.reference.optim import *  # noqa: F403
from fastnn.reference.pool import *  # noqa: F403
from fastnn.reference.recurrent import *  # noqa: F403
from fastnn.reference.response_norm import *  # noqa: F403
from fastnn.reference.row_norm import *  # noqa: F403
from fastnn.reference.softmax import *  # noqa: F403
from fastnn.reference.upsample import *  # noqa: F403
from fastnn.reference.whiten import *  # noqa: F403
