"""Reads pickles of published lists without running anything that they name.

A pickle is a program: loading an untrusted one may run any command. The published lists need very little of it, and
this reader supports nothing else.
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

#: Module names that NumPy's own functions have had over the years.
_NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
#: Codes of the NumPy types that are plain numbers and text: no objects, records or times.
_PLAIN_KINDS = "biufSU"


def load_pickle(path: str | Path) -> Any:
    """Load a pickle of Python 2 or 3 that holds lists, tuples, dictionaries, text, numbers and NumPy arrays of numbers
    or text.

    Byte strings of Python 2 become text, arrays become objects that ``np.asarray`` accepts. No name in the file is ever
    looked up: the few that NumPy's arrays need are mapped to functions of this module, which accept plain bytes.

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
            "and their NumPy arrays. Such a file may run commands: do not use it, download it again."
        ) from None
    except Exception as error:  # damage can raise almost any exception
        raise MusictagError(
            f"{path} cannot be read as a pickle of lists and numbers: it is damaged or cut short, or not a pickle "
            f"({reason(error)}). Download it again."
        ) from error


class _Unwanted(Exception):
    """Content that a list does not need."""


# the C implementation allocates as many objects as a file of eleven bytes claims: 4 GB were seen. This one is two to
# three times slower, half a minute for the quarter of a million songs of the largest published list
class _PlainUnpickler(pickle._Unpickler):
    """Maps a name to our own function or refuses it; never imports."""

    # it would allocate, and fill, an array of bytes as long as a file asks for
    dispatch: ClassVar = {code: f for code, f in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")  # preserves the bytes of Python 2's arrays
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
    """Valid files convert every text once; one that converts the same text again and again would fill the memory."""

    def __init__(self, characters: int) -> None:
        self._left = characters

    def spend(self, text: str | bytes) -> None:
        self._left -= len(text)
        if self._left < 0:
            raise ValueError("it expands to more than it holds")


def _answers(budget: _Budget) -> dict[tuple[str, str], Callable]:
    """The functions for the names that NumPy's arrays need: new for every file, so none can affect the next."""

    def never(*arguments: Any) -> None:
        raise ValueError("an array that is not built as NumPy builds it")

    def array(kind: Any, shape: Any, code: Any) -> _Array:
        return _Array(budget)  # its content follows as state

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
    """A NumPy type as pickled: first its code ("f8"), then its byte order as state."""

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
    """A NumPy array built from its bytes by ``np.frombuffer``: NumPy's own unpickling trusts what the file claims."""

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
