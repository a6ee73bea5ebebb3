"""A model whose code does its worst, at loading or at predicting: a script that does as told."""

from __future__ import annotations

SCRIPT = b"""
import ctypes, mmap, os, signal, socket, stat, subprocess, sys, threading, time
from pathlib import Path

hoarded = []


def sockets():
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                yield int(name)
        except OSError:
            pass  # the directory's own


def spin():
    while True:
        pass


def leak():
    held = []
    while True:
        held.append(bytearray(32 * 1024**2))


def fill():
    held = []
    while True:
        held.append(b"x" * 8 * 1024**2)  # written, so that the kernel has to find it


def hoard():
    size_bytes = 64 * 1024**2
    while size_bytes > 1024:
        try:
            hoarded.append(b"x" * size_bytes)
        except MemoryError:
            size_bytes //= 2


def open_all():
    try:
        while True:
            hoarded.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        os.close(hoarded.pop())  # or it could not read its answer


def open_too_many():
    open_all()
    while True:
        hoarded.append(os.open("/dev/null", os.O_RDONLY))


def keep_a_little():
    hoarded.append(b"x" * 1024**2)


def leave_a_child():
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    command = [sys.executable, "-S", "-c", "import signal; signal.pause() # rogue child"]
    subprocess.Popen(command, start_new_session=True, close_fds=False, **quiet)
    os._exit(7)


def bomb():
    for _ in range(8):  # by all there are each time: 256, where nothing stops them
        try:
            os.fork()
        except OSError:
            pass
    threading.Event().wait()


FAULTS = {
    "exits": lambda: os._exit(3),
    "segfaults": lambda: ctypes.string_at(0),
    "aborts": os.abort,
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hangs": lambda: threading.Event().wait(),
    "spins": spin,
    "leaks": leak,
    "fills memory": fill,
    "hoards memory": hoard,
    "keeps a little": keep_a_little,
    "opens all it may": open_all,
    "opens too many": open_too_many,
    "takes a while": lambda: time.sleep(0.05),
    "forks": leave_a_child,
    "bombs": bomb,
    "closes its pipe": lambda: [os.close(number) for number in sockets()],
    "writes rubbish": lambda: [os.write(number, b"\\xff" * 64) for number in sockets()],
}


def model_fn(model_dir):
    fault = Path(model_dir, "at-load").read_text()
    return FAULTS[fault]() if fault else None


def transform_fn(model, data, content_type, accept):
    if data.strip():
        FAULTS[data.strip()]()
    return Path(__file__).with_name("answer").read_text(), "text/csv"
"""


def rogue(at_load: str = "", answer: float = 1.0) -> dict[str, bytes]:
    """An artifact that misbehaves while it is loaded, or when a request's body names how."""
    told = {"at-load": at_load.encode(), "code/answer": repr(answer).encode()}
    return {"code/inference.py": SCRIPT, **told}
