"""Files that are read are regular ones; files that are written are there whole, or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from threading import Thread
from typing import Any, BinaryIO
from zlib import crc32

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # not POSIX
    flock = None  # type: ignore[assignment]

__all__ = ["open_regular", "write_atomically"]

BUFFER = 1 << 13
"""Bytes of a file that are read ahead, in every version of Python."""
PIECE = 1 << 25
"""Bytes that are written before the disk is told to begin with them."""


def without_waiting(path: str, flags: int) -> int:
    """Opening a pipe that nobody writes to would not return."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


def open_regular(path: str | bytes) -> BinaryIO:
    """Open a file to read its bytes. ValueError for a pipe or a device: some never end, some never begin."""
    file = open(path, "rb", BUFFER, opener=without_waiting)  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("it is a pipe or a device, expected a regular file")
    return file


# ---- writing ----


def sync_folder(folder: str) -> None:
    """Make a renaming last; some systems cannot open folders, some file systems not synchronise them."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def started(target: Callable[[], None]) -> Thread | None:
    """A thread; None where there can be no more, as at the end of a process."""
    thread = Thread(target=target)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def write_synced(file: BinaryIO, parts: Iterable[Any]) -> None:
    """Write bytes and bring them to the disk.

    The disk takes the first ones while the others are still being made and written. Otherwise it would wait for the
    processor to have written all, and then the processor for the disk.
    """
    thread = None
    failures = []

    def sync() -> None:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            failures.append(error)

    try:
        unsynced = 0
        for part in parts:
            for at in range(0, len(part), PIECE):
                unsynced += file.write(part[at : at + PIECE])
                if unsynced >= PIECE and (thread is None or not thread.is_alive()):
                    thread, unsynced = started(sync), 0
    finally:
        if thread is not None:
            thread.join()
    file.flush()
    os.fsync(file.fileno())
    if failures:  # of which the system tells once, to the thread
        raise failures[0]


def is_at(descriptor: int, path: str) -> bool:
    """Does this open file have that name?"""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False


def remove_abandoned(path: str) -> None:
    """Remove a temporary file if the process that wrote it has died, which is known by the lock that it held.

    OSError if it lives, or if that cannot be known: no locks here, or somebody else's file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
        if is_at(descriptor, path):
            os.unlink(path)
    finally:
        os.close(descriptor)


class Temporary:
    """A new file beside `path`: its name, the open file, and a lock that says that its process lives.

    The name is a function of that of `path`, so that what a killed process left is found, and removed, by the next one
    that writes there. Processes that write at once take further names.
    """

    lock: int | None = None

    def __init__(self, path: str) -> None:
        folder, name = os.path.split(path)
        for i in count():
            self.name = os.path.join(folder, f".fastnn-{crc32(os.fsencode(name)):08x}-{i}.tmp")
            if flock is not None:
                with suppress(OSError):
                    remove_abandoned(self.name)
            try:
                self.file: BinaryIO = open(self.name, "xb")  # noqa: SIM115  # closed by release
            except FileExistsError:
                continue
            if flock is None:
                return
            # The lock is the copy's, so that it lasts until after the renaming.
            self.lock = os.dup(self.file.fileno())
            taken = False
            try:
                flock(self.lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                taken = True
            except OSError:  # no locks here
                return
            if not taken and is_at(self.lock, self.name):
                return
            self.release()  # another process takes it for abandoned, as it was not yet locked

    def release(self) -> None:
        self.file.close()
        if self.lock is not None:
            os.close(self.lock)

    def remove(self) -> None:
        """Remove the file, unless it has been renamed."""
        if self.lock is None or is_at(self.lock, self.name):
            with suppress(FileNotFoundError):
                os.unlink(self.name)


def write_atomically(path: str, parts: Iterable[Any]) -> None:
    """Put a file with these bytes in the place of `path`, all of it or nothing. An OSError names `path`."""
    # A link stays one: what it leads to is replaced.
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"save: {path} exists, expected nothing or a regular file there")
    try:
        temporary = Temporary(path)
        try:
            with temporary.file as file:
                write_synced(file, parts)
            with suppress(FileNotFoundError):
                os.chmod(temporary.name, os.stat(path).st_mode & 0o777)
            os.replace(temporary.name, path)
        except BaseException:
            temporary.remove()
            raise
        finally:
            temporary.release()
    except OSError as error:
        error.filename, error.filename2 = path, None
        raise
    sync_folder(os.path.dirname(path))
