"""Weights files that fclip does not bring: what each one is, where it is looked for, and the line where it is missing.

resources/weights.json lists them under "files"; any model of the Hugging Face hub is one, too, as owner/name or
owner/name@revision. Looking imports nothing heavy and asks no server; what is missing is brought by
`fclip.engine.fetching`.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fclip.errors import FclipError
from fclip.files import cache_folder, readable_size, resource_json, sha256_file

PATIENCE = 5.0  # seconds that a server has to answer before it counts as out of reach
FETCHED = "fclip.json"  # in a model's folder: repository, commit, licence and the hash of each file


@dataclass(frozen=True)
class Weights:
    """One entry of the catalogue.

    file: its name in a weights folder; that of a model of transformers is a folder. repository, source, revision: where
    it lies on the hub, or url. sha256: of the file, where it is known. convert: the converter that makes the file of
    what is downloaded. bytes: of the download, None where nobody says. without: what works without it.
    """

    name: str
    what: str
    file: str
    licence: str
    without: str
    bytes: int | None = None
    repository: str = ""
    source: str = ""
    revision: str | None = None
    url: str = ""
    sha256: str = ""
    convert: str = ""

    @property
    def place(self) -> str:
        """The address that it comes from."""
        return self.url or f"{hub_address()}/{self.repository}"

    @property
    def size(self) -> str:
        """Its size for people."""
        return readable_size(self.bytes) if self.bytes else "size not known"


def hub_address() -> str:
    """The hub's address: $HF_ENDPOINT, by default https://huggingface.co."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


@cache
def listed() -> dict[str, Weights]:
    """The entries of weights.json by name."""
    return {row["name"]: Weights(**row) for row in resource_json("weights.json")["files"]}


def published(clip: str) -> str:
    """A CLIP model's name in the catalogue: `ViT-B-16-quickgelu`, open_clip's name of OpenAI's, is `ViT-B-16`, as is
    `ViT-B-16@336`."""
    return clip.partition("@")[0].removesuffix("-quickgelu")


def entry(name: str) -> Weights | None:
    """The entry of a name, of owner/name or of owner/name@revision; None where nothing is called so."""
    repository, _, revision = name.removesuffix("-quickgelu").partition("@")
    known = listed().get(repository) or next((row for row in listed().values() if row.repository == repository), None)
    if known and not revision:
        return known
    if known:
        repository = known.repository
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        return None
    return Weights(
        name=name,
        what="model of the hub",
        file=name.replace("/", "--"),
        licence="on its model card",
        without="--mllm template",
        repository=repository,
        revision=revision or None,
    )


def weights_folder() -> Path:
    """Where fetched files go: $FCLIP_WEIGHTS, else the cache, $XDG_CACHE_HOME/fclip (~/.cache/fclip)."""
    return Path(os.environ.get("FCLIP_WEIGHTS") or cache_folder())


def search_folders() -> list[Path]:
    """Folders searched for weights, in order: $FCLIP_WEIGHTS, $FCLIP_MODELS, then the cache."""
    named = [Path(value) for name in ("FCLIP_WEIGHTS", "FCLIP_MODELS") if (value := os.environ.get(name))]
    return [*named, cache_folder()]


def find(row: Weights) -> Path | None:
    """Its file or folder: in the folders searched, else in the hub's own cache; None where it is not, or in part."""
    places = (folder / row.file for folder in search_folders())
    return next((place for place in places if _is_whole(row, place)), None) or _in_hub_cache(row)


def require(name: str) -> Path:
    """The file or folder of a name; FclipError in one line where it is missing, or is another than is known.

    The line says what is missing, its size and licence, where it was looked for, what fetches it, what works without.
    """
    row = entry(name)
    if row is None:
        raise FclipError(f"{name}: no weights of that name; fclip fetch --list shows them")
    path = find(row)
    if path is None:
        raise FclipError(missing(row))
    if row.sha256 and (found := sha256_file(path)) != row.sha256:
        raise FclipError(f"{path}: sha256 is {found}, expected {row.sha256}; delete it, then: fclip fetch {row.name}")
    return path


def missing(row: Weights, why: str = "") -> str:
    """The line about weights that are not there; `why` it is not fetched at once."""
    return (
        f"{row.file} ({row.what}, {row.size}, licence {row.licence}) is not in "
        f"{' or '.join(map(str, search_folders()))}{f', and {why}' if why else ''}; "
        f"get it with: fclip fetch {row.name}; without it: {row.without}"
    )


def _is_whole(row: Weights, place: Path) -> bool:
    return _is_model(place) if row.repository and not row.source else place.is_file()


def _is_model(folder: Path) -> bool:
    """Whether a folder holds a model of transformers: its configuration and all of its weights."""
    if not (folder / "config.json").is_file():
        return False
    index = folder / "model.safetensors.index.json"
    try:
        parts: Any = json.loads(index.read_text())["weight_map"].values() if index.is_file() else ["model.safetensors"]
        return all((folder / str(part)).is_file() for part in set(parts))
    except (OSError, ValueError, KeyError, AttributeError, RecursionError):
        return False


def _in_hub_cache(row: Weights) -> Path | None:
    """What another program has fetched into the hub's cache, as it is there."""
    if not row.repository or row.convert:
        return None
    from huggingface_hub import try_to_load_from_cache

    wanted = row.source or "config.json"
    found = try_to_load_from_cache(row.repository, wanted, revision=row.revision)
    if not isinstance(found, str):
        return None
    path = Path(found) if row.source else Path(found).parent
    return path if _is_whole(row, path) else None


def answers(address: str) -> bool:
    """Whether a server answers within PATIENCE seconds, whatever it says; not where HF_HUB_OFFLINE forbids to ask."""
    forbidden = os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on")
    if forbidden and address.startswith(hub_address()):
        return False
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    found = []

    def ask() -> None:
        try:
            urlopen(Request(address, method="HEAD"), timeout=PATIENCE).close()
            found.append(True)
        except HTTPError as error:
            error.close()
            found.append(True)
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, daemon=True)  # to look up a name may take longer than its timeout
    thread.start()
    thread.join(PATIENCE)
    return bool(found)
