"""TensorBoard's event file, written by the training itself.

TensorBoard's own writer hands each event to a thread, which takes the interpreter from the training as often as there
is a figure to write, and wants half a second of imports before the first. Here events are bytes that are kept until
there are some, and the figures of a moment are one event.

The format is that of TensorFlow's records: the length of an event, its sum, the event, its sum; a sum is the masked
CRC-32C. An event is a protocol buffer, of which the few fields that scalars need are written here by hand.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Final

FULL: Final = 1 << 16
"""Bytes from which they are written out."""
LATE: Final = 10.0
"""Seconds after which they are."""
_numbers = count()


class EventFile:
    """The event file of a folder, made with the first event. It can stand for the `FileWriter` of torch's
    `SummaryWriter`, whose methods of that name it has. purge: a step from which on earlier events count no more.

    Methods raise OSError where the disk does not take what is written.
    """

    def __init__(self, folder: Path, purge: int | None = None) -> None:
        self.folder = folder
        self._file: BinaryIO | None = None
        self._held = bytearray()
        self._written = time.monotonic()
        now = time.time()
        self._hold(_double(1, now) + _text(3, b"brain.Event:2"))
        if purge is not None:
            self._hold(_double(1, now) + _integer(2, purge) + _text(7, _integer(1, 1)))  # a session starts at this step

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Figures by their tags."""
        summary = b"".join(_text(1, _tag(name) + _float(2, value)) for name, value in values.items())
        self._hold(_double(1, time.time()) + _integer(2, step) + _text(5, summary))

    def add_event(self, event: Any, step: int | None = None, walltime: float | None = None) -> None:
        """A protocol buffer of TensorBoard's `Event`."""
        event.wall_time = time.time() if walltime is None else walltime
        if step is not None:
            event.step = int(step)
        self._hold(event.SerializeToString())

    def add_summary(self, summary: Any, global_step: int | None = None, walltime: float | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.add_event(Event(summary=summary), global_step, walltime)

    def get_logdir(self) -> str:
        return str(self.folder)

    def flush(self) -> None:
        """Write out what is held."""
        if self._held:
            if self._file is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                place = f"{int(time.time()):010}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
                self._file = (self.folder / f"events.out.tfevents.{place}").open("wb")
            self._file.write(self._held)
            self._file.flush()
            self._held.clear()
        self._written = time.monotonic()

    def close(self) -> None:
        self.flush()
        self.abandon()

    def abandon(self) -> None:
        """Close without what is held."""
        self._held.clear()
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _hold(self, event: bytes) -> None:
        self._held += _head(len(event)) + event + struct.pack("<I", masked_sum(event))
        if len(self._held) > FULL or time.monotonic() - self._written > LATE:
            self.flush()


def masked_sum(data: bytes) -> int:
    """The CRC-32C (Castagnoli) of some bytes, masked as TensorFlow's records have it."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return tuple(found)


@cache
def _head(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", masked_sum(packed))


@cache
def _tag(name: str) -> bytes:
    return _text(1, name.encode())


# Fields of a protocol buffer: the field's number and kind, then its value.


def _double(field: int, value: float) -> bytes:
    return struct.pack("<Bd", field << 3 | 1, value)


def _float(field: int, value: float) -> bytes:
    try:
        return struct.pack("<Bf", field << 3 | 5, value)
    except OverflowError:  # larger than 32 bits can say
        return struct.pack("<Bf", field << 3 | 5, math.copysign(math.inf, value))


def _integer(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _varint(value)


def _text(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
