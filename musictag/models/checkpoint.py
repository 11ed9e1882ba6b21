"""What training leaves of a network: the tagger, to be used by anybody, and Lightning's checkpoint, to be resumed from.

A tagger is a safetensors file: the tensors, and a description in JSON in the metadata, with a checksum over both. There
is nothing to unpickle. Lightning's ``last.ckpt``, in one's own run folder, is read by torch.load with ``weights_only``.
Both are written atomically.
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

#: Of the tagger's file; a later one may be read by no earlier version of musictag.
FORMAT = 1
#: The header holds the description (some hundred bytes, and about fifty for each tag) and the tensors' names.
MAX_HEADER_BYTES = 8 * 2**20
#: What of the description makes the network: ``TaggingNetwork(**{key: description[key] for key in SPEC})``.
SPEC = ("frontend", "backend", "tags", "patch_seconds")
_DESCRIPTION, _CHECKSUM = "musictag", "checksum"
_REASON_CHARACTERS = 300


class StoredTagger(NamedTuple):
    """What a tagger's file holds.

    ``description``: ``format``, the keys of SPEC, ``sample_rate`` and ``versions``; where known ``epoch`` (from 0),
    ``validation`` and ``test`` (scores by name), and whatever else its writer had to say. ``state``: the tensors by
    name.
    """

    description: dict[str, Any]
    state: dict[str, Tensor]

    @property
    def spec(self) -> dict[str, Any]:
        """The arguments of TaggingNetwork."""
        return {key: self.description[key] for key in SPEC}


def write_tagger(path: str | Path, network: TaggingNetwork, **facts: Any) -> None:
    """Write ``network`` and what else is to be said of it (see StoredTagger), atomically.

    Raises MusictagError when the disk is full, and leaves what was there.
    """
    description = {"format": FORMAT, **network.spec, "sample_rate": network.sample_rate, **facts}
    description["versions"] = {name: version(name) for name in ("musictag", "torch")}
    store_tagger(path, description, network.state_dict())


def store_tagger(path: str | Path, description: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write a tagger's file as ``read_tagger`` returns it; otherwise as ``write_tagger``."""
    # copies of their own: safetensors refuses tensors that share memory
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    content = _serialised(json.dumps(description), tensors)
    with atomic_write(path) as file:
        file.write(content)


def _serialised(text: str, state: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save(dict(state), {_DESCRIPTION: text, _CHECKSUM: _checksum(text, state)})


def read_tagger(path: str | Path) -> StoredTagger:
    """A tagger's file, whoever wrote it, in little more memory than it is long.

    Raises MusictagError for a file of another kind or format, and for one that is damaged or claims more than it has.
    """
    try:
        _check_header(Path(path))
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            # copies: otherwise the file stays mapped, and Windows does not replace a mapped file
            state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        text = metadata.get(_DESCRIPTION)
        if text is None:
            raise ValueError("it was not written by musictag: its metadata do not describe a tagger")
        if metadata.get(_CHECKSUM) != _checksum(text, state):
            raise ValueError("its checksum does not match")
        description = parse_json(text.encode())
        _check_description(description)
    except Exception as error:  # whatever safetensors and torch say of damaged bytes
        raise MusictagError(f"{path} is not a tagger of musictag, or is damaged: {_reason(error)}") from error
    return StoredTagger(description, state)


def _check_header(path: Path) -> None:
    """Raise ValueError for a file of another kind, and before a header is read that is longer than any tagger's."""
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(b"PK"):
        raise ValueError(
            f"it is a checkpoint of PyTorch, as Lightning writes it; the tagger of a run is the {TAGGER_FILE} in its "
            "folder"
        )
    if start.startswith(b"{"):
        raise ValueError("it is a JSON file, perhaps the model of a baseline, which has no network")
    if len(start) < 8:
        raise ValueError("it has less than eight bytes")
    if (length := int.from_bytes(start, "little")) > MAX_HEADER_BYTES:
        raise ValueError(f"it is no safetensors file, or its header is too long ({length:,} bytes)")


def _check_description(description: Any) -> None:
    if not isinstance(description, dict) or not isinstance(description.get("format"), int):
        raise ValueError("its description does not say which format it has")
    if description["format"] != FORMAT:
        raise ValueError(
            f"it has format {excerpt(description['format'])}, and this musictag reads format {FORMAT}; use a version "
            "of musictag that is as new as the file"
        )
    if missing := [key for key in SPEC if key not in description]:
        raise ValueError(f"its description lacks {', '.join(missing)}")
    if not all(isinstance(description[part], dict) for part in ("frontend", "backend")):
        raise ValueError("its description of front-end and back-end is not made of dictionaries")


def _checksum(text: str, state: Mapping[str, Tensor]) -> str:
    """Of description, names and numbers. It finds damage; it proves nothing about who wrote the file."""
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
        raise MusictagError(f"the weights do not fit the tagger that is described: {'; '.join(wrong[:3])}{more}")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The plain containers and tensors in a checkpoint of Lightning's, on the CPU; nothing in it is executed.

    Raises ValueError, with the reason, for a file that is not a checkpoint, is damaged, or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch.load does not compare checksums: a flipped bit would go unseen
                raise ValueError(f"the checksum of {damaged} does not match")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile as error:
        raise ValueError("it is no checkpoint at all, or its end is missing") from error
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything
        raise ValueError(_reason(error)) from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a checkpoint")
    return content


def write_checkpoint(content: Mapping[str, Any], path: str | Path) -> None:
    """``content`` as a checkpoint file; raises MusictagError when the disk is full, and leaves what was there."""
    # to memory first: torch turns a full disk into an error of its own that does not say so
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def tagger_spec(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The specification of the network in a checkpoint's content; None if it has none."""
    parameters = content.get("hyper_parameters")
    spec = parameters.get("tagger") if isinstance(parameters, Mapping) else None
    return spec if isinstance(spec, dict) else None


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:_REASON_CHARACTERS] or type(error).__name__


#: The tagger of a network, and that of a baseline, in the folder of a run.
TAGGER_FILE, MODEL_FILE = "tagger.safetensors", "model.json"
