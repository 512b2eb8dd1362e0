"""Plain data over pipes: what the judge and the candidate may say to each other.

| tag | value | payload |
|---|---|---|
| `N` `T` `F` | None, True, False | nothing |
| `i` | int | two's complement, big end first |
| `f` `c` | float, complex | `float.hex`, two of them with a space between |
| `s` `b` `y` | str, bytes, bytearray | UTF-8 (lone surrogates pass), bytes |
| `l` `t` `S` `z` | list, tuple, set, frozenset | the count, then the items |
| `d` | dict | the count, then keys and values in turn |
| `k` | int, str and the other built-in types | its name |
| `r` | anything else | the number under which its owner keeps it |

A tag is one byte, and 8 bytes of length or count follow it. Only exact types come out of :func:`decode`: a
subclass goes over as the plain value that its base type's own methods read from it, so whatever it says of
itself (`__eq__`, `__class__`, `__hash__`) stays behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

DEPTH = 100
"""How deep containers may be nested."""


class WireError(Exception):
    """Bytes that are not a message, or a value that cannot be one."""


class Closed(Exception):
    """The other end of the pipe is gone."""


def encode(value: object, keep: Callable[[object], int] | None = None) -> bytes:
    """``value`` as bytes. What is not plain data is given to ``keep``, which returns its number.

    Raises :class:`WireError` where there is no ``keep``, and for nesting over :data:`DEPTH`.
    """
    out = bytearray()
    _put(value, out, keep, DEPTH)
    return bytes(out)


def decode(data: bytes, find: Callable[[int], object] | None = None) -> Any:
    """The value that ``data`` holds, of plain exact types; a number of something else is given to ``find``.

    Raises :class:`WireError` for anything that :func:`encode` does not write.
    """
    try:
        value, end = _get(data, 0, find, DEPTH)
    except (ValueError, TypeError, OverflowError, KeyError) as error:
        raise WireError(f"{type(error).__name__}: {error}") from None
    if end != len(data):
        raise WireError("bytes left over")
    return value


def send(descriptor: int, data: bytes) -> None:
    """Writes one message: 8 bytes of length, then ``data``. Raises :class:`Closed`."""
    rest = memoryview(len(data).to_bytes(8, "big") + data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BrokenPipeError:
        raise Closed from None


def receive(descriptor: int, limit: int) -> bytes:
    """Reads one message of at most ``limit`` bytes. Raises :class:`Closed`, :class:`WireError`."""
    size = int.from_bytes(_read(descriptor, 8), "big")
    if size > limit:
        raise WireError(f"a message of {size} bytes, more than {limit}")
    return _read(descriptor, size)


def _read(descriptor: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(descriptor, min(size, 1 << 20))
        if not part:
            raise Closed
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _int(value: int) -> bytes:
    return int.to_bytes(value, int.bit_length(value) // 8 + 1, "big", signed=True)


def _complex(value: complex) -> bytes:
    real, imaginary = complex.__getnewargs__(value)  # type: ignore[attr-defined]
    return f"{real.hex()} {imaginary.hex()}".encode()


def _from_complex(data: bytes) -> complex:
    real, imaginary = data.decode().split(" ")
    return complex(float.fromhex(real), float.fromhex(imaginary))


ATOMS: dict[type, tuple[bytes, Callable[[Any], bytes], Callable[[bytes], object]]] = {
    int: (b"i", _int, lambda data: int.from_bytes(data, "big", signed=True)),
    float: (b"f", lambda v: float.hex(v).encode(), lambda data: float.fromhex(data.decode())),
    complex: (b"c", _complex, _from_complex),
    str: (
        b"s",
        lambda v: str.encode(v, "utf-8", "surrogatepass"),
        lambda data: data.decode("utf-8", "surrogatepass"),
    ),
    bytes: (b"b", lambda v: memoryview(v).tobytes(), lambda data: data),
    bytearray: (b"y", lambda v: memoryview(v).tobytes(), bytearray),
}
GROUPS: dict[type, tuple[bytes, Callable[[Any], Iterable[object]]]] = {
    list: (b"l", list.__iter__),
    tuple: (b"t", tuple.__iter__),
    set: (b"S", set.__iter__),
    frozenset: (b"z", frozenset.__iter__),
}
SINGLE: dict[object, bytes] = {None: b"N", True: b"T", False: b"F"}
TYPES: dict[type, bytes] = {
    kind: kind.__name__.encode() for kind in (*ATOMS, *GROUPS, dict, bool, object, type(None))
}
READ_TYPE = {name: kind for kind, name in TYPES.items()}
READ_ATOM = {tag: read for tag, _, read in ATOMS.values()}
READ_GROUP = {tag: kind for kind, (tag, _) in GROUPS.items()}
READ_SINGLE = {tag: value for value, tag in SINGLE.items()}


def _put(value: Any, out: bytearray, keep: Callable[[object], int] | None, depth: int) -> None:
    kinds = type.mro(type(value)) if type(value) is not type else [type]
    kind = next((k for k in kinds if k in ATOMS or k in GROUPS or k is dict), None)
    if value is None or value is True or value is False:
        out += SINGLE[value] + bytes(8)
    elif type(value) is type and value in TYPES:
        out += b"k" + len(TYPES[value]).to_bytes(8, "big") + TYPES[value]
    elif kind in ATOMS:
        tag, write, _ = ATOMS[kind]
        data = write(value)
        out += tag + len(data).to_bytes(8, "big") + data
    elif kind is None:
        if keep is None:
            raise WireError(f"not plain data: {type(value).__name__}")
        out += b"r" + keep(value).to_bytes(8, "big")
    else:
        _put_items(value, kind, out, keep, depth - 1)


def _put_items(
    value: Any, kind: type, out: bytearray, keep: Callable[[object], int] | None, depth: int
) -> None:
    if depth <= 0:
        raise WireError(f"nested more than {DEPTH} deep")
    if kind is dict:
        tag, items = b"d", [part for pair in dict.items(value) for part in pair]
        count = len(items) // 2
    else:
        tag, iterate = GROUPS[kind]
        items = list(iterate(value))
        count = len(items)
    out += tag + count.to_bytes(8, "big")
    for item in items:
        _put(item, out, keep, depth)


def _get(data: bytes, start: int, find: Callable[[int], object] | None, depth: int) -> tuple[Any, int]:
    tag, size = data[start : start + 1], int.from_bytes(data[start + 1 : start + 9], "big")
    start += 9
    if depth <= 0 or start > len(data):
        raise WireError("cut short" if depth else "nested too deep")
    if tag in READ_SINGLE:
        return READ_SINGLE[tag], start
    if tag == b"r" and find is not None:
        return find(size), start
    if size > len(data) - start:
        raise WireError("cut short")
    if tag == b"k":
        return READ_TYPE[data[start : start + size]], start + size
    if tag in READ_ATOM:
        return READ_ATOM[tag](data[start : start + size]), start + size
    if tag != b"d" and tag not in READ_GROUP:
        raise WireError(f"no such tag: {tag!r}")
    items = []
    for _ in range(2 * size if tag == b"d" else size):
        item, start = _get(data, start, find, depth - 1)
        items.append(item)
    if tag == b"d":
        return dict(zip(items[::2], items[1::2], strict=True)), start
    return READ_GROUP[tag](items), start
