"""Untrusted pickles: lists, numbers and arrays are read; anything that could run code is refused, and never runs."""

from __future__ import annotations

import functools
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from musictag.common.errors import MusictagError
from musictag.data.datasets.msd.pickles import load_pickle
from tests.helpers.public_files import public_file


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def python2_array(values: np.ndarray) -> bytes:
    """An array as Python 2 wrote it with protocol 0: bytes in quotes with escapes, integers for booleans."""
    raw = repr(values.tobytes())[1:].encode()
    rows = "".join(f"I{size}\n" for size in values.shape)
    return (
        b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nS'b'\np4\ntp5\nRp6\n(I1\n("
        + rows.encode()
        + f"tp7\ncnumpy\ndtype\np8\n(S'{values.dtype.str[1:]}'\np9\nI0\nI1\ntp10\nRp11\n(I3\nS'<'\np12\n".encode()
        + b"NNNI-1\nI-1\nI0\ntp13\nbI00\nS"
        + raw
        + b"\np14\ntp15\nb"
    )


@pytest.mark.parametrize("protocol", range(5))
def test_lists_numbers_and_arrays_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    content = {
        "ids": ["TRAAA", b"TRAAB"],
        b"numbers": (1, -2.5, True, None, 10**30),
        "column": np.arange(50, dtype=np.float64)[:, None],
        "order": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
        "flags": np.array([True, False]),
        "names": np.array(["a", "ä"]),
        "scalar": np.float32(0.5),
    }
    read = load_pickle(write(tmp_path / "list.pkl", pickle.dumps(content, protocol)))
    assert list(read) == list(content)
    assert (read["ids"], read[b"numbers"], read["scalar"]) == (content["ids"], content[b"numbers"], 0.5)
    for name in ("column", "order", "flags", "names"):
        np.testing.assert_array_equal(np.asarray(read[name]), content[name])
        assert np.asarray(read[name]).dtype == content[name].dtype


def test_arrays_and_text_of_python_2(tmp_path: Path) -> None:
    values = np.array([[0.0], [1.0], [-3.25]])
    path = write(tmp_path / "vectors.cP", b"(dp0\nS'TRAAA'\n" + python2_array(values) + b"sS'caf\\xe9'\nI7\ns.")
    read = load_pickle(path)
    np.testing.assert_array_equal(np.asarray(read["TRAAA"]), values)
    assert read["café"] == 7


def test_a_published_list() -> None:
    songs = load_pickle(public_file("msd/filtered_list_test.cP"))
    assert (len(songs), len(set(songs)), songs[0]) == (28435, 28435, "TRAADIN128F931D672")


class Runs:
    """An object whose pickle calls ``function``."""

    def __init__(self, function, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, ("touch ran",), "system"),
        (eval, ("open('ran', 'w')",), "eval"),
        (exec, ("open('ran', 'w')",), "exec"),
        (getattr, (os, "system"), "getattr"),
        (open, ("ran", "w"), "io.open"),
        (functools.partial, (print, "x"), "functools.partial"),
        (functools.reduce, (print, ["x"], 0), "reduce"),
        (np.frombuffer, (b"12345678",), "frombuffer"),
        (np.load, ("ran.npy",), "load"),
        (np.fromfile, ("ran",), "fromfile"),
        (Path, ("ran",), "Path"),
        (bytearray, (b"ran",), "bytearray"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_names_of_anything_else_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function, arguments: tuple, named: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    if function is getattr:
        arguments = ("text", "upper")
    for hidden in (["TRAAA", Runs(function, *arguments)], {"TRAAA": [1, (Runs(function, *arguments),)]}):
        path = write(tmp_path / "evil.cP", pickle.dumps(hidden, protocol))
        with pytest.raises(MusictagError, match=rf"evil\.cP was not opened: it names \S*{named}\b") as caught:
            load_pickle(path)
        assert "do not use it" in str(caught.value)
        assert os.listdir() == ["evil.cP"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"cos\nsystem\n(S'touch ran'\ntR.", "os.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
        (b"(S'touch ran'\nios\nsystem\n.", "os.system"),
        (b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.", "copy_reg._reconstructor"),
        (b"ccopyreg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.", "copyreg._reconstructor"),
        (b"cnumpy\nndarray.__class__\n.", "numpy.ndarray.__class__"),
        (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", "numpy.ndarray.__class__"),
        (b"cnumpy.core.multiarray\nfrombuffer\n(S'12345678'\ntR.", "numpy.core.multiarray.frombuffer"),
        (b"cnumpy._core.multiarray\n_vec_string\n.", "numpy._core.multiarray._vec_string"),
        (
            b"cmusictag.data.datasets.msd.pickles\nload_pickle\n(S'x'\ntR.",
            "musictag.data.datasets.msd.pickles.load_pickle",
        ),
    ],
)
def test_pickles_written_by_hand_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MusictagError, match=rf"it names {named},"):
        load_pickle(write(tmp_path / "evil.cP", content))
    assert os.listdir() == ["evil.cP"]


@pytest.mark.parametrize(
    "array",
    [
        np.array(["TRAAA", 1], dtype=object),
        np.zeros(2, dtype=[("song", "O"), ("tags", "f8")]),
        np.zeros(2, dtype=[("a", "i4"), ("b", "i4")]),
        np.zeros(2, dtype="M8[s]"),
        np.zeros(2, dtype="V8"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_of_anything_but_numbers_and_text_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(MusictagError, match=r"odd\.cP was not opened: it holds an array of"):
        load_pickle(write(tmp_path / "odd.cP", pickle.dumps(array, 2)))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_what_an_array_of_objects_hides_never_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    hiding = np.array([[Runs(os.system, "touch ran")]], dtype=object)
    # the type comes before the content: if it declares numbers, the reader gets to the content and its names
    for content in (pickle.dumps(hiding, protocol), pickle.dumps(hiding, protocol).replace(b"O8", b"f8")):
        with pytest.raises(MusictagError, match=r"it holds an array of 'O8'|it names posix\.system"):
            load_pickle(write(tmp_path / "evil.cP", content))
        assert os.listdir() == ["evil.cP"]


def test_a_type_cannot_claim_that_bytes_are_objects(tmp_path: Path) -> None:
    honest = pickle.dumps(np.zeros(2), 0)
    assert honest.count(b"Vf8\n") == 1
    with pytest.raises(MusictagError, match="neither numbers nor text"):
        load_pickle(write(tmp_path / "evil.cP", honest.replace(b"Vf8\n", b"VO8\n")))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle at all",
        b"Psong\n.",
        b"\x80\x02\x82\x01.",
        b"cnumpy\nndarray\n(I1000000000\ntR.",
        b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(dS'dtype'\nI1\nsb.",
        b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
        python2_array(np.zeros(3)).replace(b"I3\n", b"I4\n", 1) + b".",
    ],
    ids=["empty", "text", "persistent", "extension", "huge array", "state of a type", "codec", "too few bytes"],
)
def test_damage_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(MusictagError, match=r"bad\.cP cannot be read .* Download it again"):
        load_pickle(write(tmp_path / "bad.cP", content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MusictagError, match=r"there is no file .*lists\.cP"):
        load_pickle(tmp_path / "lists.cP")


def test_no_file_can_change_how_the_next_one_is_read(tmp_path: Path) -> None:
    attribute = b"cnumpy.core.multiarray\n_reconstruct\n(dS'changed'\nI1\nsb"
    defaults = b"cnumpy\ndtype\n(N(dS'__defaults__'\n)stb"
    changed = load_pickle(write(tmp_path / "evil.cP", b"(l" + attribute + b"a" + defaults + b"a."))
    assert (changed[0].changed, changed[1].__defaults__) == (1, ())
    values = np.arange(3.0)
    read = load_pickle(write(tmp_path / "good.cP", pickle.dumps(values, 2)))
    np.testing.assert_array_equal(np.asarray(read), values)


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_file_cut_short_anywhere_is_damaged(tmp_path: Path, protocol: int) -> None:
    whole = pickle.dumps({"TRAAA": np.arange(5.0), "TRAAB": ["x", 1]}, protocol)
    for length in range(len(whole) - 1):
        with pytest.raises(MusictagError, match="damaged or cut short"):
            load_pickle(write(tmp_path / "cut.cP", whole[:length]))
