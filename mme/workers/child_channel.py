"""The inside of a worker's end of one socket: frames in, messages out, and back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

from mme.workers.protocol import FrameBuffer, FromWorker, ToWorker, decode_to_worker, encode

_RECEIVE_BYTES = 1 << 16  # from 128 KiB on, each call would map and unmap memory of its own


class Channel:
    """Frames over one socket: one thread reads, any thread writes."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._write_lock = threading.Lock()

    def send(self, message: FromWorker) -> None:
        """Writes one message whole. Raises OSError when the server has gone."""
        with self._write_lock:
            self._socket.sendall(encode(message))

    def messages(self) -> Iterator[ToWorker]:
        """Yields messages until the server closes the channel."""
        frames = FrameBuffer()
        while data := self._socket.recv(_RECEIVE_BYTES):
            for frame in frames.feed(data):
                yield decode_to_worker(frame)
