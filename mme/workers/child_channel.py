"""The inside of a worker's end of one socket: frames in, messages out, and back.

Decision: what needs no waiting is read and written without giving up the interpreter. A thread that
loads would take it at each call, and give it back a switch interval later: twice for each batch,
which took longer than the batch itself. Rejected: a shorter interval, which both wait for alike.
"""

from __future__ import annotations

import ctypes
import socket
import threading
from collections.abc import Iterator

from mme.workers.protocol import FrameBuffer, FromWorker, ToWorker, decode_to_worker, encode

_RECEIVE_BYTES = 1 << 16  # from 128 KiB on, each call would map and unmap memory of its own
_quick = ctypes.PyDLL(None)  # keeps the interpreter
_quick.recv.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
_quick.send.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
_quick.recv.restype = _quick.send.restype = ctypes.c_ssize_t


class Channel:
    """Frames over one socket: one thread reads, any thread writes."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._write_lock = threading.Lock()
        self._received = ctypes.create_string_buffer(_RECEIVE_BYTES)

    def send(self, message: FromWorker) -> None:
        """Writes one message whole. Raises OSError when the server has gone."""
        data = encode(message)
        with self._write_lock:
            fd, now = self._socket.fileno(), socket.MSG_DONTWAIT
            sent_bytes = _quick.send(fd, data, len(data), now)
            if sent_bytes < len(data):
                self._socket.sendall(memoryview(data)[max(sent_bytes, 0) :])

    def messages(self) -> Iterator[ToWorker]:
        """Yields messages until the server closes the channel."""
        frames = FrameBuffer()
        while data := self._receive():
            for frame in frames.feed(data):
                yield decode_to_worker(frame)

    def _receive(self) -> bytes:
        """What has come, or comes next; empty when the server has closed the channel."""
        fd, now = self._socket.fileno(), socket.MSG_DONTWAIT
        size_bytes = _quick.recv(fd, self._received, _RECEIVE_BYTES, now)
        if size_bytes > 0:
            return ctypes.string_at(self._received, size_bytes)
        return self._socket.recv(_RECEIVE_BYTES)
