"""Files made to do harm: what they ask for is refused by name, before anything is run, allocated or written.

docs/security.md lists the promises that are kept here and in the fuzz tests.
"""

from __future__ import annotations

import ast
import copy
import json
import pickle
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from musictag import cli
from musictag.common.errors import MusictagError
from musictag.data.datasets.msd.pickles import load_pickle
from musictag.inference.load import load
from musictag.models.checkpoint import read_checkpoint
from tests.helpers.experiments import ROOT
from tests.helpers.fuzzing import read_all
from tests.inference.test_tagger import BACKEND, FRONTEND, make_network
from tests.security.test_fuzz_checkpoints import described, header_of, stored, trees, with_header

MOTIVATED = {"_target_": "musictag.models.frontends.spectrogram.MusicallyMotivated"}
CODE = [*sorted((ROOT / "musictag").rglob("*.py")), ROOT / "train.py"]


def refused(kind: str, paths: Path | list[Path], message: str, megabytes: int = 256, seconds: int = 10) -> None:
    """``paths`` are refused with these words by a process that has so much memory beyond its libraries."""
    paths = paths if isinstance(paths, list) else [paths]
    outcomes = read_all(kind, paths, paths[0].parent / "empty", megabytes, seconds)
    outcomes.check(len(paths))
    for path in paths:
        assert message in outcomes.refused[path]


# nothing is run


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call in a file, with the dotted name of what is called."""
    return [
        (ast.unparse(node.func), node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    ]


def keyword(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(given.value) for given in call.keywords if given.arg == name), None)


def unsafe(path: Path) -> list[str]:
    """Calls that could run what a name or a file says."""
    found = []
    for name, call in calls(path):
        last = name.rpartition(".")[2]
        wrong = (
            name in ("eval", "exec", "compile", "os.system", "os.popen", "__import__")
            or keyword(call, "shell") not in (None, "False")
            or last in ("unsafe_load", "full_load")
            or name in ("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "joblib.load")
            or (name == "torch.load" and keyword(call, "weights_only") != "True")
            or (name == "yaml.load" and keyword(call, "Loader") not in ("yaml.SafeLoader", "yaml.CSafeLoader"))
            or (name in ("np.load", "numpy.load") and keyword(call, "allow_pickle") != "False")
            or (last in ("load_from_checkpoint", "load_state_dict_from_url", "load_url"))
        )  # fmt: skip
        if wrong:
            found.append(f"{path.name}:{call.lineno}: {ast.unparse(call)}")
    return found


def test_the_code_calls_nothing_that_runs_what_a_file_says() -> None:
    assert len(CODE) > 100
    assert [line for path in CODE for line in unsafe(path)] == []


@pytest.mark.parametrize(
    "line",
    [
        "subprocess.run('ls ' + name, shell=True)", "os.system(name)", "eval(text)", "exec(text)", "pickle.load(file)",
        "pickle.loads(data)", "torch.load(path)", "torch.load(path, weights_only=False)", "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)", "np.load(path)", "np.load(path, allow_pickle=True)",
    ],
)  # fmt: skip
def test_such_calls_would_be_found(line: str, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(f"def f():\n    return {line}\n")
    assert len(unsafe(tmp_path / "x.py")) == 1


def test_pickles_are_unpickled_in_one_place_only() -> None:
    users = {path.name for path in CODE if "_Unpickler" in path.read_text() or "pickle.Unpickler" in path.read_text()}
    assert users == {"pickles.py"}


class Runs:
    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize(
    "thing", [Runs(Path.touch, Path("ran")), Runs(subprocess.Popen, ["touch", "ran"]), Runs(bytearray, 2**40)],
)  # fmt: skip
def test_no_pickle_is_a_tagger(thing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.safetensors"
    torch.save({"x": thing}, path)
    with pytest.raises(MusictagError, match=r"x\.safetensors is not a tagger .*: it is a PyTorch checkpoint"):
        load(path)
    for protocol in range(5):
        path.write_bytes(pickle.dumps(thing, protocol))
        with pytest.raises(MusictagError, match=r"x\.safetensors is not a tagger of musictag, or is damaged: "):
            load(path)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_no_checkpoint_of_ones_own_runs_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Runs(Path.touch, Path("ran"))}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="Weights only load failed"):
        read_checkpoint(tmp_path / "last.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_an_imported_module_is_one_of_parts(tmp_path: Path) -> None:
    for target in ("musictag.cli.main", "musictag.training.signals.sys", "musictag.models.frontends.__init__.Path"):
        (tmp_path / "x.safetensors").write_bytes(stored(described(frontend={"_target_": target})))
        with pytest.raises(MusictagError, match=r"x\.safetensors: _target_ musictag\.\S+ (is not a FrontEnd)"):
            load(tmp_path / "x.safetensors")


# nothing is allocated that is not there


@pytest.mark.slow
def test_headers_and_descriptions_that_unfold(tmp_path: Path) -> None:
    whole, paths = stored(described()), []
    many = 2 * 2**20
    for number, content in enumerate(
        (
            (2**62).to_bytes(8, "little") + whole[8:],
            (2**26).to_bytes(8, "little") + whole[8:],
            (9 * 2**20).to_bytes(8, "little") + b"{}".ljust(9 * 2**20),
            with_header(whole, b'{"__metadata__":{"a":"b"},"x":' + b"[" * 10**6),
            stored("[" * 10**6),
            stored('{"format": 1, "tags": [' + "[]," * many + "0]}"),
            stored("9" * 10**6),
        )
    ):
        paths.append(tmp_path / f"{number}.safetensors")
        paths[-1].write_bytes(content)
    refused("tagger", paths, "is not a tagger of musictag, or is damaged: ", seconds=60)


#: What a description of a few bytes asks for.
HUGE: list[dict[str, Any]] = [
    {"frontend": FRONTEND | {"channels": [10**9] * 5}},
    {"frontend": FRONTEND | {"channels": [2**24] * 5}},
    {"frontend": FRONTEND | {"channels": [8] * 100_000}},
    {"frontend": FRONTEND | {"sample_rate": 10**9}},
    {"frontend": MOTIVATED | {"n_fft": 2**40}},
    {"frontend": MOTIVATED | {"n_fft": 2**16, "num_mels": 4096}},
    {"frontend": {"_target_": "musictag.models.frontends.harmonic.Harmonic", "n_fft": 2**16, "num_harmonics": 200}},
    {"backend": {"_target_": "musictag.models.backends.recurrent.Recurrent", "num_layers": 10**9}},
    {"backend": {"_target_": "musictag.models.backends.self_attention.SelfAttention", "num_layers": 10**7}},
    {"tags": [{"name": str(i)} for i in range(10**6)]},
    {"patch_seconds": 1e9},
    {"patch_seconds": 99_999.0},
]


@pytest.mark.slow
def test_networks_of_terabytes(tmp_path: Path) -> None:
    paths = []
    for number, changes in enumerate(HUGE):
        paths.append(tmp_path / f"huge{number}.safetensors")
        paths[-1].write_bytes(stored(described(**changes)))
    refused("tagger", paths, f"{tmp_path / 'huge'}", megabytes=1024)


def test_tensors_that_claim_more_than_they_have(tmp_path: Path) -> None:
    whole, paths = stored(described()), []
    header = json.loads(header_of(whole))
    name, other = (name for name in header if name.endswith("output.weight") or name.endswith("conv1.weight"))
    begin, end = header[name]["data_offsets"]
    for number, changed in enumerate(
        (
            header[name] | {"shape": [2**40]},
            header[name] | {"shape": [2**62, 2**62]},
            header[name] | {"shape": [2**40], "data_offsets": [begin, begin + 4 * 2**40]},
            header[name] | {"data_offsets": [end, begin]},
            header[name] | {"data_offsets": [begin - 4, end - 4]},
            header[name] | {"data_offsets": header[other]["data_offsets"]},
            header[name] | {"shape": [-1]},
            header[name] | {"dtype": "F64"},
        )
    ):
        paths.append(tmp_path / f"{number}.safetensors")
        paths[-1].write_bytes(with_header(whole, json.dumps(header | {name: changed}).encode()))
    refused("tagger", paths, "is not a tagger of musictag, or is damaged: ")


def test_a_large_network_of_which_the_file_has_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    wide = FRONTEND | {"channels": [8, 8, 8, 8, 2**16]}
    path.write_bytes(stored(described(frontend=wide, backend=BACKEND | {"filters": 2**16})))
    refused("tagger", path, "the weights do not fit the described tagger")


@pytest.mark.slow
def test_lists_in_lists(tmp_path: Path) -> None:
    nested: Any = ["x"]
    for _ in range(60):
        nested = [nested]
    path = tmp_path / "nested.safetensors"
    for channels in (nested, [[8, 8]] * 1000):
        path.write_bytes(stored(described(frontend=FRONTEND | {"channels": channels})))
        refused("tagger", path, "more than a tagger's description may hold", megabytes=1024)
    model = tmp_path / "deep.json"
    for text in ("[" * 10**6, '{"what": ' + "[" * 10**5 + "]" * 10**5 + "}"):
        model.write_text(text)
        refused("models", model, "deep.json", megabytes=512)


def test_trees_that_walk_in_circles_or_nowhere(tmp_path: Path) -> None:
    paths, whole = [], trees()
    text = whole["tags"][0]["lightgbm"]
    for was, made in (
        ("left_child=", "left_child=0 "), ("right_child=", "right_child=99999999 "),
        ("split_feature=", "split_feature=240000 "),
        ("num_leaves=", "num_leaves=100000"), ("num_cat=0", "num_cat=9"), ("tree_sizes=", "tree_sizes=9999999999 x"),
        ("leaf_value=", "leaf_value=nan "), ("is_linear=0", "is_linear=1"), ("end of trees", ""),
    ):  # fmt: skip
        begin = text.index(was)
        rest = text[begin + len(was) :]
        changed = copy.deepcopy(whole)
        if made.endswith(" "):  # in the place of the first number
            rest = rest.partition(" ")[2] if " " in rest.partition("\n")[0] else rest[rest.index("\n") :]
        changed["tags"][0]["lightgbm"] = text[:begin] + made + rest
        paths.append(tmp_path / f"{len(paths)}.json")
        paths[-1].write_text(json.dumps(changed))
    refused("models", paths, "the trees of a tag are damaged")


@pytest.mark.slow
def test_pickles_that_unfold(tmp_path: Path) -> None:
    path = tmp_path / "list.cP"
    path.write_bytes(b"\x80\x02K\x01r\xff\xff\xff\x7f.")  # an object with the number two billion
    assert load_pickle(path) == 1
    text = "x" * 10**6
    again = b"".join(b"c_codecs\nencode\nh\x01X\x06\0\0\0latin1\x86R" for _ in range(10_000))
    path.write_bytes(b"\x80\x02X" + struct.pack("<I", len(text)) + text.encode() + b"q\x01" + b"(" + again + b"t.")
    refused("pickle", path, "expands")
    path.write_bytes(b"\x96" + struct.pack("<Q", 2**40) + b".")
    refused("pickle", path, "cannot be read")


def test_the_command_line_refuses_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.safetensors").write_bytes(stored(described(frontend={"_target_": "os.system"})))
    assert cli.main(["tag", "song.wav", "--model", str(tmp_path / "x.safetensors")]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"musictag: {tmp_path / 'x.safetensors'}: _target_ is 'os.system'")
    assert told.count("\n") == 1


def test_whole_files_pass(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(stored(described()))
    assert load(tmp_path / "x.safetensors").tag_names == make_network().tag_names
    optimiser = torch.optim.AdamW(make_network().parameters())
    torch.save({"optimizer_states": [optimiser.state_dict()]}, tmp_path / "last.ckpt")
    assert set(read_checkpoint(tmp_path / "last.ckpt")) == {"optimizer_states"}
