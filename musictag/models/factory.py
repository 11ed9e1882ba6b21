"""Builds parts from plain dictionaries, and nothing else.

A spec is a dictionary of plain values with the key ``_target_``, the dotted name of a class; the other keys are the
keyword arguments of that class. A user's own configuration may name any class that fulfils the contract. Specs in
untrusted files may name only what ``check_targets`` allows.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from musictag.common.errors import MusictagError
from musictag.common.text import as_list, excerpt, reason

_DOTTED_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}(\.[A-Za-z_][A-Za-z0-9_]{0,99}){1,8}")
#: Entry-point group where packages register their parts: ``NAME = "package"``.
PLUGINS = "musictag.plugins"
_SHOWN = 300


def build(spec: Mapping[str, Any], contract: type, **derived: Any) -> Any:
    """An instance of the class that ``spec`` names, which must fulfil ``contract`` (FrontEnd, BackEnd, ...).

    ``derived`` holds the arguments that are computed from other parts (``in_channels``) and must not be in the spec.

    Raises MusictagError for a class that does not exist or is not a ``contract``, and for unknown, missing or unusable
    keywords.
    """
    target = spec.get("_target_")
    cls = find_class(target, contract)
    given = {key: value for key, value in spec.items() if key != "_target_"}
    parameters = settings(cls)
    settable = [name for name in parameters if name not in derived]
    if unknown := [key for key in given if key not in settable]:
        computed = [key for key in unknown if key in derived]
        why = f" ({', '.join(computed)}: computed from the other parts, not set)" if computed else ""
        raise MusictagError(
            f"{target} has no setting {', '.join(map(str, unknown))}{why}; allowed: {', '.join(settable) or 'none'}"
        )
    missing = [n for n in settable if parameters[n].default is inspect.Parameter.empty and n not in given]
    if missing:
        raise MusictagError(f"{target} needs {', '.join(missing)}; its settings are: {', '.join(settable)}")
    given = lists_of(given, parameters)
    try:
        return cls(**given, **derived)
    except MusictagError:
        raise
    except Exception as error:  # untrusted settings can make constructors raise nearly anything
        shown = str(given)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        raise MusictagError(f"{target} cannot be built from {shown}: {reason(error)}") from error


def takes_list(annotation: str) -> bool:
    """Whether a setting with this annotation is a list."""
    return annotation.startswith("Sequence[")


def with_lists(spec: Mapping[str, Any], contract: type) -> dict[str, Any]:
    """``spec`` as ``build`` reads it: ``hidden_units: 16`` and ``hidden_units: [16]`` are equivalent.

    Raises MusictagError for a class that ``build`` refuses, and for text in a list of numbers.
    """
    return lists_of(spec, settings(find_class(spec.get("_target_"), contract)))


def lists_of(given: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """``given``, with lists for the ``parameters`` that are annotated as lists."""
    return {
        key: _list_of(key, value, str(parameters[key].annotation)) if key in parameters else value
        for key, value in given.items()
    }


def _list_of(key: str, value: Any, annotation: str) -> Any:
    """A setting as a list if it is annotated as one; raises MusictagError for text in a list of numbers."""
    if not takes_list(annotation):
        return value
    if value == "":
        raise MusictagError(f"{key}= is empty; omit it, or use {key}=null")
    inner = annotation.removeprefix("Sequence[")
    values = as_list(value)
    if isinstance(values, Mapping) or values is None:
        return values
    if inner.startswith("Sequence["):
        return [_list_of(key, item, inner) for item in values]
    if inner.startswith(("int", "float")) and (words := [item for item in values if isinstance(item, str | bool)]):
        raise MusictagError(f"{key}={excerpt(words[0])} is not a number; use numbers, such as {key}=[1,2]")
    return values


def check_targets(spec: Any, trust: Sequence[str] = ()) -> None:
    """Raise MusictagError if an untrusted spec, or one inside it, names a class that no file may name.

    Allowed are classes of musictag, of packages registered in the entry-point group ``musictag.plugins``, and of the
    packages in ``trust``. Nothing is imported.
    """
    plugins = {entry.module.partition(".")[0] for entry in entry_points(group=PLUGINS)}
    for target in targets(spec):
        if not isinstance(target, str) or not _DOTTED_NAME.fullmatch(target):
            raise MusictagError(f"_target_ is {excerpt(target)}; it must be the dotted name of a class")
        package = target.partition(".")[0]
        if package not in {"musictag", *plugins} and not any(target.startswith(f"{name}.") for name in trust):
            installed = ", ".join(sorted(plugins)) or "none is installed"
            raise MusictagError(
                f"_target_ is {excerpt(target)}, but a file may only name classes of musictag and of registered "
                f"plug-ins ({installed}); install the package if it registers itself, or if you trust it and the "
                f"file, use musictag.load(path, trust=[{package!r}]), on the command line --trust {package}"
            )


def targets(spec: Any) -> Iterator[Any]:
    """Every ``_target_`` in a spec and in the specs inside it."""
    if isinstance(spec, Mapping):
        if "_target_" in spec:
            yield spec["_target_"]
        spec = list(spec.values())
    if isinstance(spec, list):
        for item in spec:
            yield from targets(item)


def find_class(target: Any, contract: type) -> type:
    """The class called ``target``; raises MusictagError unless it is a ``contract``.

    Within musictag, only modules of the contract's own package are imported.
    """
    if not isinstance(target, str) or not _DOTTED_NAME.fullmatch(target):
        raise MusictagError(
            f"_target_ is {excerpt(target)}; it must be the dotted name of a class, "
            f"such as musictag.models.frontends.waveform.SampleLevel"
        )
    module_name, _, class_name = target.rpartition(".")
    home = contract.__module__
    is_own = module_name.partition(".")[0] == "musictag"
    if is_own and module_name != home and not module_name.startswith(f"{home}."):
        raise MusictagError(f"_target_ {target} is not a {contract.__name__}: see {home}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a dependency is missing: that is not the spec's fault
        raise MusictagError(f"_target_ {target}: there is no module {module_name}") from error
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type) or not issubclass(cls, contract) or inspect.isabstract(cls):
        raise MusictagError(f"_target_ {target} is not a {contract.__name__} (see {contract.__module__})")
    return cls


def settings(cls: type) -> dict[str, inspect.Parameter]:
    """The keyword arguments of ``cls`` by name, including those passed on to the base class by ``**``."""
    return accepted(cls)[0]


def accepted(target: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], bool]:
    """The keyword arguments of a class or function by name, and whether it may accept others, too.

    ``**`` of a class goes to its base class, whose arguments are included; outside musictag it may also go anywhere.
    """
    is_class = isinstance(target, type)
    found: dict[str, inspect.Parameter] = {}
    takes_more = False
    for owner in [base for base in target.__mro__ if "__init__" in vars(base)] if is_class else [target]:
        try:
            parameters = list(inspect.signature(owner.__init__ if is_class else owner).parameters.values())[is_class:]
        except (ValueError, TypeError):  # written in C
            return found, True
        found = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return found, takes_more
        takes_more |= not owner.__module__.startswith("musictag.")
    return found, True
