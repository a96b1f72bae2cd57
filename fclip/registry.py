"""Everything that can be added to fclip, in one form: variants, face back ends, captioners, data sets, converters.

A thing is a class or function marked with `register(Options)`; a row names the module that holds it, so that listing
names and refusing a wrong one import nothing. Other people's packages name theirs as entry points in the registry's
group, and have no row. CONTRIBUTING.md has a worked example of each kind.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from fclip.catalogue import entry, find
from fclip.config import NoOptions, build_options, close_names
from fclip.errors import FclipError, MissingExtra, UsageError
from fclip.files import resource_json

Thing = TypeVar("Thing", bound=Callable[..., Any])
CLIP = "--clip"  # as a variant's weights: the CLIP that this option names


def register(options: type = NoOptions, **properties: Any) -> Callable[[Thing], Thing]:
    """Mark a class or function as something that fclip can use.

    `options`: the frozen dataclass of its options, which it gets an instance of. `properties`: what it can do, where
    that is not what fclip expects of its kind (a class may have them as attributes); the kind's docs name them.
    """

    def mark(thing: Thing) -> Thing:
        for name, value in {"Options": options, **properties}.items():
            setattr(thing, name, value)
        return thing

    return mark


@dataclass(frozen=True)
class Row:
    """A thing that comes with fclip: its name, where it lies (module:object), what it is and needs, for people.

    options: where its Options lie, if importing `path` is slow; package, extra: what must be installed, and the extra
    of fclip that does it; weights: what it needs of fclip.catalogue; named: it serves several names and is told which.
    """

    name: str
    path: str
    note: str
    options: str = ""
    package: str = ""
    extra: str = ""
    weights: str = ""
    named: bool = False


@dataclass(frozen=True)
class Registry:
    """The things of one kind by name; `rows` makes those that come with fclip, `other` the row of a free-form name."""

    kind: str
    group: str
    rows: Callable[[], list[Row]]
    other: Callable[[str], Row | None] = lambda name: None
    added: dict[str, Any] = field(default_factory=dict)

    def names(self) -> list[str]:
        """All names: fclip's in their order, then those of other packages, then those added by `add`."""
        own = [row.name for row in self.rows()]
        return [*own, *sorted((self._entry_points().keys() | self.added.keys()) - set(own))]

    def add(self, name: str, thing: Any) -> None:
        """Make a registered thing known in this process under a name, without a package (a notebook, a test)."""
        if name in self.names():
            raise UsageError(f"{self.kind} {name!r} exists already; choose another name")
        self.added[name] = thing

    def check(self, name: str) -> None:
        """Raise UsageError, with the close matches, unless there is a thing of this name; imports nothing."""
        if name not in self.names() and self.other(name) is None:
            close = close_names(name, self.names())
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise UsageError(f"unknown {self.kind} {name!r}; {hint}there are: {', '.join(self.names())}")

    def find(self, name: str) -> Any:
        """The class or function of this name.

        Raises UsageError for an unknown name, MissingExtra when its package is not installed, FclipError when another
        package's thing cannot be loaded.
        """
        self.check(name)
        row = self._row(name)
        if row is None:
            return self.added[name] if name in self.added else self._load(self._entry_points()[name])
        if row.package and find_spec(row.package) is None:
            raise MissingExtra(row.extra, row.package)
        thing = _resolve(row.path)
        return partial(thing, name) if row.named else thing

    def property(self, name: str, what: str, usual: Any) -> Any:
        """A property of the thing of this name; the usual one where it has none of its own. Errors as `find`."""
        thing = self.find(name)
        return getattr(thing.func if isinstance(thing, partial) else thing, what, usual)

    def best(self) -> str:
        """The first name that would run as things are; FclipError if there is none."""
        found = next((row["name"] for row in self.table() if row["state"] == "ready"), None)
        if found is None:
            raise FclipError(f"no {self.kind} is ready to run; see what each needs with: list")
        return found

    def weights(self, name: str) -> str:
        """What the thing of this name needs of fclip.catalogue; "" for nothing, and for things of other packages."""
        row = self._row(name)
        return row.weights if row else ""

    def options(self, name: str) -> type:
        """The dataclass of its options; errors as `find`, but a package that is not installed is none."""
        self.check(name)
        row = self._row(name)
        thing = _resolve(row.options or row.path) if row else self.find(name)
        found: type = thing if row and row.options else thing.Options
        return found

    def make_options(self, name: str, values: Mapping[str, Any]) -> Any:
        """An instance of its Options from plain values; UsageError for an option that it has not, or a wrong value."""
        return build_options(self.options(name), values, f"{self.kind} {name}")

    def all_options(self) -> dict[str, list[str]]:
        """The names of the options of each thing; without a thing of another package that does not load."""
        found = {}
        for name in self.names():
            try:
                found[name] = [each.name for each in dataclasses.fields(self.options(name))]
            except FclipError:
                continue
        return found

    def table(self) -> list[dict[str, str]]:
        """What `list` shows of each thing: name; state: ready, no weights yet, not installed; what it is and needs."""
        table = []
        for name in self.names():
            row, entry = self._row(name), self._entry_points().get(name)
            note = row.note if row else f"from {entry.value}" if entry else "added in this process"
            table.append({"name": name, "state": _state(row), "needs": note})
        return table

    def _row(self, name: str) -> Row | None:
        return next((row for row in self.rows() if row.name == name), None) or self.other(name)

    def _entry_points(self) -> dict[str, EntryPoint]:
        return _entry_points_of(self.group, tuple(sys.path))

    def _load(self, entry: EntryPoint) -> Any:
        try:
            thing = entry.load()
        except Exception as error:  # somebody else's module may raise anything
            raise FclipError(f"{self.kind} {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error
        if not hasattr(thing, "Options"):
            raise FclipError(f"{self.kind} {entry.name!r} ({entry.value}) is not marked with fclip.registry.register")
        return thing


@cache
def _entry_points_of(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """The entry points of a group in the packages on `path`, read once: that takes 8 ms, several times a command."""
    return {entry.name: entry for entry in entry_points(group=group)}


def _resolve(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _state(row: Row | None) -> str:
    """Whether a thing would run as things are, without a download."""
    if row and row.package and find_spec(row.package) is None:
        return "not installed"
    weights = entry(row.weights) if row and row.weights not in ("", CLIP) else None
    return "no weights yet" if weights and find(weights) is None else "ready"


# --- what comes with fclip ------------------------------------------------------------------------------------------

_FINECLIPER, _BASELINES = "fclip.models.finecliper", "fclip.models.baselines"


def _variants() -> list[Row]:
    def row(name: str, module: str, options: str, note: str, weights: str = CLIP) -> Row:
        family, function = module.rpartition(".")[0], name.replace("-", "_")
        return Row(name, f"{module}:{function}", note, f"{family}.options:{options}", weights=weights)

    finecliper = f"{_FINECLIPER}.model"
    heads, video = f"{_BASELINES}.clip_heads", f"{_BASELINES}.video_networks"
    return [
        row("base", finecliper, "Options", "FineCLIPER, frames only"),
        row("star", finecliper, "Options", "FineCLIPER*: frames, face parsing and landmarks"),
        row("dagger", finecliper, "Options", "FineCLIPER with dagger: frames and a caption"),
        row("star-dagger", finecliper, "Options", "FineCLIPER*, dagger: frames, parsing, landmarks and a caption"),
        row("dfer-clip", f"{_BASELINES}.dfer_clip", "DferClipOptions", "DFER-CLIP (BMVC 2023)"),
        row("linear-probe", heads, "LinearProbeOptions", "linear classifier on frozen CLIP features"),
        row("finetune", heads, "FinetuneOptions", "the whole image tower of CLIP, fine-tuned"),
        row("signals", f"{_BASELINES}.signals", "SignalsOptions", "expression signals, logistic regression", ""),
        row("signals-probe", f"{_BASELINES}.signals_probe", "SignalsOptions", "the same with frozen CLIP features"),
        row("zeroshot-clip", heads, "ZeroshotOptions", "CLIP as it is; nothing to train"),
        row("zeroshot-farl", heads, "ZeroshotOptions", "CLIP with FaRL's weights, as it is; nothing to train", "FaRL"),
        row("coop", f"{_BASELINES}.coop", "CoopOptions", "CoOp (IJCV 2022): learned prompts"),
        row("cocoop", f"{_BASELINES}.coop", "CocoopOptions", "CoCoOp (CVPR 2022): prompts that depend on the clip"),
        row("emoclip", f"{_BASELINES}.emoclip", "EmoclipOptions", "EmoCLIP (FG 2024): clips against captions"),
        row("r3d-18", video, "VideoOptions", "ResNet-18 of 3D convolutions", ""),
        row("r2plus1d-18", video, "VideoOptions", "ResNet-18 of (2+1)D convolutions", ""),
        row("mc3-18", video, "VideoOptions", "ResNet-18, its first stage of 3D convolutions", ""),
        row("s3d", video, "VideoOptions", "separable 3D Inception", ""),
        row("resnet18-lstm", video, "VideoOptions", "ResNet-18 a frame, LSTM over the frames", ""),
        row("resnet18-vit", video, "VideoOptions", "ResNet-18 a frame, transformer over the frames", ""),
    ]


def _face_backends() -> list[Row]:
    options = "fclip.faces.base:WeightsOptions"
    return [
        Row(
            "facexformer",
            "fclip.faces.facexformer.backend:FaceXFormerBackend",
            "its weights, 1.1 GB (fclip fetch facexformer); a GPU for speed",
            options,
            weights="facexformer",
        ),
        Row(
            "mediapipe",
            "fclip.faces.mediapipe.backend:MediaPipeBackend",
            "pip install 'fclip[mediapipe]'; its model file, 4 MB (fclip fetch mediapipe)",
            options,
            package="mediapipe",
            extra="mediapipe",
            weights="mediapipe",
        ),
        Row(
            "lite",
            "fclip.faces.lite.backend:LiteBackend",
            "nothing: weights are bundled; landmarks and parsing, no blendshapes",
            options,
        ),
    ]


_HUB = "fclip.captions.captioners.hub:HubCaptioner"


@cache
def _captioners() -> list[Row]:
    package = "fclip.captions.captioners"
    return [
        Row("template", "fclip.captions.template.captioner:TemplateCaptioner", "face tracks (fclip face-analyze)"),
        Row("human", f"{package}.human:HumanCaptioner", "captions that came with the data set"),
        Row("openai", f"{package}.openai:OpenAICaptioner", "a server that speaks the OpenAI protocol (--base-url)"),
        *(
            Row(model["name"], _HUB, f"{model['id']}: {model['note']}", weights=model["name"], named=True)
            for model in resource_json("captions/models.json")["models"]
        ),
    ]


def _hub_model(name: str) -> Row | None:
    """The row of a hub id (owner/name) or of a model's folder."""
    if Path(name).is_dir():
        return Row(name, _HUB, "", named=True)
    return Row(name, _HUB, "", weights=name, named=True) if "/" in name else None


def _datasets() -> list[Row]:
    return [
        Row("demo7", "fclip.data.layouts.rendered:read_rendered", "rendered faces, 7 classes (fclip synth)"),
        Row("demo11", "fclip.data.layouts.rendered:read_rendered", "rendered faces, 11 classes (fclip synth)"),
        Row("dfew", "fclip.data.layouts.releases.dfew:read_dfew", "DFEW as released"),
        Row("ferv39k", "fclip.data.layouts.releases.ferv39k:read_ferv39k", "FERV39k as released"),
        Row("mafw", "fclip.data.layouts.releases.mafw:read_mafw", "MAFW as released, with its captions"),
        Row("crema-d", "fclip.data.layouts.releases.acted:read_crema_d", "CREMA-D as released"),
        Row("ravdess", "fclip.data.layouts.releases.acted:read_ravdess", "RAVDESS as released"),
        Row("caer", "fclip.data.layouts.releases.by_class:read_caer", "CAER as released"),
        Row("afew", "fclip.data.layouts.releases.by_class:read_afew", "AFEW as released"),
        Row("folder", "fclip.data.layouts.own.folders:read_folder", "your clips: a folder of class folders"),
        Row("csv", "fclip.data.layouts.own.lists:read_csv", "your clips: a list with path, label ... (docs/data.md)"),
    ]


def _converters() -> list[Row]:
    weights, checkpoints = "fclip.models.convert.weights", "fclip.models.convert.checkpoints"
    options = "fclip.models.convert.options"
    return [
        Row("openai", f"{weights}:openai", "OpenAI's CLIP", f"{options}:ClipOptions"),
        Row("farl", f"{weights}:farl", "FaRL (CVPR 2022)", "fclip.config:NoOptions"),
        Row("longclip", f"{weights}:longclip", "Long-CLIP (ECCV 2024)", "fclip.config:NoOptions"),
        Row("dfer-clip", f"{checkpoints}:dfer_clip", "a trained DFER-CLIP", f"{options}:PositionOptions"),
        Row("aim", f"{weights}:aim", "adapters of AIM (ICLR 2023)", "fclip.config:NoOptions"),
        Row("emoclip", f"{checkpoints}:emoclip", "a trained EmoCLIP", f"{options}:TrainedOptions"),
        Row("facexformer", f"{weights}:facexformer", "FaceXFormer", "fclip.config:NoOptions"),
        Row("coop", f"{checkpoints}:coop", "a prompt learned with CoOp", f"{options}:PromptOptions"),
        Row("cocoop", f"{checkpoints}:coop", "a prompt learned with CoCoOp", f"{options}:PromptOptions"),
    ]


VARIANTS = Registry("variant", "fclip.variants", _variants)
FACE_BACKENDS = Registry("face back end", "fclip.face_backends", _face_backends)
CAPTIONERS = Registry("captioner", "fclip.captioners", _captioners, _hub_model)
DATASETS = Registry("data set", "fclip.datasets", _datasets)
CONVERTERS = Registry("kind of checkpoint", "fclip.converters", _converters)
