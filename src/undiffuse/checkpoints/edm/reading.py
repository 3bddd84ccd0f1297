"""EDM's pickles (network-snapshot-*.pkl) read without running them.

Such a file holds a whole network with the source of its classes, which unpickling would execute. Here nothing is
imported, called or made that is not in the tables below: an object becomes a `Record` of its class's name and its
attributes, its source is dropped, and tensors are rebuilt from their bytes. Format: torch_utils/persistence.py of
github.com/NVlabs/edm.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

OPERATIONS = 2_000_000  # of a pickle; a network of a thousand tensors takes two hundred thousand
RECORDS = 20_000  # visited
DEEPEST = 20  # modules in modules
SHORT = 32  # levels of a network, letters of a name, and whatever else its arguments list
FLAT = (
    str,
    int,
    float,
    bool,
    bytes,
    type(None),
)  # what keys may be: to hash deep tuples would exhaust the stack
OPCODES = (
    pickle.PROTO + pickle.FRAME + pickle.STOP + pickle.MARK + pickle.POP + pickle.NONE + pickle.NEWTRUE
    + pickle.NEWFALSE + pickle.BININT + pickle.BININT1 + pickle.BININT2 + pickle.LONG1 + pickle.BINFLOAT
    + pickle.BINUNICODE + pickle.SHORT_BINUNICODE + pickle.BINUNICODE8 + pickle.BINBYTES + pickle.SHORT_BINBYTES
    + pickle.BINBYTES8 + pickle.EMPTY_DICT + pickle.EMPTY_LIST + pickle.EMPTY_TUPLE + pickle.EMPTY_SET
    + pickle.TUPLE + pickle.TUPLE1 + pickle.TUPLE2 + pickle.TUPLE3 + pickle.APPEND + pickle.APPENDS
    + pickle.SETITEM + pickle.SETITEMS + pickle.ADDITEMS + pickle.BINPUT + pickle.LONG_BINPUT + pickle.MEMOIZE
    + pickle.BINGET + pickle.LONG_BINGET + pickle.GLOBAL + pickle.STACK_GLOBAL + pickle.REDUCE + pickle.NEWOBJ
    + pickle.BUILD
)  # fmt: skip


@dataclass(slots=True)
class Record:
    """An object that was not made: the name of its class, and its attributes."""

    kind: str
    state: dict[str, Any] = field(default_factory=dict)

    def table(self, name: str) -> Mapping[str, Any]:
        """One of a module's tables (_parameters, _buffers, _modules), without what is None."""
        held = self.state.get(name)
        held = held if isinstance(held, Mapping) else {}
        return {key: value for key, value in held.items() if isinstance(key, str) and value is not None}

    def get(self, name: str) -> Any:
        """A plain attribute; None if it is anything else: to compare or to print that could take forever."""
        value = self.state.get(name)
        return value if _is_flat(value) else None

    @property
    def arguments(self) -> dict[str, Any]:
        """What the class was made with by name, as far as it is plain values and short lists of such."""
        held = self.state.get("_init_kwargs")
        return (
            {key: value for key, value in held.items() if _is_plain(value)} if isinstance(held, dict) else {}
        )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= SHORT and all(map(_is_flat, value))
    return _is_flat(value)


def _is_flat(value: Any) -> bool:
    return isinstance(value, FLAT) and not (isinstance(value, str | bytes) and len(value) > SHORT)


@dataclass(frozen=True, slots=True)
class Kind:
    """A class that is not made; calling it gives a `Record`."""

    name: str

    def __call__(self, *args: Any) -> Record:
        return Record(self.name)


@dataclass(frozen=True, slots=True)
class Made:
    """A function of ours, in place of one that the file names."""

    call: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)


def read_snapshot(path: Path) -> Record:
    """The averaged network ('ema') of a network-snapshot-*.pkl. ValueError, in one line, for any other file."""
    try:
        with path.open("rb") as file:
            found = _Reader(_Bounded(file, path.stat().st_size)).load()
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror})") from None
    except Refused as error:
        raise ValueError(f"'{path}': {error}; nothing of it was run") from None
    except Exception as error:  # whatever a broken pickle makes an unpickler raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        raise ValueError(f"'{path}' is no pickle of EDM's ({reason}); nothing of it was run") from None
    held = found.get("ema") if isinstance(found, dict) else None
    if not isinstance(held, Record):
        keys = ", ".join(str(key)[:30] for key in list(found)[:8]) if isinstance(found, dict) else "no table"
        raise ValueError(f"'{path}' holds no network 'ema' of EDM's ({keys})")
    return held


def modules(record: Record) -> dict[str, Record]:
    """All modules of a network by their names, '' the network itself. ValueError for more than networks have."""
    found, ahead = dict[str, Record](), [("", record, 0)]
    while ahead:
        name, module, depth = ahead.pop()
        found[name] = module
        if len(found) > RECORDS or depth > DEEPEST:
            raise ValueError("modules within modules without end; no network is like that")
        for key, part in module.table("_modules").items():
            if isinstance(part, Record):
                ahead.append((f"{name}.{key}" if name else key, part, depth + 1))
    return found


def tensors(found: Mapping[str, Record]) -> dict[str, Tensor]:
    """Parameters and buffers of all modules, by their names in a state dict."""
    return {
        f"{name}.{key}" if name else key: value
        for name, module in found.items()
        for table in ("_parameters", "_buffers")
        for key, value in module.table(table).items()
        if isinstance(value, Tensor)
    }


class Refused(ValueError):
    """A pickle that asks for more than data."""


class _Bounded:
    """A file that promises no more bytes than it has: a claimed length is not believed before."""

    def __init__(self, file: io.BufferedReader, size: int):
        self.file, self.left = file, size

    def read(self, n: int = -1) -> bytes:
        if n < 0 or n > self.left:
            raise Refused(f"something of {n} bytes, where {self.left} are left")
        self.left -= n
        return self.file.read(n)

    def readline(self) -> bytes:
        line = self.file.readline(10_000)
        self.left -= len(line)
        return line


class _Counted(dict[int, Callable[[Any], None]]):
    """The allowed operations; asking for one counts."""

    def __init__(self, allowed: Mapping[int, Callable[[Any], None]]):
        super().__init__(allowed)
        self.count = 0

    def __missing__(self, key: int) -> Callable[[Any], None]:
        raise Refused(f"the operation {bytes([key])!r}, which no pickle of a network needs")

    def __getitem__(self, key: int) -> Callable[[Any], None]:
        self.count += 1
        if self.count > OPERATIONS:
            raise Refused(f"more than {OPERATIONS} operations")
        return super().__getitem__(key)


class _Reader(pickle._Unpickler):  # pyright: ignore[reportPrivateUsage]
    """The unpickler written in Python, with the operations of data alone."""

    stack: list[Any]
    dispatch: Mapping[int, Callable[[Any], None]]  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, file: _Bounded):
        super().__init__(file)
        self.dispatch = _Counted({code: HANDLERS.get(code, PLAIN[code]) for code in OPCODES})

    def find_class(self, module: str, name: str, /) -> Any:
        """What stands for a name of the file: a function of ours, or a class that is not made."""
        if (made := KNOWN.get((module, name))) is not None:
            return made
        if module.startswith("torch.nn.modules.") and name.isidentifier():
            return Kind(name)
        if (module, name) in INERT or (module == "torch" and name in DTYPES):
            return Kind(f"{module}.{name}")
        raise Refused(f"it names {module[:60]}.{name[:60]}, which no network needs")

    def persistent_load(self, pid: Any, /) -> Any:
        """Never: such a pickle refers to other data."""
        raise Refused("it refers to data elsewhere")

    def call(self) -> None:
        """REDUCE and NEWOBJ: only what `find_class` gave is called."""
        arguments, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, Kind | Made) or not isinstance(arguments, tuple):
            raise Refused("it calls something that is no class")
        self.stack[-1] = made(*arguments)

    def build(self) -> None:
        """BUILD: attributes of a record; of a dictionary they are dropped."""
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, Record) and isinstance(state, dict):
            made.state = state
        elif not isinstance(made, dict) and not (isinstance(made, Record) and "." in made.kind):
            raise Refused("it sets attributes of something that is no record")

    def set_items(self, items: list[Any]) -> None:
        """SETITEM and SETITEMS."""
        if not isinstance(self.stack[-1], dict) or not all(isinstance(key, FLAT) for key in items[::2]):
            raise Refused("it sets items of something that is no dictionary")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def extend(self, items: list[Any]) -> None:
        """APPEND and APPENDS."""
        if not isinstance(self.stack[-1], list):
            raise Refused("it appends to something that is no list")
        self.stack[-1].extend(items)

    def add(self, items: list[Any]) -> None:
        """ADDITEMS."""
        if not isinstance(self.stack[-1], set) or not all(isinstance(item, FLAT) for item in items):
            raise Refused("it adds to something that is no set")
        self.stack[-1].update(items)

    def last(self, count: int) -> list[Any]:
        """Off the stack."""
        items = self.stack[-count:]
        del self.stack[-count:]
        return items


PLAIN = pickle._Unpickler.dispatch  # pyright: ignore
HANDLERS: dict[int, Callable[[Any], None]] = {
    pickle.REDUCE[0]: _Reader.call,
    pickle.NEWOBJ[0]: _Reader.call,
    pickle.BUILD[0]: _Reader.build,
    pickle.SETITEM[0]: lambda reader: reader.set_items(reader.last(2)),
    pickle.SETITEMS[0]: lambda reader: reader.set_items(reader.pop_mark()),
    pickle.APPEND[0]: lambda reader: reader.extend(reader.last(1)),
    pickle.APPENDS[0]: lambda reader: reader.extend(reader.pop_mark()),
    pickle.ADDITEMS[0]: lambda reader: reader.add(reader.pop_mark()),
}


def _record(meta: Any) -> Record:
    """A persistent object of EDM's; its source, module_src, is not looked at."""
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
        raise Refused("an object without the name of its class")
    state = meta.get("state")
    return Record(meta["class_name"][:100], state if isinstance(state, dict) else {})


def _storage(data: Any) -> Any:
    """A tensor's memory, in torch's older format, in which storages pickle themselves."""
    if not isinstance(data, bytes):
        raise Refused("a tensor's memory that is no bytes")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor in memory of its own: torch refuses what lies outside of it."""
    if not isinstance(storage, torch.TypedStorage | torch.UntypedStorage):
        raise Refused("a tensor without memory")
    flat = torch.tensor([], dtype=getattr(storage, "dtype", torch.uint8)).set_(storage)  # pyright: ignore
    return flat.as_strided(size, stride, offset)


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise Refused("a parameter that is no tensor")
    return data


def _dictionary(*items: Any) -> dict[str, Any]:
    if items:
        raise Refused("a dictionary made of something")
    return {}


KNOWN: dict[tuple[str, str], Made] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): Made(_record),
    ("dnnlib.util", "EasyDict"): Made(_dictionary),
    ("collections", "OrderedDict"): Made(lambda *items: OrderedDict(_dictionary(*items))),
    ("torch.storage", "_load_from_bytes"): Made(_storage),
    ("torch._utils", "_rebuild_tensor_v2"): Made(_tensor),
    ("torch._utils", "_rebuild_parameter"): Made(_parameter),
}
INERT = {  # numbers of numpy among the arguments that classes were made with
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
}
DTYPES = {"float16", "float32", "float64", "bfloat16"}
