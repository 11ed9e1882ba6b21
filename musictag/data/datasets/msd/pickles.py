"""Pickles that data sets publish their lists in, read without running anything that they name.

A pickle is a program: loading one from somebody else may run any command. What the published lists hold needs very
little of it, and this reader knows nothing else.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from musictag.common.errors import MusictagError
from musictag.common.text import reason

#: Where NumPy's own functions have lived over the years.
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
#: Letters of the NumPy types that are plain numbers and text: no objects, no records, no times.
_PLAIN_KINDS = "biufSU"


def load_pickle(path: str | Path) -> Any:
    """What a pickle of Python 2 or 3 holds: lists, tuples, dictionaries, text, numbers and NumPy arrays of numbers
    or text.

    Byte strings of Python 2 come back as text, arrays as objects that ``np.asarray`` takes. No name in the file is ever
    looked up: the few that NumPy's arrays need are answered by functions of this module, which take plain bytes.

    Raises MusictagError for a file that is missing, damaged, or names anything else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file).load()
    except FileNotFoundError:
        raise MusictagError(f"there is no file {path}") from None
    except _Unwanted as error:
        raise MusictagError(
            f"{path} was not opened: it {error}, and a list of songs or tags needs plain containers, text, numbers "
            "and their NumPy arrays. A file like this may run commands: do not use it, download it again."
        ) from None
    except Exception as error:  # damage shows as almost any exception
        raise MusictagError(
            f"{path} cannot be read as a pickle of lists and numbers: it is damaged or cut short, or no pickle "
            f"({reason(error)}). Download it again."
        ) from error


class _Unwanted(Exception):
    """What a file has that a list does not need."""


# the one in C makes room for as many objects as a file of eleven bytes says it numbers: 4 GB were seen. This one takes
# two to three times as long, half a minute for the quarter of a million songs of the largest published list
class _PlainUnpickler(pickle._Unpickler):
    """Asked for a name, gives its own answer or refuses; never imports."""

    # it would make, and fill, as long an array of bytes as a file asks for
    dispatch: ClassVar = {code: f for code, f in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")  # the encoding that keeps the bytes of Python 2's arrays
        self._file_readline = partial(_whole_line, file)
        self._answers = _answers(_Budget(2**20 + 4 * os.fstat(file.fileno()).st_size))

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._answers[module, name]
        except KeyError:
            raise _Unwanted(f"names {module:.100}.{name:.100}") from None


def _whole_line(file: Any) -> bytes:
    line = file.readline()
    if not line.endswith(b"\n"):
        raise EOFError("the file ends within a line")
    return line


class _Budget:
    """An honest file names every text that it converts once; one that names the same again and again fills memory."""

    def __init__(self, characters: int) -> None:
        self._left = characters

    def spend(self, text: str | bytes) -> None:
        self._left -= len(text)
        if self._left < 0:
            raise ValueError("it unfolds to more than it holds")


def _answers(budget: _Budget) -> dict[tuple[str, str], Callable]:
    """What the names that NumPy's arrays need stand for: new for every file, so none can change the next one's."""

    def never(*arguments: Any) -> None:
        raise ValueError("an array that is not built as NumPy builds it")

    def array(kind: Any, shape: Any, code: Any) -> _Array:
        return _Array(budget)  # its content follows as its state

    def scalar(type_: _Type, raw: str | bytes) -> Any:
        return np.frombuffer(_as_bytes(raw), type_.dtype)[0].item()

    def type_of(code: str, align: int = 0, copy: int = 1) -> _Type:
        return _Type(code)

    def encode(text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise ValueError(f"bytes in the encoding {encoding!r:.40}")
        budget.spend(text)
        return text.encode("latin1")

    # Python 3 writes bytes for Python 2 with _codecs.encode
    answers = {("numpy", "ndarray"): never, ("numpy", "dtype"): type_of, ("_codecs", "encode"): encode}
    for module in _NUMPY_MODULES:
        answers |= {(module, "_reconstruct"): array, (module, "scalar"): scalar}
    return answers


class _Type:
    """A NumPy type as it stands in a pickle: first its code ("f8"), then as state its byte order."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __setstate__(self, state: tuple) -> None:
        order, subarray, names, fields = state[1:5]
        if (subarray, names, fields) != (None, None, None):
            raise _Unwanted("holds an array of records")
        if self._code[:1] not in _PLAIN_KINDS or not self._code[1:].isdecimal() or order not in ("|", "<", ">"):
            raise _Unwanted(f"holds an array of {self._code!r:.40}, which is neither numbers nor text")
        self.dtype = np.dtype(self._code).newbyteorder(order)


class _Array:
    """A NumPy array, made of its bytes by ``np.frombuffer``: NumPy's own way in trusts what the file says."""

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget

    def __setstate__(self, state: tuple) -> None:
        _version, shape, type_, in_columns, raw = state
        self._budget.spend(raw)
        flat = np.frombuffer(_as_bytes(raw), type_.dtype)
        self._values = flat.reshape(shape, order="F" if in_columns else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._values, dtype=dtype)


def _as_bytes(raw: str | bytes) -> bytes:
    return raw.encode("latin1") if isinstance(raw, str) else raw
