"""threadpoolctl sees and sets the number of threads of fastnn's kernels, beside its own entry for OpenMP.

Imported with fastnn if threadpoolctl is there already, else by name. Without it, threadpoolctl limits fastnn's kernels
all the same, through omp_set_num_threads.
"""

import os

from fastnn.kernels import runtime

try:
    import threadpoolctl
except ImportError as error:
    raise ImportError("fastnn.threadpoolctl needs threadpoolctl: pip install 'fastnn[threadpoolctl]'") from error

__all__ = ["Controller"]

LIBRARY = os.path.realpath(runtime.__file__)


class Controller(threadpoolctl.LibController):
    """threadpoolctl's access to `fastnn.get_num_threads` and `set_num_threads`: one setting for the whole process."""

    user_api = "openmp"
    internal_api = "fastnn"
    filename_prefixes = (os.path.basename(LIBRARY).lower(),)
    # Of another library by that name, threadpoolctl would not find this in `dynlib`.
    check_symbols = ("set_num_threads",)

    def set_additional_attributes(self):
        self.dynlib = runtime if os.path.realpath(self.filepath) == LIBRARY else None

    def get_num_threads(self):
        return runtime.get_num_threads()

    def set_num_threads(self, num_threads):
        runtime.set_num_threads(max(1, num_threads))

    def get_version(self):
        from fastnn import __version__

        return __version__


threadpoolctl.register(Controller)
