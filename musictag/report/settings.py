"""The settings in which the runs of a study differ, and short names for their combinations.

Up to two settings that vary independently are factors of their own. More than that, settings that go together, and
settings that the user has named with ``label`` become one factor, NAMED: every combination gets a name, either the
label or its differences from BASE, the most common combination.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from musictag.experiment.identity import canonical, without
from musictag.experiment.run import make_run
from musictag.report.wording import GROUPS, LABELS, NAMED, SIZE, factor_label, shown

BASE = "base"
#: A key that a run does not have although others of its system do: another version, or the default of a library.
NOT_SET = "not set"
#: Keys that may differ between the runs of a system but are not factors of a study: the seed and the size.
_NO_FACTORS = ("seed", "seeds", "baseline._target_", "frontend._target_", "backend._target_", "data.num_songs", SIZE)
#: Characters of a name that states all differences; a longer one states one or two.
_LONGEST_NAME = 40
#: Two settings are crossed if more than this share of the combinations of their values exists.
_CROSSED = 0.75


@dataclass(frozen=True)
class Combination:
    """A line of the legend. ``values``: of all settings that vary and concern these systems, by dotted key;
    ``differences``: those that differ from the most common combination."""

    name: str
    systems: list[str]
    runs: int
    values: dict[str, Any]
    differences: dict[str, Any]


def read_settings(config: Mapping[str, Any], locations: Sequence[str], train_songs: int) -> dict[str, Any]:
    """Dotted keys of what a run depends on: a baseline has no network, and "all songs" becomes their number.

    ``config`` may be of a version that lacked some keys. A part that was left out (null) is a ``_target_`` of None.
    """
    known = {"lr_scaling": {"rule": "none"}, "callbacks": {}, **config}
    decides = canonical(make_run(known).deciding(locations))
    # what was taken over from a tuning study follows from system and size: it is no factor
    decides = without(decides, ((known.get("tuning") or {}).get("taken") or {}).get("settings", ()))
    found = {key: _hashable(value) for key, value in flat(decides).items()}
    if "trainer" in decides:  # keys that are left out where they are without effect
        found = {"trainer.batch_norm_shares": 1, "lr_scaling.rule": "none"} | found
        found |= {f"callbacks.{name}._target_": None for name, part in known["callbacks"].items() if part is None}
        found |= {f"{name}._target_": found.pop(name) for name in ("scheduler",) if found.get(name, name) is None}
    return found | {SIZE: train_songs}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a nested configuration by dotted key."""
    found = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


class Settings:
    """What varies between runs.

    ``found``, ``systems``, ``labels``: for each run its settings, system and label. ``keys``: all that vary within a
    system. ``factors``: those that are compared one by one, or NAMED for all of them together. ``conditions``: for each
    run its values of the factors; None where a setting does not concern the system at all. ``legend``: what the names
    stand for, BASE last; empty without NAMED.
    """

    def __init__(
        self, found: Sequence[Mapping[str, Any]], systems: Sequence[str], labels: Sequence[str | None]
    ) -> None:
        self._systems = systems
        self._concerned = {system: set(_keys_of(found, systems, system)) for system in systems}
        off = {key: value for value in (False, None) for of in found for key in of if of[key] is value}
        every = sorted({key for settings in found for key in settings} - set(_NO_FACTORS))
        skipped = tuple(f"{key}." for key in _NO_FACTORS)
        self._values = [
            {
                key: off.get(key, NOT_SET) if settings.get(key) is None else settings[key]
                for key in every
                if key in self._concerned[system] and not key.startswith(skipped)
            }
            for settings, system in zip(found, systems, strict=True)
        ]
        sizes = [settings[SIZE] for settings in found]
        others = [key for key in every if self._varies(key)]
        by_size = [SIZE] if self._distinct(sizes) else []
        self.keys = by_size + others
        self.legend: list[Combination] = []
        if any(labels) or not self._alone(others, by_size):
            names = self._name(others, labels)
            self.factors = by_size + ([NAMED] if self._distinct(names) else [])
        else:
            self.factors = [*by_size, *others]
        table = {SIZE: sizes} | {key: self._column(key) for key in others}
        if NAMED in self.factors:
            table[NAMED] = names
        else:  # the only name
            self.legend = []
        self.conditions = list(zip(*(table[key] for key in self.factors), strict=True)) or [()] * len(found)

    def order(self, condition: Sequence[Any]) -> tuple[tuple[int, float, str], ...]:
        """Sorts conditions: None first, then numbers, then words; named combinations like the legend."""
        places = {line.name: place for place, line in enumerate(self.legend)}
        return tuple(
            _sortable(places[value] if key == NAMED and value is not None else value)
            for key, value in zip(self.factors, condition, strict=True)
        )

    def _column(self, key: str) -> list[Any]:
        """The values of a key, lists in words; None is kept for the runs of systems that it does not concern."""
        return [
            shown(values[key]) if key in values and isinstance(values[key], tuple | None) else values.get(key)
            for values in self._values
        ]

    def _varies(self, key: str) -> bool:
        return self._distinct([repr(values.get(key)) for values in self._values])

    def _distinct(self, values: Sequence[Any]) -> bool:
        """Whether the values differ within a system."""
        return len(set(zip(self._systems, values, strict=True))) > len(set(self._systems))

    def _alone(self, keys: Sequence[str], by_size: Sequence[str]) -> bool:
        """Whether the keys are few enough, and vary independently enough, to be compared one by one."""
        if len(keys) < 2:
            return True
        if by_size or len(keys) > 2:  # two factors at most
            return False
        there = defaultdict(set)
        for system, values in zip(self._systems, self._values, strict=True):
            if all(key in values for key in keys):
                there[system].add(tuple(repr(values[key]) for key in keys))
        both = [pairs for pairs in there.values() if all(len(set(side)) > 1 for side in zip(*pairs, strict=True))]
        grids = [len({one for one, _ in pairs}) * len({other for _, other in pairs}) for pairs in both]
        return bool(both) and all(len(pairs) > _CROSSED * grid for pairs, grid in zip(both, grids, strict=True))

    def _name(self, keys: Sequence[str], labels: Sequence[str | None]) -> list[str | None]:
        """The name of each run's combination; None where the settings do not concern the system. Fills the legend."""
        base = self._base(keys)
        differences = [
            {key: values[key] for key in keys if key in values and values[key] != base[key]} for values in self._values
        ]
        differences = [_without_implied(of, base) for of in differences]
        given = _spread(labels, [_frozen(of) for of in differences])
        several = {
            system
            for system in set(self._systems)
            if len({label for label, own in zip(given, self._systems, strict=True) if own == system}) > 1
        }
        concerned = [
            system in several or any(key in values for key in keys)
            for system, values in zip(self._systems, self._values, strict=True)
        ]
        short = _names([of for of, label in zip(differences, given, strict=True) if label is None])
        # a label for several combinations of one system does not tell them apart
        used = defaultdict(set)
        for system, label, of in zip(self._systems, given, differences, strict=True):
            used[system, label].add(_frozen(of))
        unclear = {label for (_, label), combined in used.items() if label is not None and len(combined) > 1}
        full = _names(differences)
        names: list[str | None] = []
        for label, of, is_concerned in zip(given, differences, concerned, strict=True):
            name = short[_frozen(of)] if label is None else label
            if label in unclear or (label is None and name in given):
                name = f"{label or 'no label'}: {full[_frozen(of)]}"
            names.append(name if is_concerned else None)
        self.legend = self._lines(keys, names, differences)
        return names

    def _base(self, keys: Sequence[str]) -> dict[str, Any]:
        """The most common combination: the one that most runs agree with in the keys that they have, extended in the
        same way by keys that only other systems have."""
        own = sorted(({key: values[key] for key in keys if key in values} for values in self._values), key=repr)
        common = Counter(item for of in own for item in of.items())
        base: dict[str, Any] = {}

        def merit(combination: Mapping[str, Any]) -> tuple[float, ...]:
            agree = sum(_agrees(of, combination) for of in left)
            return agree, len(combination), sum(common[item] for item in combination.items())

        while left := [of for of in own if _agrees(of, base) and not of.keys() <= base.keys()]:
            base |= max(left, key=merit)
        for (key, value), _ in common.most_common():  # settings of systems that agree with no other in the rest
            base.setdefault(key, value)
        return base

    def _lines(
        self, keys: Sequence[str], names: Sequence[str | None], differences: Sequence[dict[str, Any]]
    ) -> list[Combination]:
        """The legend, the most common combination last."""
        lines: dict[tuple[str, frozenset], list[int]] = defaultdict(list)
        for place, name in enumerate(names):
            if name is not None:
                lines[name, _frozen(differences[place])].append(place)
        found = []
        for (name, _), places in lines.items():
            own = self._values[places[0]]
            systems = list(dict.fromkeys(self._systems[place] for place in places))
            values = {key: own[key] for key in keys if key in own}
            found.append(Combination(name, systems, len(places), values, differences[places[0]]))
        return sorted(found, key=lambda line: _place_in_legend(line.differences, line.name))


def _keys_of(found: Sequence[Mapping[str, Any]], systems: Sequence[str], system: str) -> Iterable[str]:
    return (key for settings, own in zip(found, systems, strict=True) if own == system for key in settings)


def _agrees(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(key, value) == value for key, value in other.items())


def _frozen(differences: Mapping[str, Any]) -> frozenset:
    return frozenset(differences.items())


def _without_implied(differences: dict[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys that another part, or none, does not have."""
    replaced = tuple(key.removesuffix("_target_") for key in differences if key.endswith("._target_"))
    return {
        key: value
        for key, value in differences.items()
        if not (value in (NOT_SET, None) and key.startswith(replaced) and not key.endswith("._target_"))
    }


def _spread(labels: Sequence[str | None], combined: Sequence[frozenset]) -> list[str | None]:
    """A label that one run of a combination has is that of all, unless others of them have another one."""
    known = defaultdict(set)
    for label, combination in zip(labels, combined, strict=True):
        known[combination] |= {label} - {None}
    return [
        next(iter(known[combination])) if label is None and len(known[combination]) == 1 else label
        for label, combination in zip(labels, combined, strict=True)
    ]


def _names(every: Sequence[Mapping[str, Any]]) -> dict[frozenset, str]:
    """A short unique name for each combination: its differences, or the fewest that no other one has, and +n."""
    distinct = {_frozen(of): of for of in every}
    said = _short_labels({key for of in every for key in of})
    names: dict[frozenset, str] = {}
    for frozen, of in sorted(distinct.items(), key=lambda item: _place_in_legend(item[1], "")):
        words = {key: f"{said[key]} {shown(_last_part(key, of[key]))}" for key in of}
        keys = sorted(of, key=lambda key: (not key.endswith("_target_"), key not in LABELS, len(words[key]), key))
        stated = keys
        if len(keys) > 1 and len(", ".join(words.values())) > _LONGEST_NAME:
            sets = (chosen for size in (1, 2) for chosen in combinations(keys, size))
            alone = (
                chosen
                for chosen in sets
                if not any(one != frozen and {(key, of[key]) for key in chosen} <= one for one in distinct)
            )
            stated = next(alone, keys[:2])
        more = f" +{len(keys) - len(stated)}" if len(stated) < len(keys) else ""
        name = ", ".join(words[key] for key in stated) + more or BASE
        taken = set(names.values())
        names[frozen] = next(
            one for one in (name, *(f"{name} ({number})" for number in range(2, len(distinct) + 2))) if one not in taken
        )
    return names


def _short_labels(keys: Collection[str]) -> dict[str, str]:
    """The last words of the keys, or more of them where several keys share these."""
    last = {}
    for key in keys:
        group, _, rest = key.removesuffix("._target_").partition(".")
        last[key] = factor_label(f"data.{rest.rpartition('.')[2]}" if rest and group in GROUPS else key)
    last |= {key: "lr" for key in keys if key == "optimizer.lr"}
    shared = Counter(last.values())
    return {key: words if shared[words] == 1 else factor_label(key) for key, words in last.items()}


def _last_part(key: str, value: Any) -> Any:
    return value.rpartition(".")[2] if key.endswith("_target_") and isinstance(value, str) else value


def _place_in_legend(differences: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    """BASE is last, as the most songs are: results are shown for the last condition first."""
    return not differences, *([(key, _sortable(value)) for key, value in sorted(differences.items())],), name


def _sortable(value: Any) -> tuple[int, float, str]:
    if value is None:
        return 0, 0.0, ""
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, str(value))


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
