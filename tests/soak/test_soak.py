"""A short soak: a few rounds of every attack on the first commands. `make soak MINUTES=10` is the long form."""

from __future__ import annotations

import random

import pytest

from tests.soak.__main__ import prepare
from tests.soak.attacks import ATTACKS, Soak
from tests.soak.reading import read_damaged

NAMES = ("preprocess", "face-analyze", "caption", "refine", "pack", "inspect")
ROUNDS = {"kill": 2, "damage": 5, "full disk": 2, "two at once": 1, "read-only": 1, "vanish": 2, "plant": 2}


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Soak:
    """A workspace made by the commands under attack."""
    return prepare(tmp_path_factory.mktemp("soak"), NAMES)


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_find_nothing(soak: Soak, name: str) -> None:
    rng = random.Random(f"short {name}")
    for _ in range(ROUNDS[name]):
        ATTACKS[name][0](soak, rng)
    assert not soak.findings, "\n".join(soak.findings)


def test_readers_answer_or_refuse_damaged_files(soak: Soak) -> None:
    counts, findings = read_damaged(soak.reference, "short", 200)
    assert not findings, "\n".join(findings)
    assert counts["refused"] > 50
