"""Read the pickle inside a checkpoint as data: nothing it names is imported and nothing in it is called.

A pickle is a small program; `GLOBAL` fetches a Python object and `REDUCE` calls it. Here `GLOBAL` yields a `Name`, a
plain record, so that no callable is ever on the stack. `REDUCE` and `NEWOBJ` look the name up in a short table:
tensors become `StoredTensor`, containers become dict, list, tuple or set, and objects of the few foreign classes that
checkpoints are known to carry become an inert `StandIn`. Any other name ends the reading.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from fclip.errors import FclipError

STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
FOREIGN_MODULES = ("__main__", "argparse", "easydict", "mmcv", "mmengine", "omegaconf", "yacs")
FOREIGN_NAMES = frozenset(
    [
        "torch.device",
        "torch.Size",
        "numpy.dtype",
        "numpy.ndarray",
        "collections.Counter",
        "collections.defaultdict",
        "datetime.datetime",
        "datetime.timedelta",
        "pathlib.Path",
        "pathlib.PosixPath",
        "pathlib.PurePosixPath",
        "builtins.dict",
        "builtins.list",
        "builtins.int",
        "builtins.float",
        "builtins.complex",
        "typing.Any",
    ]
    + [f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")]
    + [f"torch.{dtype}" for dtype in ("float16", "float32", "float64", "bfloat16", "int64", "int32", "uint8", "bool")]
)


@dataclass(frozen=True)
class Name:
    """A dotted name that the pickle asked for; never resolved."""

    path: str


@dataclass(eq=False)
class StandIn:
    """An object of a class that is not needed (`class_name`), with the state that the pickle gave it."""

    class_name: str
    state: Any = None


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file: `key` names its record, `count` is its length in elements."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in the file; `read()` fetches it (contiguous, owning its memory)."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor] = field(repr=False, compare=False)


class Refused(Exception):
    """The pickle asks for something that a checkpoint has no use for; the message names it."""


def _plain_ints(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(type(value) is int and 0 <= value < 2**48 for value in values):
        raise Refused(f"tensor sizes {values!r:.60}")
    return values


class Unpickler(pickle._Unpickler):
    """The stack machine of `pickle` (Python's own, written in Python) with all calls taken out.

    `fetch(storage)` returns the flat tensor of one storage; it is called only when a tensor is read.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        code[0]: pickle._Unpickler.dispatch[code[0]]
        for code in (
            pickle.PROTO,
            pickle.FRAME,
            pickle.STOP,
            pickle.MARK,
            pickle.POP,
            pickle.POP_MARK,
            pickle.NONE,
            pickle.NEWTRUE,
            pickle.NEWFALSE,
            pickle.INT,
            pickle.BININT,
            pickle.BININT1,
            pickle.BININT2,
            pickle.LONG,
            pickle.LONG1,
            pickle.LONG4,
            pickle.FLOAT,
            pickle.BINFLOAT,
            pickle.STRING,
            pickle.BINSTRING,
            pickle.SHORT_BINSTRING,
            pickle.UNICODE,
            pickle.BINUNICODE,
            pickle.SHORT_BINUNICODE,
            pickle.BINBYTES,
            pickle.SHORT_BINBYTES,
            pickle.EMPTY_TUPLE,
            pickle.TUPLE,
            pickle.TUPLE1,
            pickle.TUPLE2,
            pickle.TUPLE3,
            pickle.EMPTY_LIST,
            pickle.LIST,
            pickle.APPEND,
            pickle.APPENDS,
            pickle.EMPTY_DICT,
            pickle.GET,
            pickle.BINGET,
            pickle.LONG_BINGET,
            pickle.PUT,
            pickle.BINPUT,
            pickle.LONG_BINPUT,
            pickle.MEMOIZE,
            pickle.GLOBAL,
            pickle.STACK_GLOBAL,
            pickle.BINPERSID,
        )
    }

    def __init__(self, file: Any, fetch: Callable[[Storage], torch.Tensor]) -> None:
        super().__init__(file, fix_imports=False, encoding="utf-8")
        self._fetch = fetch
        self.stand_ins: set[str] = set()
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Name:
        """Return the name itself, or refuse one that no checkpoint needs."""
        path = f"{'builtins' if module == '__builtin__' else module}.{name}"  # Python 2's name, in protocol 2 too
        known = path in _BUILDERS or path in FOREIGN_NAMES or module.split(".")[0] in (*FOREIGN_MODULES, "__torch__")
        if not known and not (module == "torch" and name in STORAGE_DTYPES):
            raise Refused(f"its pickle asks for {path!r:.80}")
        return Name(path)

    def persistent_load(self, pid: Any) -> Storage:
        """Turn the reference ("storage", type, key, location, count, ...) of torch.save into a `Storage`."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], Name):
            raise Refused(f"reference {pid!r:.60}")
        kind, key, count = pid[1].path.rpartition(".")[2], pid[2], pid[4]
        if kind not in STORAGE_DTYPES or not isinstance(key, str | int):
            raise Refused(f"storage {kind!r:.60}")
        storage = Storage(str(key), STORAGE_DTYPES[kind], _plain_ints((count,))[0])
        return self.storages.setdefault(storage.key, storage)

    def build(self, name: Any, args: Any) -> Any:
        """Make what calling `name(*args)` would make, for the names of the table; a StandIn for foreign ones."""
        if not isinstance(name, Name) or not isinstance(args, tuple):
            raise Refused(f"a call of {name!r:.60}")
        builder = _BUILDERS.get(name.path)
        if builder is not None:
            return builder(self, *args)
        self.stand_ins.add(name.path)
        return StandIn(name.path)

    def tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
        """Check a tensor's geometry against its storage; the numbers stay in the file."""
        if not isinstance(storage, Storage):
            raise Refused("a tensor without a storage")
        shape, stride, (offset,) = _plain_ints(shape), _plain_ints(stride), _plain_ints((offset,))
        last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if math.prod(shape) > storage.count or (0 not in shape and last >= storage.count):
            raise Refused(f"a tensor of shape {shape} in a storage of {storage.count} elements")

        def read() -> torch.Tensor:
            return self._fetch(storage).as_strided(shape, stride, offset).clone(memory_format=torch.contiguous_format)

        return StoredTensor(shape, storage.dtype, read)

    def load_reduce(self) -> None:
        """REDUCE: [name, args] -> [object]."""
        args = self.stack.pop()
        self.stack[-1] = self.build(self.stack[-1], args)

    def load_build(self) -> None:
        """BUILD: [object, state] -> [object]; only a StandIn keeps its state."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], StandIn):
            self.stack[-1].state = state
        elif not isinstance(self.stack[-1], dict):  # an OrderedDict carries `_metadata`, which is not needed
            raise Refused(f"state for {self.stack[-1]!r:.60}")

    def load_setitem(self) -> None:
        """SETITEM: [dict, key, value] -> [dict]."""
        value, key = self.stack.pop(), self.stack.pop()
        fill_dict(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        """SETITEMS: [dict, mark, key, value, ...] -> [dict]."""
        items = self.pop_mark()
        fill_dict(self.stack[-1], items)

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build


def fill_dict(target: Any, items: list[Any]) -> dict[Any, Any]:
    """Put key, value, key, value, ... into a dict. Keys are plain: hashing a deep tuple would end the process."""
    if not isinstance(target, dict) or not all(isinstance(key, str | int | float | None) for key in items[::2]):
        raise Refused("a dict with keys other than names and numbers")
    target.update(zip(items[::2], items[1::2], strict=True))
    return target


def _ordered_dict(_machine: Unpickler, pairs: Any = ()) -> dict[Any, Any]:
    return fill_dict({}, [part for pair in pairs for part in pair])


def _from_type(machine: Unpickler, function: Any, _type: Any, args: Any, _state: Any) -> Any:
    return machine.build(function, args)


_BUILDERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "builtins.set": lambda machine, items=(): list(items),
    "_codecs.encode": lambda machine, text, encoding="latin1": str(text).encode("latin1"),
    "torch._utils._rebuild_tensor": Unpickler.tensor,
    "torch._utils._rebuild_tensor_v2": Unpickler.tensor,
    "torch._utils._rebuild_parameter": lambda machine, data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda machine, data, *_: data,
    "torch.nn.parameter.Parameter": lambda machine, data, *_: data,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.jit._pickle.build_intlist": lambda machine, items: items,
    "torch.jit._pickle.build_doublelist": lambda machine, items: items,
    "torch.jit._pickle.build_boollist": lambda machine, items: items,
    "torch.jit._pickle.build_tensorlist": lambda machine, items: items,
    "torch.jit._pickle.restore_type_tag": lambda machine, value, tag: value,
}


def unpickle(file: Any, fetch: Callable[[Storage], torch.Tensor], where: str) -> tuple[Any, Unpickler]:
    """Read one pickle from `file` (with `read` and `readline`); returns the tree and the machine that built it.

    Raises FclipError in one line, naming `where`, if the stream is broken or asks for anything but data.
    """
    machine = Unpickler(file, fetch)
    try:
        return machine.load(), machine
    except Refused as error:
        raise FclipError(f"{where}: refused, and nothing in it was run: {error}") from None
    except Exception as error:  # a broken stream fails in as many ways as there are opcodes
        raise FclipError(f"{where}: broken pickle ({type(error).__name__}); download the file again") from None
