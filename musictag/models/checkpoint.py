"""Files of a trained network: the tagger, for use, and Lightning's checkpoint, for resuming.

A tagger is a safetensors file: tensors, and a JSON description in the metadata, with a checksum over both. There is
nothing to unpickle. Lightning's ``last.ckpt``, in the user's own run folder, is read by torch.load with
``weights_only``. Both are written atomically.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
import xxhash
from torch import Tensor

from musictag.common.errors import MusictagError
from musictag.common.files import atomic_write
from musictag.common.text import excerpt, parse_json
from musictag.models.network import TaggingNetwork
from musictag.models.pretrained import TAGGER_FILE

#: Version of the tagger's file format; earlier versions of musictag may not read a later one.
FORMAT = 1
#: Bound on the header: the description (a few thousand bytes, and a few hundred per tag) and the tensors' names.
MAX_HEADER_BYTES = 64 * 2**20
#: The part of the description that makes the network: ``TaggingNetwork(**{key: description[key] for key in SPEC})``.
SPEC = ("frontend", "backend", "tags", "patch_seconds")
_DESCRIPTION, _CHECKSUM = "musictag", "checksum"
_REASON_CHARACTERS = 300


class StoredTagger(NamedTuple):
    """The content of a tagger's file.

    ``description``: ``format``, the keys of SPEC, ``sample_rate`` and ``versions``; if known ``epoch`` (from 0),
    ``validation`` and ``test`` (scores by name), ``licence`` (of weights that others trained), and any other facts from
    its writer. ``state``: the tensors by name.
    """

    description: dict[str, Any]
    state: dict[str, Tensor]

    @property
    def spec(self) -> dict[str, Any]:
        """The arguments of TaggingNetwork."""
        return {key: self.description[key] for key in SPEC}


def write_tagger(path: str | Path, network: TaggingNetwork, **facts: Any) -> None:
    """Write ``network`` and further facts about it (see StoredTagger), atomically.

    Raises MusictagError when the disk is full, and leaves the old file in place.
    """
    description = {"format": FORMAT, **network.spec, "sample_rate": network.sample_rate, **facts}
    if licence := getattr(network.frontend, "licence", None):
        description.setdefault("licence", licence)
    description["versions"] = {name: version(name) for name in ("musictag", "torch")}
    store_tagger(path, description, network.state_dict())


def store_tagger(path: str | Path, description: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write a tagger as ``read_tagger`` returns it; otherwise like ``write_tagger``."""
    # separate copies: safetensors refuses tensors that share memory
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    content = _serialised(json.dumps(description), tensors)
    with atomic_write(path) as file:
        file.write(content)


def _serialised(text: str, state: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save(dict(state), {_DESCRIPTION: text, _CHECKSUM: _checksum(text, state)})


def read_tagger(path: str | Path) -> StoredTagger:
    """Read a tagger's file, which may be untrusted, in little more memory than its length.

    Raises MusictagError for a file of another kind or format, and if it is damaged or claims more data than it has.
    """
    try:
        _check_header(Path(path))
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            # copies: otherwise the file stays mapped, and Windows cannot replace a mapped file
            state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        text = metadata.get(_DESCRIPTION)
        if text is None:
            raise ValueError("it was not written by musictag: its metadata does not describe a tagger")
        if metadata.get(_CHECKSUM) != _checksum(text, state):
            raise ValueError("its checksum does not match")
        description = parse_json(text.encode())
        _check_description(description)
    except Exception as error:  # safetensors and torch raise various errors for damaged bytes
        raise MusictagError(f"{path} is not a tagger of musictag, or is damaged: {_reason(error)}") from error
    return StoredTagger(description, state)


def _check_header(path: Path) -> None:
    """Raise ValueError for a file of another kind, and for a header longer than any tagger's, before it is read."""
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(b"PK"):
        raise ValueError(
            f"it is a PyTorch checkpoint, as Lightning writes it; the tagger of a run is the {TAGGER_FILE} in its "
            "folder"
        )
    if start.startswith(b"{"):
        raise ValueError("it is a JSON file, perhaps the model of a baseline, which has no network")
    if len(start) < 8:
        raise ValueError("it has fewer than eight bytes")
    if (length := int.from_bytes(start, "little")) > MAX_HEADER_BYTES:
        raise ValueError(f"it is not a safetensors file, or its header is too long ({length:,} bytes)")


def _check_description(description: Any) -> None:
    if not isinstance(description, dict) or not isinstance(description.get("format"), int):
        raise ValueError("its description does not declare its format")
    if description["format"] != FORMAT:
        raise ValueError(
            f"it has format {excerpt(description['format'])}, but this version of musictag reads format {FORMAT}; use "
            "one that is as new as the file"
        )
    if missing := [key for key in SPEC if key not in description]:
        raise ValueError(f"its description lacks {', '.join(missing)}")
    if not all(isinstance(description[part], dict) for part in ("frontend", "backend")):
        raise ValueError("its description of front-end and back-end does not consist of dictionaries")


def _checksum(text: str, state: Mapping[str, Tensor]) -> str:
    """A checksum of description, names and numbers. It detects damage; it proves nothing about who wrote the file."""
    digest = xxhash.xxh3_128(text.encode())
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_fit(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Raise MusictagError unless ``state`` has the names, shapes and types of ``expected``."""
    wrong = [f"{name} is missing" for name in expected if name not in state]
    wrong += [f"{excerpt(name)} is not known" for name in state if name not in expected]
    for name in expected.keys() & state.keys():
        found, wanted = ((tuple(tensor.shape), tensor.dtype) for tensor in (state[name], expected[name]))
        if found[0] != wanted[0]:
            wrong.append(f"{name} is {found[0]}, not {wanted[0]}")
        elif found[1] != wanted[1]:
            wrong.append(f"{name} is {found[1]}, not {wanted[1]}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise MusictagError(f"the weights do not fit the described tagger: {'; '.join(wrong[:3])}{more}")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a Lightning checkpoint's plain containers and tensors, on the CPU; nothing in it is executed.

    Raises ValueError with the reason for a file that is not a checkpoint, is damaged, or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch.load does not compare checksums: a flipped bit would go unnoticed
                raise ValueError(f"the checksum of {damaged} does not match")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile as error:
        raise ValueError("it is not a checkpoint, or its end is missing") from error
    except Exception as error:  # damaged bytes can make the unpickler raise nearly anything
        raise ValueError(_reason(error)) from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a checkpoint")
    return content


def write_checkpoint(content: Mapping[str, Any], path: str | Path) -> None:
    """Write ``content`` as a checkpoint; raises MusictagError when the disk is full, and keeps the old file."""
    # in memory first: torch's own error for a full disk does not say so
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def tagger_spec(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The network's specification in the content of a checkpoint, or None."""
    parameters = content.get("hyper_parameters")
    spec = parameters.get("tagger") if isinstance(parameters, Mapping) else None
    return spec if isinstance(spec, dict) else None


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:_REASON_CHARACTERS] or type(error).__name__
