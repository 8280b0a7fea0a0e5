"""Whether operations are recorded: a thread's own switch, which `fastnn.autograd` obeys."""

from functools import wraps

from fastnn._tape import mode

__all__ = ["enable_grad", "is_grad_enabled", "no_grad"]


class GradMode:
    """What no_grad and enable_grad share: a context manager, which may be nested, and a decorator of functions. It
    concerns the thread it is used in."""

    recording: bool

    def __enter__(self):
        self.before, mode.recording = mode.recording, self.recording

    def __exit__(self, *exception):
        mode.recording = self.before

    def __call__(self, function):
        @wraps(function)
        def within(*args, **kwargs):
            with type(self)():
                return function(*args, **kwargs)

        return within


class no_grad(GradMode):
    """Operations within are not recorded, and their results require no gradient: `with no_grad():`, `@no_grad()`."""

    recording = False


class enable_grad(GradMode):
    """Operations within are recorded, even inside of no_grad."""

    recording = True


def is_grad_enabled():
    """Are operations of this thread recorded?"""
    return mode.recording
