"""Whose output a folder is: claimed by its configuration, and held by one process at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fclip.config import differences, hash_of
from fclip.errors import FclipError, OutputDiffers
from fclip.files import read_json, remove_if_left, write_json
from fclip.runner.lock import LOCK, FolderLock

CONFIG = "config.json"
SHOWN = ("config_hash", "recipe")  # entries of an identity that follow from the others


class OutputFolder:
    """The output folder of a command.

    `described`: names of files that a run may have written before its first result; a folder with nothing else is as
    new. `job`: (index, number) of several jobs that share the folder. `found_hashes` gives the configuration hashes on
    record in the folder, which decide where config.json is damaged; without it such a folder is never gone on with.
    """

    def __init__(
        self,
        path: Path,
        described: Iterable[str] = (),
        job: tuple[int, int] = (0, 1),
        found_hashes: Callable[[], set[str]] | None = None,
    ) -> None:
        self.path, self.job, self.found_hashes = path, job, found_hashes
        self.described = {CONFIG, *described}

    @contextlib.contextmanager
    def claim(self, identity: Mapping[str, Any], overwrite: bool, resume: bool = True) -> Iterator[bool]:
        """Hold the folder for output of this identity; gives whether it holds some already, to go on from.

        `identity` is all that the output depends on, as JSON values; it is kept as config.json with its hash. Raises
        OutputDiffers (exit 3) when another process works in the folder, when it holds output of another identity
        (without `overwrite`), output at all (without `resume` and `overwrite`), or files that fclip did not write.
        """
        lock = FolderLock(self.path, self.job)
        lock.acquire()
        try:
            yield self._check(with_hash(identity), overwrite, resume)
        finally:
            lock.release()

    def _check(self, identity: dict[str, Any], overwrite: bool, resume: bool) -> bool:
        names = {path.name for path in self.path.iterdir() if not path.name.startswith(LOCK)}
        shown = sorted(name for name in names if not name.startswith("."))  # others are of a run that was killed
        if shown and CONFIG not in names:
            raise OutputDiffers(f"{self.path}: holds files that fclip did not write ({shown[0]}); choose another --out")
        found, old = bool(set(shown) - self.described), read_config(self.path)
        if found and not overwrite:
            self._compare(old, identity)
            if not resume:
                raise OutputDiffers(
                    f"{self.path}: holds output already and --no-resume was given; use --overwrite or another --out"
                )
        if old is None or old["config_hash"] != identity["config_hash"]:
            write_json(self.path / CONFIG, identity)
        return found

    def _compare(self, old: dict[str, Any] | None, new: dict[str, Any]) -> None:
        """Raise OutputDiffers if what is in the folder was, or may have been, made with another configuration."""
        wanted = new["config_hash"]
        if old is None and (self.found_hashes is None or self.found_hashes() - {wanted}):
            raise OutputDiffers(
                f"{self.path / CONFIG}: damaged, and what is there may be of another configuration; "
                "use --overwrite to replace it, or another --out"
            )
        if old is not None and old["config_hash"] != wanted:
            changed = differences(old, new | {"config_hash": old["config_hash"]})
            raise OutputDiffers(
                f"{self.path}: made with another configuration ({'; '.join(changed)}); "
                "use --overwrite to replace it, or another --out"
            )

    def remove_temporaries(self, stems: Iterable[str] | None = None) -> None:
        """Delete temporary files `.name.<pid>.tmp` whose process is gone (a crash left them).

        With `stems`, only those of these shards: the others may belong to a job on another machine.
        """
        chosen = None if stems is None else set(stems)
        for path in self.path.glob(".*.tmp"):
            if chosen is None or path.name.split(".")[1] in chosen:
                remove_if_left(path)


def with_hash(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity with its hash, as config.json holds it."""
    return {**identity, "config_hash": hash_of({k: v for k, v in identity.items() if k not in SHOWN})}


def read_config(folder: Path) -> dict[str, Any] | None:
    """The identity in a folder's config.json; None where it is missing, damaged or of another program."""
    try:
        value = read_json(folder / CONFIG)
        return value if isinstance(value, dict) and value == with_hash(value) else None
    except FclipError:
        return None
