"""Overrides on the command line (`key=value`), and the plain configuration that results from them.

Hydra parses values with a grammar of its own, which supports neither ``~`` nor most characters of file names. Here the
value of a key that holds a path is taken as a path.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, OverrideParseException
from hydra.utils import get_object
from omegaconf import DictConfig, MissingMandatoryValue, OmegaConf, read_write
from omegaconf.errors import GrammarParseError, InterpolationResolutionError, OmegaConfBaseException

from musictag.common.errors import MusictagError
from musictag.common.paths import expanded
from musictag.common.streams import write_out_what_cannot_be_encoded
from musictag.common.text import printable
from musictag.experiment.search_path import CONF, search_overrides
from musictag.models.factory import accepted
from musictag.training.signals import Stopped

#: Every key that holds a path, and whether it may be null.
PATH_KEYS = {
    "runs_dir": False, "data_dir": False, "init_from": True, "teacher": True, "data.path": False, "data.root": True,
    "data.lists": True, "data.cals": True, "data.artists": True, "data.split_path": True, "data.soundfont": True,
    "baseline.features": True,
}  # fmt: skip
#: Of these, those that may also be a list of paths, with null for the default.
PATH_LISTS = ("data.soundfont",)
_PARTS = ("frontend", "backend")
#: Groups of keys without files of their own.
_GROUPS = ("seeds", "tuning", "distillation", "lr_scaling", "evaluation", "names")
#: Where a value may begin with ~, and which part of it is a path.
_HOME = re.compile(r"(^|[,(\[:]\s*)(~(?:\$\{[^{}]*\}|[^,()\[\]{}'\"])*)")

# for hydra.sweep.dir in conf/train.yaml, a folder that Hydra creates itself
OmegaConf.register_new_resolver("home", os.path.expanduser, replace=True)


@contextmanager
def command_line() -> Iterator[None]:
    """The context of the program that Hydra runs: the overrides are made readable for Hydra, and errors end it as in
    ``in_one_message``."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra lets the error through
    write_out_what_cannot_be_encoded()
    before = sys.argv
    try:
        with in_one_message():
            sys.argv = [sys.argv[0], *readable(sys.argv[1:])]
            yield
    finally:
        sys.argv = before


@contextmanager
def in_one_message() -> Iterator[None]:
    """A context in which expected errors end the program with one message instead of a traceback."""
    try:
        yield
    except MissingMandatoryValue as error:
        sys.exit(f"musictag: {error.full_key} is needed; use {error.full_key}=...")
    except MusictagError as error:
        sys.exit(f"musictag: {printable(error)}")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"musictag: {printable(explain(error))}")
    except Stopped as stopped:
        sys.exit(stopped.status)
    except KeyboardInterrupt:
        sys.exit(130)


def plain_config(cfg: DictConfig) -> dict[str, Any]:
    """``cfg`` as plain containers, with ``~`` expanded in every path.

    A part that was chosen in addition to a model has its own defaults, not those of the model (``model=vgg
    backend=recurrent``), and a front-end or back-end that is given by its class
    (``frontend._target_=my_package.MyFrontEnd``) has no settings but those given with it. Call this while Hydra is
    initialized.

    Raises MissingMandatoryValue for a missing key, another error of OmegaConf for a broken interpolation, and
    MusictagError for a path that is empty or not a string, and for a value in place of a group of keys.
    """
    config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    for group in _GROUPS:
        if not isinstance(config.get(group, {}), dict):
            raise MusictagError(f"{group} is a group of keys, which are set one by one, and cannot be {config[group]}")
    names = config.get("names", {})
    if names and names["baseline"] is None:
        _take_parts_of_their_own(config)
        _take_classes_of_their_own(config)
    data = config["data"]
    for key, value in data.items():  # a data set outside musictag may have other keys
        if isinstance(value, str) and value.startswith("~"):
            data[key] = os.path.expanduser(value)
    for key, may_be_null in PATH_KEYS.items():
        group, _, name = key.rpartition(".")
        holder = config.get(group) or {} if group else config
        if name not in holder or (holder[name] is None and may_be_null):
            continue
        if key in PATH_LISTS and isinstance(holder[name], list):
            holder[name] = [each and expanded(each, key) for each in holder[name]]
            continue
        if not isinstance(holder[name], str):
            raise MusictagError(f"{key} must be a path, as a string; it is {json.dumps(holder[name])}")
        holder[name] = expanded(holder[name], key)
    tuning = config.get("tuning") or {}
    if any(tuning.get(key) is not None for key in ("study", "point")):
        from musictag.experiment.tuning import settled  # imports Lightning

        given = {word.lstrip("+").partition("=")[0] for word in HydraConfig.get().overrides.task}
        return settled(config, given)
    return config


def _take_parts_of_their_own(config: dict[str, Any]) -> None:
    """A front-end or back-end that was chosen in addition to a model replaces that of the model, with its own defaults.

    The combination is then no longer that of the paper, and is named after its parts: the part that is left of the
    model after the model.
    """
    hydra, names = HydraConfig.get(), config["names"]
    overrides = list(hydra.overrides.task)
    chosen = [part for part in _PARTS if any(override.startswith(f"{part}=") for override in overrides)]
    if not chosen or names["model"] is None:
        return
    # without the settings of what is left of the model, which its own class may not have
    left = tuple(f"{part}." for part in _PARTS if part not in chosen)
    others = [word for word in overrides if not word.startswith("model=") and not word.lstrip("+~").startswith(left)]
    alone = compose(hydra.job.config_name, [*search_overrides(hydra), *others])
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


def readable(overrides: Sequence[str]) -> list[str]:
    """``overrides`` as Hydra can parse them: ``~`` is expanded, and values that need quotes get them.

    The value of a key of PATH_KEYS is taken literally if a file or folder of that name exists. Otherwise, if Hydra
    cannot parse it, it is quoted, with ``${...}`` still an interpolation; several values are separated by commas, as in
    ``init_from=a.ckpt,b.ckpt``. Other values that Hydra can parse are unchanged. Raises MusictagError for a group that
    is set to null or a number, which Hydra refuses with a traceback.
    """
    for override in overrides:
        group, _, value = override.partition("=")
        if group and (CONF / group).is_dir() and (value == "null" or (_is_read(value) and _is_number(value))):
            files = ", ".join(sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml")))
            raise MusictagError(f"{override}: choose one of {files}, or leave {group} out for the default")
    return [_readable(override) for override in overrides]


def readable_params(config: DictConfig) -> None:
    """Apply ``readable`` to the ``hydra.sweeper.params`` of a study, in place."""
    params = config.hydra.sweeper.get("params") or {}
    with read_write(config.hydra):
        for key in params:
            value = params._get_node(key)._value()  # unresolved: interpolations are resolved by Hydra
            if isinstance(value, str):
                params[key] = _readable(f"{key}={value}").removeprefix(f"{key}=")


def _readable(override: str) -> str:
    key, mark, value = override.partition("=")
    if not mark or not value or key.startswith("~"):  # Hydra's ~key=value deletes a key
        return override
    if key.startswith("-"):  # --config-dir=~/conf
        return f"{key}={os.path.expanduser(value)}"
    is_path = key.lstrip("+") in PATH_KEYS and value != "null"
    if is_path and not _is_plain(value) and os.path.lexists(os.path.expanduser(value)):
        return f"{key}={_quoted(_escaped(os.path.expanduser(value)))}"
    if _is_read(value):
        return f"{key}={_quoted(value)}" if is_path and _is_number(value) else override
    at_home = _HOME.sub(lambda found: found[1] + _quoted(os.path.expanduser(found[2])), value)
    if _is_read(at_home):
        return f"{key}={at_home}"
    if not is_path:
        return override
    parts = [part if _is_read(part) else _quoted(os.path.expanduser(part)) for part in value.split(",")]
    return f"{key}={','.join(parts)}"


def _is_plain(value: str) -> bool:
    """Whether Hydra parses it as this very string, quoted or not."""
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
    """Whether Hydra parses it as a number or a boolean."""
    return isinstance(_parser().parse_override(f"key={value}").value(), int | float)


def _quoted(text: str) -> str:
    """``text`` as one value, quoted if necessary."""
    return text if _is_plain(text) else QuotedString(text, Quote.single).with_quotes()


def _escaped(text: str) -> str:
    """``text`` escaped for OmegaConf: a backslash before ``${``, and the backslashes before that doubled."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def explain(error: Exception) -> str:
    """The message of Hydra or OmegaConf about overrides that cannot be composed, with the existing keys if one was
    mistyped, and with how to write values that they parse differently from what was meant."""
    text = str(error).partition("Config search path:")[0]
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InterpolationResolutionError | GrammarParseError):
            return (
                f"{' '.join(str(cause).split())}. ${{...}} is the value of another key; if these characters "
                "belong to a name, write \\${ in quotes: 'key=\"a\\${b}\"'"
            )
        # errors of OmegaConf have the group in which the key was looked up
        parent, key = getattr(cause, "parent_node", None), getattr(cause, "full_key", None)
        if parent is not None and key and hasattr(parent, "keys"):
            group, _, name = str(key).rpartition(".")
            where = f"{group} has no key {name}; it has" if group else f"there is no key {name}; the keys are"
            there = f"{where} {', '.join(sorted(str(k) for k in parent if k != 'hydra'))}"
            return f"{there}. {_instead(parent, str(key))}".strip()
        cause = cause.__cause__ or cause.__context__
    lines = [line for line in text.splitlines() if line.strip()]
    if isinstance(error, OverrideParseException):
        lines.append("A value with spaces, quotes or non-ASCII letters needs quotes of its own: \"key='the value'\"")
    return "\n".join(lines)


#: Names that other projects use for our keys.
_NAMES_ELSEWHERE = {
    "learning_rate": "lr",
    "objective": "loss",
    "criterion": "loss",
    "lr_scheduler": "scheduler",
    "schedule": "scheduler",
}


def _instead(parent: Any, key: str) -> str:
    """Suggestions for a key that does not exist: a setting that has to be added, or similar keys."""
    name = key.rpartition(".")[2]
    if isinstance(target := parent.get("_target_"), str) and name in accepted(get_object(target))[0]:
        return f"It accepts {name}: use +{key}=..."
    root = parent._get_root()
    keys = [known for known in _dotted(root) if not known.startswith("hydra.")]
    same = [known for known in keys if known.rpartition(".")[2] == _NAMES_ELSEWHERE.get(name, name)]
    near = same or get_close_matches(key, keys, n=3, cutoff=0.75)
    return f"Did you mean {' or '.join(near)}?" if near else ""


def _dotted(config: Any, prefix: str = "") -> list[str]:
    found = []
    for key in config:
        found.append(f"{prefix}{key}")
        node = config._get_node(key)
        if OmegaConf.is_dict(node) and not node._is_none() and not node._is_missing():
            found += _dotted(node, f"{prefix}{key}.")
    return found
