"""What somebody could plant in a workspace to run code, to read or write elsewhere, or to make a reader wait."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plant:
    """plant(file, outside): put it in the place of a file; `outside` is where it tries to go. fits(file): where. endless: a user who gives such a file
    by name wants it read."""

    plant: Callable[[Path, Path], object]
    fits: Callable[[Path], bool]
    endless: bool = False


class _Code:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path / 'ran'}",)


def _pickle(path: Path, outside: Path) -> None:
    path.write_bytes(pickle.dumps(_Code(outside)))


def _link(path: Path, outside: Path) -> None:
    os.replace(path, outside.parent / "moved")
    path.symlink_to(outside / "canary")


def _folder(path: Path, outside: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangling(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to(outside / "nothing")


def _loop(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _device(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _fifo(path: Path, outside: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _members(path: Path, outside: Path) -> None:
    """Members that lead out, a link, a device, and a pickled array."""
    with tarfile.open(path, "w") as tar:
        for name in ("../../outside/ran", str(outside / "ran"), "a.npy", "a.json"):
            data = pickle.dumps(_Code(outside))
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, kind in (("b.jpg", tarfile.SYMTYPE), ("c.jpg", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(outside / "canary")
            tar.addfile(info)


def _paths(path: Path, outside: Path) -> None:
    """Every text of a JSON file becomes a path that leads out."""

    def led_out(value: object) -> object:
        if isinstance(value, dict):
            return {name: led_out(item) for name, item in value.items()}
        if isinstance(value, list):
            return [led_out(item) for item in value]
        return f"../../../../../../{outside}/canary" if isinstance(value, str) else value

    path.write_text(json.dumps(led_out(json.loads(path.read_text()))))


def _pointer(path: Path, outside: Path) -> None:
    path.write_text(f"{outside}\n")


PLANTS = {
    "a pickle": Plant(_pickle, lambda path: True),
    "a link to a file elsewhere": Plant(_link, lambda path: True),
    "a folder": Plant(_folder, lambda path: True),
    "a dangling link": Plant(_dangling, lambda path: True),
    "a link to itself": Plant(_loop, lambda path: True),
    "a link to an endless device": Plant(_device, lambda path: True, True),
    "a pipe that nobody writes to": Plant(_fifo, lambda path: True, True),
    "members that lead out": Plant(_members, lambda path: path.suffix in (".tar", ".pt")),
    "paths that lead out": Plant(_paths, lambda path: path.suffix == ".json"),
    "a pointer out of the folder": Plant(_pointer, lambda path: path.name == "LAST"),
}
