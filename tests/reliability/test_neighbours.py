"""fastnn beside libraries with threads of their own in one process; imported anew, in a subinterpreter, and with little
memory."""

import sys

import pytest
from process_support import script

from fastnn.kernels import runtime

SETUP = """
import faulthandler, os, sys, threading
faulthandler.dump_traceback_later(100, exit=True)
{imports}
import numpy as np
from fastnn import ops
from fastnn.verify import forced
from process_support import Small, forked, gradients, train, train_on_threads

def together(*works):
    failures = []
    def repeat(work):
        try:
            for _ in range({rounds}):
                work()
        except BaseException as error:
            failures.append(repr(error))
    threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
"""


TORCH = """
import torch.nn.functional as TF
torch.set_num_threads(2)
x, w, model = torch.randn(4, 16, 32, 32), torch.randn(16, 16, 3, 3), Small()
trained, want, want_y = train(), gradients(model), TF.conv2d(x, w)

def ours():
    assert gradients(model) == want
    assert np.allclose(ops.conv2d_forward(x.numpy(), w.numpy())[0], want_y.numpy(), atol=1e-3)

def theirs():
    leaf = w.clone().requires_grad_()
    y = TF.conv2d(x, leaf)
    y.sum().backward()
    assert torch.allclose(y, want_y, atol=1e-4)

class Set(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, i):
        return gradients(model) == want

with forced(threads=2):
    for _ in range({rounds}):
        ours()
        theirs()
    together(ours, theirs)
    together(ours, ours, theirs, theirs)
    print(torch.get_num_threads(), fastnn.get_num_threads())
    loader = torch.utils.data.DataLoader(Set(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    print(list(loader) == [True] * 4)
    print(forked(lambda: gradients(model)) == want, train() == trained)
"""


@pytest.mark.parametrize("imports", ["import torch, fastnn", "import fastnn, torch"])
def test_torch(python, torch, imports, scaled):
    """Right results in turns and at the same time, on two threads each, whichever was imported first; torch's number of
    threads is its own; workers of torch's DataLoader, which are forks, call fastnn."""
    rounds = scaled(5, 200)
    code = SETUP.format(imports=imports, rounds=rounds) + TORCH.format(rounds=rounds)
    words = script(python, code, PYTHONWARNINGS="ignore")
    assert words == ["2", str(2 if runtime.OPENMP else 1), "True", "True", "True"]


NUMERICAL = """
a = np.random.default_rng(0).standard_normal((300, 300))
model = Small()
want, product = gradients(model), a @ a
clusters = KMeans(3, n_init=1, random_state=0)
centres = clusters.fit(a).cluster_centers_

def ours():
    assert gradients(model) == want

def theirs():
    assert np.allclose(a @ a, product)
    assert np.allclose(KMeans(3, n_init=1, random_state=0).fit(a).cluster_centers_, centres)

with forced(threads=2):
    ours(), theirs()
    together(ours, theirs)
    together(ours, theirs, ours, theirs)
    print(forked(lambda: gradients(model)) == want)
"""


def test_openblas_and_sklearn(python, scaled):
    """NumPy's products on OpenBLAS's threads and scikit-learn's on those of a libgomp of its own."""
    pytest.importorskip("sklearn")
    setup = SETUP.format(imports="import fastnn\nfrom sklearn.cluster import KMeans", rounds=scaled(3, 100))
    assert script(python, setup + NUMERICAL, OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2") == ["True"]


# ---- imported otherwise ----


def test_imported_anew(python):
    """After its modules were forgotten: an ImportError, as NumPy's; once, it was a TypeError at the first Tensor. What
    there was goes on, unless it needs a module for the first time."""
    words = script(
        python,
        """if True:
        import sys
        import numpy as np
        import fastnn
        from fastnn import nn, ops
        layer, x = nn.Linear(3, 2), fastnn.Tensor(np.ones((1, 3), np.float32))
        layer(x).sum().backward()
        for name in [name for name in sys.modules if name.partition(".")[0] == "fastnn"]:
            del sys.modules[name]
        for _ in range(2):
            try:
                import fastnn as again
            except ImportError as error:
                print("twice" if "a second time" in str(error) else error)
        layer(x).sum().backward()
        print(layer.weight.grad.sum(), fastnn.get_num_threads())
        """,
        FASTNN_NUM_THREADS="1",
    )
    assert words == ["twice", "twice", "12.0", "1"]


def test_subinterpreters_are_refused(python):
    """NumPy refuses them, and is imported before anything of fastnn that is compiled."""
    words = script(
        python,
        """if True:
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import fastnn
        code = "try: import fastnn\\nexcept ImportError: pass\\nelse: raise SystemError"
        try:
            result = interpreters.run_string(interpreters.create(), code)
        except Exception as raised:
            result = raised
        print(result)
        """,
    )
    assert words == ["None"]


# ---- memory ----

LIMITED = """
import resource, sys
import numpy
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[1]) << 20),) * 2)
try:
    import fastnn
    y = fastnn.functional.conv2d(numpy.ones((2, 8, 9, 9), numpy.float32), numpy.ones((4, 8, 3, 3), numpy.float32))
    print("right" if (y == 72).all() else "wrong")
except MemoryError:
    print("MemoryError")
except ImportError as error:
    print("MemoryError" if "annot allocate" in str(error) or "failed to map" in str(error) else repr(error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
def test_import_under_a_limit(python, scaled):
    """With so many MiB more than NumPy takes, fastnn can be imported and used on one thread, or there is a MemoryError,
    or an ImportError of the loader's that says the same."""
    outcomes = []
    for megabytes in range(0, 97, scaled(16, 1)):
        result = python("-c", LIMITED, str(megabytes), FASTNN_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        assert result.returncode == 0, f"{megabytes}: {result.stderr}"
        outcomes.append(result.stdout.strip())
    assert set(outcomes) <= {"MemoryError", "right"}
    assert (outcomes[0], outcomes[-1]) == ("MemoryError", "right")
