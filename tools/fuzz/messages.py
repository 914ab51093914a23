"""Hostile messages, made from their descriptors and a seed.

Nothing here knows what a field means: whatever a later version adds is fuzzed from its first day.
"""

from __future__ import annotations

import math
import random
import string
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_DEPTH_MAX: Final = 6
_INTEGERS: Final = (
    0, 1, -1, 2, 7, 42, 1000, 0x7FFF_FFFF, -0x8000_0000, 0xFFFF_FFFF, 1 << 40, -(1 << 40),
    (1 << 53) + 1, (1 << 63) - 1, -(1 << 63), (1 << 64) - 1,
)  # fmt: skip
_DOUBLES: Final = (0.0, -0.0, 1.5, -1.0, math.nan, math.inf, -math.inf, 1e308, 5e-324)
# Escapes, a clipboard of somebody else, lines and directions turned around, paths, formats, markup.
HOSTILE: Final = (
    "", "a", "\0", "a\0b", "\x1b[2J\x1b[1;1H", "\x1b]52;c;aGFoYQ==\x07", "a\rb", "a\x08\x08b",
    "\u202eevil\u202c", "a\u2028b", "\x9b31m", "\n2026-01-01T00:00:00.000Z INFO forged x=1",
    "../../../etc/shadow", "..", ".", "/", "/etc/passwd", "%n%j%", "%s%s%n", "{0.__class__}",
    "$(touch /tmp/x)", "`id`", "'; DROP TABLE jobs; --", "[red]x[/red]", "\ufeff", "\U0001f600" * 3,
    "\u00e9" * 300, "last", "name:", "-1", "NaN", "0x10", "unix:/tmp/x", "127.0.0.1:1",
    "ipv4:127.0.0.1:1,127.0.0.2:2", "dns:///localhost:1", "[::1]:1",
)  # fmt: skip
_NUMBER_BOUNDS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(1 << 31), (1 << 31) - 1),
}


class Maker:
    """Draws messages. `known` are values that the other side gave out: ids, sessions, epochs."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.known: list[Any] = []

    def learn(self, value: Any) -> None:
        """Something that the other side said; some of the last are kept."""
        self.known.append(value)
        del self.known[:-50]

    def message(self, descriptor: Descriptor) -> Any:
        """Any message of that kind."""
        return self._message(descriptor, 0)

    def mutated(self, message: Message) -> Any:
        """A copy with one to three fields, however deep, that are something else."""
        copy = type(message)()
        copy.CopyFrom(message)
        for _ in range(self.rng.randint(1, 3)):
            self._mutate(copy)
        return copy

    def damaged(self, data: bytes) -> bytes:
        """These bytes cut, flipped, repeated or with others between."""
        damaged = bytearray(data or b"\x0a\x03abc")
        for _ in range(self.rng.randint(1, 4)):
            place = self.rng.randrange(len(damaged) + 1)
            match self.rng.randrange(5):
                case 0:
                    del damaged[place:]
                case 1:
                    damaged[place:place] = self.rng.randbytes(self.rng.randint(1, 20))
                case 2:
                    damaged += damaged[: min(place, 100_000)]
                case 3:
                    # A length that is not there.
                    damaged[place:place] = b"\xff\xff\xff\xff\x07"
                case _ if place < len(damaged):
                    damaged[place] ^= 1 << self.rng.randrange(8)
        return bytes(damaged)

    def text(self) -> str:
        """A string."""
        rng = self.rng
        draw = rng.random()
        if draw < 0.6:
            return rng.choice(HOSTILE)
        if draw < 0.8:
            return "".join(rng.choices(string.printable, k=rng.randint(1, 40)))
        known = [each for each in self.known if isinstance(each, str)]
        if draw < 0.9 and known:
            return str(rng.choice(known))
        return "x" * rng.choice((255, 256, 300, 4_096, 70_000))

    def data(self) -> bytes:
        """Bytes."""
        rng = self.rng
        draw = rng.random()
        if draw < 0.4:
            return self.text().encode(errors="surrogatepass")
        known = [each for each in self.known if isinstance(each, bytes)]
        if draw < 0.7 and known:
            return bytes(rng.choice(known))
        return rng.randbytes(rng.choice((0, 1, 15, 16, 17, 100, 1_000, 131_072)))

    def _message(self, descriptor: Descriptor, depth: int) -> Any:
        message = GetMessageClass(descriptor)()
        # Of some few fields each, so that one that is refused does not hide all others.
        likelihood = self.rng.choice((0.1, 0.3, 0.6, 0.9))
        for field in descriptor.fields:
            if self.rng.random() < likelihood:
                self._set(message, field, depth)
        return message

    def _mutate(self, message: Message) -> None:
        fields = message.ListFields()
        below = [
            value
            for field, value in fields
            if field.message_type is not None and not field.is_repeated
        ]
        if below and self.rng.random() < 0.6:
            self._mutate(self.rng.choice(below))
            return
        inside = [
            each
            for field, value in fields
            if field.is_repeated and field.message_type is not None and not _is_map(field)
            for each in value
        ]
        if inside and self.rng.random() < 0.6:
            self._mutate(self.rng.choice(inside))
            return
        choices: Any = message.DESCRIPTOR.fields
        if not choices:
            return
        field = self.rng.choice(choices)
        message.ClearField(field.name)
        self._set(message, field, 2)

    def _set(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and depth >= _DEPTH_MAX:
            return
        if _is_map(field):
            self._set_map(getattr(message, field.name), field, depth)
        elif field.is_repeated:
            values = getattr(message, field.name)
            count = self.rng.choice((0, 1, 1, 2, 3, 3, 20))
            if field.message_type is None:
                if self.rng.random() < 0.02:
                    # Of small ones there may be a flood.
                    values.extend([self._scalar(field, is_small=True)] * 200_000)
                else:
                    values.extend(self._scalar(field) for _ in range(count))
            else:
                values.extend(self._message(field.message_type, depth + 1) for _ in range(count))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(self._message(field.message_type, depth + 1))
        else:
            setattr(message, field.name, self._scalar(field))

    def _set_map(self, entries: Any, field: FieldDescriptor, depth: int) -> None:
        assert field.message_type is not None
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        for _ in range(self.rng.choice((0, 1, 2, 100))):
            if value.message_type is None:
                entries[self._scalar(key)] = self._scalar(value)
            else:
                made = self._message(value.message_type, depth + 1)
                entries[self._scalar(key)].CopyFrom(made)

    def _scalar(self, field: FieldDescriptor, *, is_small: bool = False) -> Any:
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            is_bytes = field.type == FieldDescriptor.TYPE_BYTES
            if is_small:
                return b"" if is_bytes else ""
            return self.data() if is_bytes else self.text()
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return self.rng.random() < 0.5
        if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return self.rng.choice(_DOUBLES)
        if field.enum_type is not None and self.rng.random() < 0.8:
            return self.rng.randrange(len(field.enum_type.values) + 1)
        return self._integer(*_NUMBER_BOUNDS[kind])

    def _integer(self, least: int, most: int) -> int:
        known = [each for each in self.known if type(each) is int]
        draw = self.rng.random()
        value: int
        if draw < 0.3 and known:
            value = self.rng.choice(known)
        elif draw < 0.7:
            value = self.rng.choice(_INTEGERS)
        else:
            value = self.rng.randint(0, 20)
        return min(max(value, least), most)


def _is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and kind.has_options and kind.GetOptions().map_entry
