"""What a checkpoint file says about itself, checked before anything is made of it.

A checkpoint is a ZIP archive: ``data.pkl`` describes containers and tensors, and every other member under ``data/``
holds the numbers of one storage. torch.load with ``weights_only`` executes nothing, but believes what stands there:
a file of a kilobyte can ask it for a ``bytearray`` of a terabyte, a compressed member for as much, a tensor for more
numbers than its storage has. So the description is read here first, with nothing in it looked up or allocated.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

#: A description takes up to 64 times its size in memory. A tagger's has some ten thousand bytes, a tag about forty.
MAX_DESCRIPTION_BYTES = 16 * 2**20
_ITEM_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip
#: What torch.save writes for plain containers, text, numbers and tensors; others make bytes, classes and extensions.
_INSTRUCTIONS = (
    pickle.PROTO, pickle.STOP, pickle.GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.BINPERSID, pickle.MARK,
    pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
    pickle.APPEND, pickle.APPENDS, pickle.SETITEM, pickle.SETITEMS, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
    pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT, pickle.BINUNICODE,
    pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET,
)  # fmt: skip


def check_archive(archive: zipfile.ZipFile, file_bytes: int) -> None:
    """Raise ValueError, with the reason, unless the archive claims no more than the ``file_bytes`` that it has."""
    members = archive.infolist()
    names = {member.filename for member in members}
    if len(names) < len(members):
        raise ValueError("two of its members have the same name")
    if packed := [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]:
        raise ValueError(f"{packed[0]} is compressed, which no checkpoint is: it may unfold without end")
    if any(member.flag_bits & 1 for member in members):
        raise ValueError("its members are encrypted")
    if sum(member.file_size for member in members) > file_bytes:
        raise ValueError("its members claim more bytes than the file has")
    descriptions = [member for member in members if member.filename.endswith("/data.pkl")]
    if len(descriptions) != 1 or descriptions[0].filename.count("/") != 1:
        raise ValueError("it is a ZIP archive, but no checkpoint: it does not have one data.pkl")
    if descriptions[0].file_size > MAX_DESCRIPTION_BYTES:
        raise ValueError(
            f"its description is {descriptions[0].file_size:,} bytes long; at most {MAX_DESCRIPTION_BYTES:,}"
        )
    folder = descriptions[0].filename.removesuffix("data.pkl")
    storages = {
        member.filename.removeprefix(f"{folder}data/"): member.file_size
        for member in members
        if member.filename.startswith(f"{folder}data/")
    }
    try:
        _Description(archive.read(descriptions[0]), storages).load()
    except KeyError as error:
        raise ValueError(f"its description is damaged, or asks for more than a checkpoint needs ({error})") from error


class _Storage(NamedTuple):
    """A claim that was checked: ``length`` numbers."""

    length: int


class _Tensor(NamedTuple):
    """A tensor that was looked at and not made."""


class _Dictionary(dict):
    """torch's state dictionaries, which carry the versions of their layers as ``_metadata``."""


# the one in C makes room for as many objects as a file of eleven bytes asks for: 4 GB were seen
class _Description(pickle._Unpickler):
    """Reads data.pkl, and raises ValueError where it asks for anything but containers and tensors that are there."""

    def __init__(self, content: bytes, storages: dict[str, int]) -> None:
        super().__init__(io.BytesIO(content))
        self._storages = storages

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Dictionary) or not isinstance(state, dict) or set(state) - {"_metadata"}:
            raise ValueError("something with attributes of its own")

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set(key, value)

    def load_setitems(self) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(key, value)

    def _set(self, key: Any, value: Any) -> None:
        # of other keys one could have a million with the same hash, which take hours
        if type(key) is not str and not (type(key) is int and abs(key) < 2**60):
            raise ValueError(f"a dictionary with a {type(key).__name__} for a key")
        if not isinstance(self.stack[-1], dict):
            raise ValueError("items of something that is no dictionary")
        self.stack[-1][key] = value

    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _INSTRUCTIONS} | {
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
    }

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _ITEM_BYTES:
            return name
        try:
            return _ANSWERS[module, name]
        except KeyError:
            raise ValueError(f"it names {module}.{name}, which no checkpoint of musictag needs") from None

    def persistent_load(self, claim: Any) -> _Storage:
        if not isinstance(claim, tuple) or len(claim) != 5 or claim[0] != "storage" or claim[1] not in _ITEM_BYTES:
            raise ValueError("a storage that is described in another way than torch describes it")
        _, kind, key, _, length = claim
        if not isinstance(key, str) or type(length) is not int or self._storages.get(key) != length * _ITEM_BYTES[kind]:
            raise ValueError(f"storage {key!s:.20} does not have the {length!s:.20} numbers that are claimed")
        return _Storage(length)


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, metadata: Any = None
) -> _Tensor:
    if not isinstance(storage, _Storage) or not _are_sizes((offset,)) or not _are_sizes(size) or not _are_sizes(stride):
        raise ValueError("a tensor that is described in another way than torch describes it")
    if len(size) != len(stride) or hooks or metadata:
        raise ValueError("a tensor with hooks, or of no shape")
    count = 1
    for length in size:
        count *= length
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if count and (count > storage.length or last >= storage.length):
        raise ValueError(f"a tensor of {count:,} numbers in a storage of {storage.length:,}")
    return _Tensor()


def _parameter(data: Any, requires_grad: Any, hooks: Any) -> _Tensor:
    if not isinstance(data, _Tensor) or hooks:
        raise ValueError("a parameter that is no tensor")
    return data


def _are_sizes(values: Any) -> bool:
    return isinstance(values, tuple) and len(values) <= 64 and all(type(v) is int and 0 <= v < 2**62 for v in values)


def _dictionary() -> _Dictionary:
    return _Dictionary()


#: What stands for the few names that a checkpoint needs; none of them is looked up.
_ANSWERS: dict[tuple[str, str], Callable] = {
    ("collections", "OrderedDict"): _dictionary,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


def check_tensors(tensors: dict[str, Any]) -> None:
    """Raise ValueError unless these are ordinary tensors on the CPU, each with numbers of its own."""
    held: dict[int, int] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            continue
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_complex():
            raise ValueError(f"{name} is no ordinary tensor of numbers")
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values() if hasattr(tensor, "numel"))
    if claimed > sum(held.values()):
        raise ValueError("its tensors share their numbers: they claim more than the file has")
