"""The goldens of the reference implementations, read by what their files hold: no case, output or size is named here.

Other files of the same form may lie in their place (FCLIP_PARITY), so a test goes through all cases, and computes or
refuses every output that a case holds. The largest difference of each is printed, and told where it is too large.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor


@cache
def fill_module(parity: Path) -> ModuleType:
    """The goldens' fill.py."""
    spec = importlib.util.spec_from_file_location("parity_fill", parity / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_FILLED: dict[tuple[Any, ...], Tensor] = {}  # made tensors: systems on one CLIP have most of theirs in common


def forget_tensors() -> None:
    """Give back the memory of all made tensors."""
    _FILLED.clear()


class Arrays:
    """The arrays of a golden file; it knows which of them a test has read."""

    def __init__(self, path: Path) -> None:
        self._file = np.load(path)
        self.files: list[str] = self._file.files
        self.unread = set(self.files)

    def __getitem__(self, name: str) -> np.ndarray:
        self.unread.discard(name)
        array: np.ndarray = self._file[name]
        return array

    def __contains__(self, name: str) -> bool:
        return name in self.files


class Golden:
    """One system of the goldens: cases, outputs with tolerances, and the state dict of the official class."""

    def __init__(self, parity: Path, system: str) -> None:
        self.fill = fill_module(parity)
        self.spec = json.loads((parity / "public" / f"{system}.json").read_text(encoding="utf-8"))
        self.outputs = Arrays(parity / "public" / f"{system}.npz")
        self.cases: Any = self.spec.get("cases", {})

    def input(self, case: dict[str, Any], name: str) -> Tensor:
        return torch.from_numpy(self.fill.make_input(**case["inputs"][name]))

    def state(self, case: dict[str, Any]) -> dict[str, Tensor]:
        """Official names -> tensors, to be read only; equal ones share their memory, token buffers are looked up."""
        state = {}
        for key, shape, _, kind, fill_name in case["state_dict"]:
            if kind not in ("keep", "derived"):
                made = (self.spec["seed"], fill_name, tuple(shape), kind)
                if made not in _FILLED:
                    _FILLED[made] = torch.from_numpy(self.fill.fill(fill_name, shape, self.spec["seed"], kind))
                state[key] = _FILLED[made]
        if f"{case['name']}.prompt_tokens" in self.outputs:
            ids = torch.from_numpy(self.outputs[f"{case['name']}.prompt_tokens"]).long()
            context = state["prompt_learner.ctx"].shape[-2]
            table = next(tensor for key, tensor in state.items() if key.endswith("token_embedding.weight"))
            rows = table[ids]  # (C, 77, W)
            state |= {
                "prompt_learner.token_prefix": rows[:, :1].clone(),
                "prompt_learner.token_suffix": rows[:, 1 + context :].clone(),
            }
        return state

    def assert_all_read(self) -> None:
        """At the end of a test: no array of the file was left out."""
        unread = ", ".join(sorted(self.outputs.unread))
        assert not unread, f"{self.spec['system']}: nothing has read {unread}"

    def check(self, case: dict[str, Any], found: Mapping[str, Tensor | np.ndarray]) -> None:
        """Compare every output of the case with what was found, each to its tolerance; `found` may hold more."""
        unread = sorted(case["outputs"].keys() - found.keys())
        assert not unread, f"{self.spec['system']} {case['name']}: nothing here computes {', '.join(unread)}"
        system = f"{self.spec['system']} {case['name']}"
        told = [
            difference(f"{system} {name}", found[name], self.outputs[output["npz"]], output["tolerance"])
            for name, output in case["outputs"].items()
        ]
        failed = [line for line in told if line]
        assert not failed, "; ".join(failed)


def difference(name: str, mine: Tensor | np.ndarray, gold: np.ndarray, tolerance: Mapping[str, Any]) -> str:
    """What is wrong with an output, with the largest difference and where it is; "" if it is within its tolerance.

    The largest difference is printed either way.
    """
    own = mine.detach().numpy() if isinstance(mine, Tensor) else np.asarray(mine)
    if own.shape != gold.shape:
        return f"{name} has shape {own.shape}, not {gold.shape}"
    if "min_equal_fraction" in tolerance:
        share = float((own == gold).mean())
        print(f"{name}: {share:.5f} of it is equal")
        return "" if share >= tolerance["min_equal_fraction"] else f"{name}: only {share:.5f} of it is equal"
    apart = np.abs(own.astype(np.float64) - gold.astype(np.float64))
    place = np.unravel_index(apart.argmax(), apart.shape)
    allowed = 0.0 if tolerance.get("exact") else tolerance["atol"] + tolerance.get("rtol", 0) * np.abs(gold)
    print(f"{name}: largest difference {apart.max():.3g}, allowed {np.max(allowed):.3g}")
    if (apart <= allowed).all():  # not so where one of them is not a number
        return ""
    wrong = int((~(apart <= allowed)).sum())
    where = tuple(map(int, place))
    most = f"largest difference {apart.max():.3g} at {where}, allowed {np.max(allowed):.3g}"
    return f"{name}: {most} ({wrong} of {apart.size} apart)"
