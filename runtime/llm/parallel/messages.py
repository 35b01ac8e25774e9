"""What the planning process and the others say to one another, and the socket that it goes through.

Frames of msgpack over a pair of unix sockets; nothing here goes through the device. Who reads the end of the other
knows that it is gone.
"""

import select
import socket
import struct

import msgspec

from models.info import ModelInfo
from runtime.message import FailureCode, Message, Value
from runtime.settings import LlmSettings

_LENGTH = struct.Struct("<I")


class LoadPart(Message, frozen=True, kw_only=True):
    """Load this process's part of a model."""

    model_dir: str
    info: ModelInfo
    settings: LlmSettings
    num_blocks: int


class Join(Message, frozen=True, kw_only=True):
    """Meet the others."""

    rendezvous: str


class Row(Value, frozen=True, kw_only=True, array_like=True):
    """A `TokenRow` of `forward.py`."""

    token_ids: list[int]
    start: int
    block_ids: list[int]


class Compute(Message, frozen=True, kw_only=True):
    """One forward."""

    rows: list[Row]
    logit_rows: list[int]
    """Tokens whose logits are computed with it."""


class ComputeLogits(Message, frozen=True, kw_only=True):
    """More of them, of the last forward."""

    positions: list[int]


class Measure(Message, frozen=True, kw_only=True):
    """What do you hold?"""


class FallAsleep(Message, frozen=True, kw_only=True):
    pass


class WakeUp(Message, frozen=True, kw_only=True):
    pass


class Done(Message, frozen=True, kw_only=True):
    """An answer to all but forwards and logits, which have none."""

    num_bytes: int = 0
    """Of the device when asked to measure, of the host after falling asleep."""


class Refused(Message, frozen=True, kw_only=True):
    """The part cannot be loaded."""

    code: FailureCode
    message: str


Order = LoadPart | Join | Compute | ComputeLogits | Measure | FallAsleep | WakeUp
Answer = Done | Refused

_encoder = msgspec.msgpack.Encoder()
_order_decoder: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_answer_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


class Gone(Exception):
    """The other process has ended."""


class Channel:
    """One end; blocking, for one thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = bytearray()

    def send(self, message: Order | Answer) -> None:
        payload = _encoder.encode(message)
        try:
            self._connection.sendall(_LENGTH.pack(len(payload)) + payload)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Gone from error

    def has_message(self) -> bool:
        """Or the end; without waiting."""
        return bool(self._received) or bool(select.select([self._connection], [], [], 0)[0])

    def order(self) -> Order:
        return _order_decoder.decode(self._frame())

    def answer(self) -> Answer:
        return _answer_decoder.decode(self._frame())

    def close(self) -> None:
        self._connection.close()

    def _frame(self) -> bytes:
        (length,) = _LENGTH.unpack(self._take(_LENGTH.size))
        return self._take(length)

    def _take(self, num_bytes: int) -> bytes:
        while len(self._received) < num_bytes:
            piece = self._connection.recv(max(65536, num_bytes - len(self._received)))
            if not piece:
                raise Gone
            self._received += piece
        taken = bytes(self._received[:num_bytes])
        del self._received[:num_bytes]
        return taken
