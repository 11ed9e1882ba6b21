"""Hydra's `instantiate` for the parts that a configuration names by `_target_`, with errors before any work starts.

A part may be any class or function that can be imported: of musictag, Lightning, PyTorch or the user. Values that are
only known at run time (the run folder, the configuration) are passed to the parts that have an argument for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from musictag.common.errors import MusictagError
from musictag.models.factory import accepted, lists_of, targets

T = TypeVar("T")
_HYDRAS_OWN = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")


def make(key: str, spec: Any, contract: type[T] | tuple[type[T], ...], **derived: Any) -> T:
    """The part that ``spec`` describes, at ``key`` of the configuration, which must be a ``contract``.

    ``derived``: arguments that are not in the configuration; those that the part does not have are omitted.
    Raises MusictagError as ``check_part`` does, and for settings that the part itself refuses.
    """
    check_part(key, spec)
    target = get_object(spec["_target_"])
    parameters, _ = accepted(target)
    taken = {name: value for name, value in derived.items() if name in parameters and name not in spec}
    spec = lists_of(spec, parameters)  # single values where lists are wanted
    # plain values bypass OmegaConf, which would take the ${ in a file's name for an interpolation: all are resolved
    parts = {name: value for name, value in spec.items() if name in _HYDRAS_OWN or list(targets(value))}
    plain = {name: value for name, value in spec.items() if name not in parts}
    with refusals(key):
        part = instantiate(parts, _partial_=True, _convert_="all")(**plain, **taken)
    if not isinstance(part, contract):
        wanted = contract if isinstance(contract, tuple) else (contract,)
        names = " or ".join(f"{cls.__module__}.{cls.__qualname__}" for cls in wanted)
        raise MusictagError(f"{key}._target_={spec['_target_']} makes a {type(part).__name__}, not a {names}")
    return part


def make_partial(key: str, spec: Any) -> partial:
    """The same for a part that is called later with its remaining arguments: an optimizer, a scheduler."""
    check_part(key, spec)
    with refusals(key):
        return instantiate(spec, _partial_=True, _convert_="all")


def check_part(key: str, spec: Any) -> None:
    """Raise MusictagError if ``spec`` is not a part: no ``_target_``, one that cannot be imported, or unknown keys."""
    if not isinstance(spec, Mapping) or not isinstance(spec.get("_target_"), str):
        raise MusictagError(
            f"{key} has no _target_; set {key}._target_ to the dotted name of a class, or choose a file of the group"
        )
    try:
        target = get_object(spec["_target_"])
    except Exception as error:  # importing runs code, which may raise anything
        raise MusictagError(f"{key}._target_={spec['_target_']} cannot be imported: {_root(error)}") from error
    parameters, takes_more = accepted(target)
    given = [name for name in spec if name not in _HYDRAS_OWN]
    if (unknown := [name for name in given if name not in parameters]) and not takes_more:
        raise MusictagError(f"{key} has no key {', '.join(unknown)}; {closest(unknown[0], parameters)}")
    for name in given:
        if isinstance(spec[name], Mapping) and "_target_" in spec[name]:
            check_part(f"{key}.{name}", spec[name])


def closest(name: str, allowed: Any) -> str:
    """What to use instead of ``name``: the nearest of the ``allowed`` names, then all of them."""
    near = get_close_matches(name, allowed, n=3, cutoff=0.5)
    everything = f"it has {', '.join(allowed) or 'none'}"
    return f"did you mean {' or '.join(near)}? {everything}" if near else everything


@contextmanager
def refusals(key: str) -> Iterator[None]:
    """Turns errors of a part or of Hydra into a MusictagError that names the key."""
    try:
        yield
    except MusictagError:
        raise
    except Exception as error:
        cause = _root(error)
        if isinstance(cause, MusictagError):
            raise cause from error
        raise MusictagError(f"{key} cannot be created with these settings: {cause}. See the {key}.* keys") from error


def _root(error: BaseException) -> BaseException:
    """The original error, which Hydra wraps."""
    while isinstance(error, InstantiationException | ImportError) and error.__cause__ is not None:
        error = error.__cause__
    return error
