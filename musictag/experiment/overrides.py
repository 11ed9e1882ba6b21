"""Words of Hydra's command line (`key=value`), and the configuration that they make as plain containers.

Hydra reads a value by a grammar of its own, which knows neither ``~`` nor most of what may stand in a file's name. Here
a path is first of all a path.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf, read_write
from omegaconf.errors import GrammarParseError, InterpolationResolutionError, OmegaConfBaseException

from musictag.common.errors import MusictagError
from musictag.common.paths import expanded
from musictag.common.streams import write_out_what_cannot_be_encoded
from musictag.experiment.results.console import _instead
from musictag.experiment.search_path import search_words
from musictag.training.signals import Stopped

#: Every key that holds a path, and whether it may be left out as null.
PATH_KEYS = {
    "runs_dir": False, "data_dir": False, "init_from": True, "data.path": False, "data.root": True, "data.lists": True,
    "data.cals": True, "data.artists": True, "data.split_path": True, "data.soundfont": True,
}  # fmt: skip
_PARTS = ("frontend", "backend")
#: Where a value of Hydra's may begin with ~, and what of it is a path.
_HOME = re.compile(r"(^|[,(\[:]\s*)(~(?:\$\{[^{}]*\}|[^,()\[\]{}'\"])*)")

# for hydra.sweep.dir in conf/train.yaml, where Hydra makes a folder itself
OmegaConf.register_new_resolver("home", os.path.expanduser, replace=True)


@contextmanager
def command_line() -> Iterator[None]:
    """For the program that Hydra runs: inside, Hydra reads words as ``readable`` writes them, and what cannot be
    composed is said as in ``in_one_message``."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra lets the error through
    write_out_what_cannot_be_encoded()
    before, sys.argv = sys.argv, [sys.argv[0], *readable(sys.argv[1:])]
    try:
        with in_one_message():
            yield
    finally:
        sys.argv = before


@contextmanager
def in_one_message() -> Iterator[None]:
    """What goes wrong inside, and is known, ends the program with one message instead of a traceback."""
    try:
        yield
    except MissingMandatoryValue as error:
        sys.exit(f"musictag: {error.full_key} is needed; type {error.full_key}=...")
    except MusictagError as error:
        from musictag.common.text import printable

        sys.exit(f"musictag: {printable(error)}")
    except (HydraException, OmegaConfBaseException) as error:
        pass
        from musictag.common.text import printable

        sys.exit(f"musictag: {printable(explain(error))}")
    except Stopped as stopped:
        sys.exit(stopped.status)
    except KeyboardInterrupt:
        sys.exit(130)


def plain_config(cfg: DictConfig) -> dict[str, Any]:
    """``cfg`` as plain containers, every path with ``~`` as the folder that it means.

    A part that was chosen beside a model is what it is without it (``model=vgg backend=recurrent``), and a front-end or
    back-end that is given by its class (``frontend._target_=my_package.MyFrontEnd``) has no settings but those that are
    given with it. Call this while Hydra is initialised.

    Raises MissingMandatoryValue for a key that is not given, another error of OmegaConf for an interpolation that leads
    nowhere, and MusictagError for a path that is empty or not a text.
    """
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    names = config.get("names", {})
    if names and names["baseline"] is None:
        _take_parts_of_their_own(config)
        _take_classes_of_their_own(config)
    data = config["data"]
    for key, value in data.items():  # a source of somebody's own may have other keys
        if isinstance(value, str) and value.startswith("~"):
            data[key] = os.path.expanduser(value)
    for key, may_be_null in PATH_KEYS.items():
        holder, name = (data, key.removeprefix("data.")) if key.startswith("data.") else (config, key)
        if name not in holder or (holder[name] is None and may_be_null):
            continue
        if not isinstance(holder[name], str):
            raise MusictagError(f"{key} must be a path, as text; it is {json.dumps(holder[name])}")
        holder[name] = expanded(holder[name], key)
    return config


def _take_parts_of_their_own(config: dict[str, Any]) -> None:
    """A front-end or back-end that was chosen beside a model takes that of the model's place, without its settings.

    The combination is then no longer the paper's, and is named after its parts: what is the model's after the model.
    """
    hydra, names = HydraConfig.get(), config["names"]
    words = list(hydra.overrides.task)
    chosen = [part for part in _PARTS if any(word.startswith(f"{part}=") for word in words)]
    if not chosen or names["model"] is None:
        return
    others = [word for word in words if not word.startswith("model=")]
    alone = compose(hydra.job.config_name, [*search_words(hydra), *others])
    config |= {part: OmegaConf.to_container(alone[part], resolve=True) for part in chosen}
    _name_parts(names, {part: names[part] for part in chosen})


def _take_classes_of_their_own(config: dict[str, Any]) -> None:
    """A class of the command line takes the place of that of the chosen file, whose settings were for that one."""
    given = {word.lstrip("+").partition("=")[0] for word in HydraConfig.get().overrides.task}
    chosen = [part for part in _PARTS if f"{part}._target_" in given]
    for part in chosen:
        named = {key.split(".")[1] for key in given if key.startswith(f"{part}.")}
        config[part] = {key: value for key, value in config[part].items() if key in named}
    _name_parts(config["names"], {part: str(config[part]["_target_"]).rpartition(".")[2] for part in chosen})


def _name_parts(names: dict[str, Any], chosen: dict[str, str]) -> None:
    """``chosen``: what parts are called that are none of the model's, where there is one."""
    if chosen and names["model"] is not None:
        names |= dict.fromkeys(_PARTS, names["model"]) | {"model": None, "paper": None}
    names |= chosen


def readable(words: Sequence[str]) -> list[str]:
    """``words`` as Hydra can read them: ``~`` is written out, and in quotes stands what only they let through.

    The value of a key of PATH_KEYS is a path as it stands, whatever is in it, where there is a file or a folder of that
    name. Where there is none, and Hydra could not read it, it is put into quotes, in which ``${...}`` means what it
    always does; several may stand side by side, as in ``init_from=a.ckpt,b.ckpt``. What Hydra reads stays as it is.
    """
    return [_readable(word) for word in words]


def readable_params(config: DictConfig) -> None:
    """The same for the ``hydra.sweeper.params`` of a study, in place."""
    params = config.hydra.sweeper.get("params") or {}
    with read_write(config.hydra):
        for key in params:
            value = params._get_node(key)._value()  # as it was written: interpolations are for Hydra to resolve
            if isinstance(value, str):
                params[key] = _readable(f"{key}={value}").removeprefix(f"{key}=")


def _readable(word: str) -> str:
    key, mark, value = word.partition("=")
    if not mark or not value or key.startswith("~"):  # Hydra's ~key=value takes a key out
        return word
    if key.startswith("-"):  # --config-dir=~/conf
        return f"{key}={os.path.expanduser(value)}"
    is_path = key.lstrip("+") in PATH_KEYS and value != "null"
    if is_path and not _is_plain(value) and os.path.lexists(os.path.expanduser(value)):
        return f"{key}={_quoted(_escaped(os.path.expanduser(value)))}"
    if _is_read(value):
        return f"{key}={_quoted(value)}" if is_path and _is_number(value) else word
    at_home = _HOME.sub(lambda found: found[1] + _quoted(os.path.expanduser(found[2])), value)
    if _is_read(at_home):
        return f"{key}={at_home}"
    if not is_path:
        return word
    parts = [part if _is_read(part) else _quoted(os.path.expanduser(part)) for part in value.split(",")]
    return f"{key}={','.join(parts)}"


def _is_plain(value: str) -> bool:
    """Whether it means itself to Hydra, too, and in quotes or not."""
    return (
        re.fullmatch(r"[A-Za-z_/.][\w/.-]*", value, re.ASCII) is not None and _is_read(value) and not _is_number(value)
    )


def _is_read(value: str) -> bool:
    try:
        _parser().parse_override(f"key={value}")
    except HydraException:
        return False
    return True


def _is_number(value: str) -> bool:
    """Whether Hydra takes it for a number or a truth value."""
    return isinstance(_parser().parse_override(f"key={value}").value(), int | float)


def _quoted(text: str) -> str:
    """``text`` as one value, in quotes where that takes quotes."""
    return text if _is_plain(text) else QuotedString(text, Quote.single).with_quotes()


def _escaped(text: str) -> str:
    """``text`` so that OmegaConf takes it literally: with a backslash before ``${``, those before that doubled."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def explain(error: Exception) -> str:
    """What Hydra or OmegaConf says of a command line that cannot be composed, with the keys that exist where one was
    mistyped, and how to write what they read otherwise than it was meant."""
    text = str(error).partition("Config search path:")[0]
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InterpolationResolutionError | GrammarParseError):
            return (
                f"{' '.join(str(cause).split())}. ${{...}} stands for the value of another key; where these characters "
                "belong to a name, write \\${ in quotes: 'key=\"a\\${b}\"'"
            )
        # OmegaConf's errors know the group in which the key was looked for
        parent, key = getattr(cause, "parent_node", None), getattr(cause, "full_key", None)
        if parent is not None and key and hasattr(parent, "keys"):
            group, _, name = str(key).rpartition(".")
            where = f"{group} has no key {name}; it has" if group else f"there is no key {name}; the keys are"
            there = f"{where} {', '.join(sorted(str(k) for k in parent if k != 'hydra'))}"
            return f"{there}. {_instead(parent, str(key))}".strip()
        cause = cause.__cause__ or cause.__context__
    lines = [line for line in text.splitlines() if line.strip()]
    if isinstance(error, OverrideParseException):
        lines.append(
            "A value with spaces, quotes or letters beyond a to z wants quotes of its own: \"key='the value'\""
        )
    return "\n".join(lines)
