"""The inside of a worker's end of one socket: frames in, messages out, and back.

Decisions: batches are read and answered without giving up the interpreter, where that needs no
waiting. A thread that loads would take it at each call, and give it back a switch interval later:
twice for each batch, which took longer than the batch itself. Rejected: a shorter interval, which
both wait for alike. What a load says gives it up: the server that it wakes may take its processor,
and the batches would wait for the interpreter all the while.
While lone batches follow each other closely, as one client's do that waits for each answer, the
next is looked for again and again before the thread sleeps: to be woken takes as long as a small
prediction. A single long wait ends that, and it gives up the interpreter at each look.
"""

from __future__ import annotations

import ctypes
import socket
import threading
import time
from collections.abc import Iterator

from mme.workers.protocol import (
    FrameBuffer,
    FromWorker,
    Predicted,
    ToWorker,
    decode_to_worker,
    encode,
)

_RECEIVE_BYTES = 1 << 16  # from 128 KiB on, each call would map and unmap memory of its own
_CLOSE_WAITS = 8  # one after the other, from which on the next is likely to be one
_quick, _polite = ctypes.PyDLL(None), ctypes.CDLL(None)  # keeps the interpreter; gives it up
for _call in (_quick.recv, _quick.send, _polite.recv):
    _call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    _call.restype = ctypes.c_ssize_t


class Channel:
    """Frames over one socket: one thread reads, any thread writes.

    Args:
        fd: the socket, the channel's from now on; no program that a model starts gets it.
    """

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)
        self._socket.setblocking(True)
        self._write_lock = threading.Lock()

    def send(self, message: FromWorker) -> None:
        """Writes one message whole. Raises OSError when the server has gone."""
        data = encode(message)
        with self._write_lock:
            self._write(data)

    def messages(self) -> Iterator[ToWorker]:
        """Yields messages until the server closes the channel."""
        frames = FrameBuffer()
        while data := self._receive():
            for frame in frames.feed(data):
                yield decode_to_worker(frame)

    def _write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _receive(self) -> bytes:
        """What has come, or comes next; empty when the server has closed the channel."""
        return self._socket.recv(_RECEIVE_BYTES)


class BatchChannel(Channel):
    """As Channel, for batches.

    Args:
        fd: as Channel.
        poll_seconds: to look for the next one before sleeping, where it is likely to come.
    """

    def __init__(self, fd: int, poll_seconds: float = 0.0) -> None:
        super().__init__(fd)
        self._received = ctypes.create_string_buffer(_RECEIVE_BYTES)
        self._poll_seconds = poll_seconds
        self._close_waits = 0

    def saw_many(self) -> None:
        """The last one held several requests: they gather while this waits, so let it."""
        self._close_waits = 0

    def send(self, message: FromWorker) -> None:
        """As Channel; a batch with large answers goes in several messages."""
        for part in message.parts() if isinstance(message, Predicted) else (message,):
            super().send(part)

    def _write(self, data: bytes) -> None:
        sent_bytes = _quick.send(self._socket.fileno(), data, len(data), socket.MSG_DONTWAIT)
        if sent_bytes < len(data):
            self._socket.sendall(memoryview(data)[max(sent_bytes, 0) :])

    def _receive(self) -> bytes:
        fd, now = self._socket.fileno(), socket.MSG_DONTWAIT
        size_bytes = _quick.recv(fd, self._received, _RECEIVE_BYTES, now)
        if size_bytes > 0:
            self._close_waits = 0  # the server was here first: it can't be had sooner
            return ctypes.string_at(self._received, size_bytes)
        began = time.perf_counter()
        if self._close_waits >= _CLOSE_WAITS:
            while time.perf_counter() - began < self._poll_seconds:
                size_bytes = _polite.recv(fd, self._received, _RECEIVE_BYTES, now)
                if size_bytes > 0:
                    return ctypes.string_at(self._received, size_bytes)
        data = self._socket.recv(_RECEIVE_BYTES)
        is_close = time.perf_counter() - began < self._poll_seconds
        self._close_waits = self._close_waits + 1 if is_close else 0
        return data
