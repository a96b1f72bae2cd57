"""Damage as disks, transfers and editors do it, and values that a valid file could hold but fclip never writes."""

from __future__ import annotations

import json
import random
from typing import Any

WILD: tuple[Any, ...] = (None, True, -1, 0, 10**400, 1e308, "", "../../x", "\u0000", [], {}, [[]], "x" * 5000)


def mutated(rng: random.Random, data: bytes) -> tuple[str, bytes]:
    """(what was done, the damaged bytes); never the bytes that were given."""
    kinds = [_flip, _flip, _cut, _insert, _remove, _zeros, _repeat, _empty, _nonsense, _text]
    if data[:1] in b"{[":
        kinds += [_value] * 6 + [_nest]
    for _ in range(20):
        kind = rng.choice(kinds)
        found = kind(rng, data)
        if found != data:
            return kind.__name__.strip("_"), found
    return "nonsense", b"nonsense" + data


def _flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 8)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _insert(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.choice((1, 7, 512))) + data[place:]


def _remove(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + data[place + rng.choice((1, 5, 512)) :]


def _zeros(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    size = min(rng.choice((1, 64, 4096)), len(data) - place)
    return data[:place] + bytes(size) + data[place + size :]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + data[place // 2 : place] + data[place:]


def _empty(rng: random.Random, data: bytes) -> bytes:
    return b""


def _nonsense(rng: random.Random, data: bytes) -> bytes:
    return rng.randbytes(rng.choice((3, 100, 5000)))


def _text(rng: random.Random, data: bytes) -> bytes:
    return rng.choice((b"\xff\xfe", b"\xef\xbb\xbf" + data, b"<html>404</html>", data.replace(b"\n", b"\r\n"), b"NaN"))


def _nest(rng: random.Random, data: bytes) -> bytes:
    return b"[" * 100_000 + b"]" * 100_000


def _value(rng: random.Random, data: bytes) -> bytes:
    """One value somewhere in a JSON file replaced, removed, or moved."""
    try:
        value = json.loads(data)
    except ValueError:
        return data
    place = value
    while isinstance(place, (dict, list)) and place:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.7:
            place = place[key]
            continue
        if isinstance(place, dict) and rng.random() < 0.2:
            del place[key]
        elif isinstance(place[key], (int, float)) and rng.random() < 0.5:
            place[key] += rng.choice((1, -1, 0.5))
        else:
            place[key] = rng.choice(WILD)
        break
    return json.dumps(value).encode()
