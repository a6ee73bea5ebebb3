"""What server and worker say to each other: messages <-> length-prefixed frames.

Sans-IO: bytes in, messages out. A frame is a 4-byte big-endian length and a msgpack array, tagged
by an integer. Two channels use it: predictions go over one, loads, unloads and signs of life over
the other, so that neither waits behind the other's bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from mme.domain import Signature

FRAME_LIMIT_BYTES: Final = 1 << 30  # a longer length is no frame but rubbish
PART_BYTES: Final = 1 << 20  # of a batch's answers: more go in messages of their own
_OTHERS_BYTES: Final = 16 << 20  # more than a message without an answer takes
NO_ROOM_STATUS: Final = 507  # of a Faulted: there was no memory for it
_LENGTH_BYTES: Final = 4


class ProtocolError(Exception):
    """The other side sent what is no frame or no message."""


class _Message(msgspec.Struct, array_like=True):
    """Base of all messages; each has its own tag."""


class Ask(_Message):
    """One request of a batch; the types as the client sent them."""

    body: bytes
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = None


class Answered(_Message, tag=1):
    """One request's good answer."""

    body: bytes
    content_type: str
    custom_attributes: str | None = None


class Faulted(_Message, tag=2):
    """A failure; `message` may go to the client, `detail` (a traceback) only to the log."""

    status: int
    message: str
    detail: str = ""


class Predict(_Message, tag=10):
    """Server: predict these for one model, in order."""

    batch: int
    model: str
    asks: list[Ask]


class Predicted(_Message, tag=11):
    """Worker: a batch's answers, in the order of its requests; `seconds` is what it ran.

    `written_bytes` is what its own thread wrote to disk meanwhile. `left` answers follow in
    messages of their own.
    """

    batch: int
    seconds: float
    results: list[Answered | Faulted]
    written_bytes: int = 0
    left: int = 0

    def parts(self) -> Iterator[Predicted]:
        """The same in several messages where it is large; each has a single answer, or few bytes.

        A worker that sends it so never needs a frame that is much larger than one answer.
        """
        if size_of(self.results) <= PART_BYTES:
            yield self
            return
        first = taken_bytes = 0
        for number, result in enumerate(self.results):
            taken_bytes += size_of([result])
            if taken_bytes > PART_BYTES and number > first:
                yield self._part(first, number)
                first, taken_bytes = number, size_of([result])
        yield self._part(first, len(self.results))

    def _part(self, first: int, end: int) -> Predicted:
        results, left = self.results[first:end], len(self.results) - end
        written_bytes = 0 if first else self.written_bytes
        return Predicted(self.batch, self.seconds, results, written_bytes, left)


class Recall(_Message, tag=12):
    """Server: drop `leaving`; then bring back, as `model`, what you have kept of `content`.

    Not answered, so that batches for it can follow at once: where nothing was kept any more, they
    are answered by Absent. `name` is for the log, `charged_bytes` what it takes.
    """

    model: str
    name: str
    content: str
    charged_bytes: int
    leaving: list[str]


class Absent(_Message, tag=13):
    """Worker: the model of this batch is not here; none of it ran."""

    batch: int


class Load(_Message, tag=20):
    """Server: load the artifact in `directory` as `model` (an opaque id); `name` is for the log.

    What is of one `content`, unless that is empty, takes the same memory each time.
    """

    call: int
    model: str
    name: str
    directory: str
    content: str = ""


class Loaded(_Message, tag=21):
    """Worker: loaded, and measured.

    `resident_bytes` is private memory that it takes, `peak_bytes` what it took at most while it was
    loaded, `file_bytes` what it maps of its own files: page cache, which is nobody's alone.
    """

    call: int
    resident_bytes: int
    peak_bytes: int
    file_bytes: int
    seconds: float
    framework: str
    signature: Signature | None = None  # None: it is not asked by tensors
    keeps: bool = False  # what is needed to bring it back when it has left: see Recall


class Compile(_Message, tag=25):
    """Server: compile this model, if that stays within `room_bytes`; answered as a load is."""

    call: int
    model: str
    room_bytes: int


class Unload(_Message, tag=22):
    """Server: drop these models and give their memory back to the system."""

    call: int
    models: list[str]


class Unloaded(_Message, tag=23):
    """Worker: the memory is back, but for `lost_bytes`.

    Lost is what models have left behind so far: a heap that would not shrink.
    """

    call: int
    seconds: float
    private_bytes: int
    lost_bytes: int


class CallFailed(_Message, tag=24):
    """Worker: a load or unload failed."""

    call: int
    fault: Faulted


class Ready(_Message, tag=30):
    """Worker: booted, frameworks preloaded."""

    pid: int


class Beat(_Message, tag=31):
    """Worker: alive; what it holds in memory that it shares with nobody.

    `excess_bytes` of it neither its models are charged nor the process itself takes. `hot` are the
    models to be compiled, and what that may take for a moment, in bytes. `is_short`: its
    descriptors are used up.
    """

    private_bytes: int
    excess_bytes: int = 0
    hot: dict[str, int] = {}
    is_short: bool = False


class Printed(_Message, tag=32):
    """Worker: a model's code printed a line; `name` is the model's."""

    name: str
    line: str


class Isolation(_Message, tag=33):
    """Worker: locked up; what holds it and what does not, in words.

    It is said once, before anything of a model's runs there: what is said later, a model may say.
    """

    holds: list[str]
    lacks: list[str]

    def describe(self) -> dict[str, list[str]]:
        """As JSON."""
        return {"holds": self.holds, "lacks": self.lacks}


ToWorker = Predict | Recall | Load | Compile | Unload
FromWorker = (
    Predicted | Absent | Loaded | Unloaded | CallFailed | Ready | Beat | Printed | Isolation
)


def size_of(results: Iterable[Answered | Faulted]) -> int:
    """The bytes of answers, and the characters of what they say of themselves."""
    return sum(
        len(result.body) + len(result.content_type) + len(result.custom_attributes or "")
        for result in results
        if isinstance(result, Answered)
    )


def frame_limit_bytes(answer_limit_bytes: int) -> int:
    """The largest frame of a worker whose answers are no larger than that."""
    return min(FRAME_LIMIT_BYTES, answer_limit_bytes + _OTHERS_BYTES)


_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """One message as one frame."""
    buffer = bytearray(_LENGTH_BYTES)
    _encoder.encode_into(message, buffer, _LENGTH_BYTES)
    buffer[:_LENGTH_BYTES] = (len(buffer) - _LENGTH_BYTES).to_bytes(_LENGTH_BYTES, "big")
    return bytes(buffer)


class FrameBuffer:
    """Bytes as they arrive -> whole frames. Any split of the same bytes gives the same frames."""

    def __init__(self, limit_bytes: int = FRAME_LIMIT_BYTES) -> None:
        self._buffer = bytearray()
        self._limit_bytes = limit_bytes  # of a frame

    def feed(self, data: bytes) -> list[bytes]:
        """Takes more bytes, gives the frames they complete. Raises ProtocolError."""
        buffer = self._buffer
        buffer += data
        frames = []
        start = 0
        while len(buffer) - start >= _LENGTH_BYTES:
            end = (
                start + _LENGTH_BYTES + int.from_bytes(buffer[start : start + _LENGTH_BYTES], "big")
            )
            if end - start > self._limit_bytes:
                raise ProtocolError(f"frame of {end - start} bytes is over the limit")
            if len(buffer) < end:
                break
            frames.append(bytes(buffer[start + _LENGTH_BYTES : end]))
            start = end
        del buffer[:start]
        return frames


def decode_to_worker(frame: bytes) -> ToWorker:
    """A frame's payload as the worker reads it. Raises ProtocolError."""
    try:
        return _to_worker.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a message: {error}") from error


def decode_from_worker(frame: bytes) -> FromWorker:
    """A frame's payload as the server reads it. Raises ProtocolError."""
    try:
        return _from_worker.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a message: {error}") from error
