"""A short soak: a few rounds of every attack on the quick commands. `make soak MINUTES=10` is the long form."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.soak.attacks import ATTACKS, Soak
from tests.soak.child import run
from tests.soak.readers import read_damaged
from tests.soak.stages import arguments

NAMES = ("caption", "refine", "pack", "inspect")  # a fraction of a second each
ROUNDS = {"kill": 3, "damage": 8, "full disk": 3, "two at once": 1, "vanish": 2}


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory, workspace: Path) -> Soak:
    """A workspace with frames, faces and captions made by the commands under attack."""
    place = tmp_path_factory.mktemp("soak")
    found = Soak(place / "reference", place / "root")
    shutil.copytree(workspace, found.root)
    for name in NAMES:
        for output in ("captions", "refined", "packed") if name == "caption" else ():
            shutil.rmtree(found.root / "demo7" / output)
        outcome = run(arguments(name, found.root))
        assert outcome.code == 0, f"{name}: {outcome}"
    shutil.copytree(found.root, found.reference)
    return found


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_find_nothing(soak: Soak, name: str) -> None:
    rng = random.Random(f"short {name}")
    for _ in range(ROUNDS[name]):
        ATTACKS[name][0](soak, rng, NAMES)
    assert not soak.findings, "\n".join(soak.findings)


def test_readers_answer_or_refuse_damaged_files(soak: Soak) -> None:
    counts, findings = read_damaged(soak.reference, 7, 400)
    assert not findings, "\n".join(findings)
    assert counts["refused"] > 100
