"""LightGBM's text format of a model, checked line by line before LightGBM parses it.

Its C++ parser is written for its own files: inconsistent numbers make it read out of bounds, or loop. So the text is
parsed here, every number that controls the parser is compared with the others, and LightGBM gets a text rebuilt from
what was checked. What only describes the training, half of the text, is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

_HEADER = (
    ("version", r"v\d"), ("num_class", "1"), ("num_tree_per_iteration", "1"), ("label_index", "0"),
    ("max_feature_idx", r"\d{1,6}"), ("objective", "binary sigmoid:1|regression"), ("feature_names", r"[\w ]*"),
    ("feature_infos", r"(?:(?:none|\[[-+.\deinf]+:[-+.\deinf]+\]) ?)*"), ("tree_sizes", r"(?:\d+ ?)*"),
)  # fmt: skip
#: For a tree with n leaves: n - 1 numbers, one per branching, or n, one per leaf.
_OF_BRANCHINGS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_WHOLE = ("split_feature", "decision_type", "left_child", "right_child")
_TREE = ("num_leaves", "num_cat", *_OF_BRANCHINGS, "leaf_value", "is_linear", "shrinkage")
_NOT_NEEDED = ("split_gain=", "internal_value=", "internal_weight=", "internal_count=", "leaf_weight=", "leaf_count=")
_MAX_LEAVES = 131_072
#: numbers, missing values go left; how those are marked (none, zero, NaN)
_DECISIONS = {0, 2, 4, 6, 8, 10}
_END = "end of trees\n\nfeature_importances:\n\nparameters:\nend of parameters\n\npandas_categorical:null\n"


def checked_trees(text: str) -> str:
    """``text`` as LightGBM may read it; raises ValueError with the reason if LightGBM cannot have written it."""
    lines = iter([line for line in text.split("\n") if not line.startswith(_NOT_NEEDED)])
    if next(lines) != "tree":
        raise ValueError("it does not begin with the word tree")
    header = {}
    for name, allowed in _HEADER:
        header[name] = _value(lines, name)
        if not re.fullmatch(allowed, header[name]):
            raise ValueError(f"{name}={header[name]:.40} is not what musictag fits")
    features = int(header["max_feature_idx"]) + 1
    if {len(header[name].split()) for name in ("feature_names", "feature_infos")} != {features}:
        raise ValueError(f"it does not name {features} features")
    trees = []
    for line in lines:
        if line == "end of trees":
            break
        if line:
            trees.append(_tree(line, lines, len(trees), features))
    else:
        raise ValueError("its end is missing")
    # LightGBM jumps by these sizes, so they are computed again
    header["tree_sizes"] = " ".join(str(len(tree)) for tree in trees)
    return "tree\n" + "".join(f"{k}={v}\n" for k, v in header.items()) + "\n" + "".join(trees) + _END


def _value(lines: Iterator[str], name: str) -> str:
    key, _, value = next(lines, "").partition("=")
    if key != name:
        raise ValueError(f"{name} is missing")
    return value


def _tree(first: str, lines: Iterator[str], number: int, features: int) -> str:
    if first != f"Tree={number}":
        raise ValueError(f"tree {number} is missing")
    fields = {name: _value(lines, name) for name in _TREE}
    if not re.fullmatch(r"\d{1,6}", fields["num_leaves"]) or not 1 <= int(fields["num_leaves"]) <= _MAX_LEAVES:
        raise ValueError(f"tree {number} has {fields['num_leaves']:.40} leaves")
    if (fields["num_cat"], fields["is_linear"]) != ("0", "0"):
        raise ValueError(f"tree {number} is of a kind that musictag does not fit")
    leaves = int(fields["num_leaves"])
    for name in (*_OF_BRANCHINGS, "leaf_value", "shrinkage"):
        wanted = 1 if name == "shrinkage" else leaves - (name in _OF_BRANCHINGS)
        numbers = [float(word) for word in fields[name].split()]
        # a tree with a single leaf has only its value
        if len(numbers) != wanted and not (leaves == 1 and name != "leaf_value" and len(numbers) <= 1):
            raise ValueError(f"tree {number}: {len(numbers)} numbers of {name}, not {wanted}")
        if any(map(math.isnan, numbers)) or (name == "leaf_value" and any(map(math.isinf, numbers))):
            raise ValueError(f"tree {number}: {name} holds values that are not numbers")
        if name in _WHOLE and any(not re.fullmatch(r"-?\d{1,9}", word) for word in fields[name].split()):
            raise ValueError(f"tree {number}: {name} holds values that are not integers")
    if leaves > 1:
        _check_walk({name: [int(word) for word in fields[name].split()] for name in _WHOLE}, leaves, number, features)
    return f"Tree={number}\n" + "".join(f"{name}={value}\n" for name, value in fields.items()) + "\n\n"


def _check_walk(of: dict[str, list[int]], leaves: int, number: int, features: int) -> None:
    """Every path from the root ends in a leaf: a branching has a higher number than its parent."""
    if not all(0 <= feature < features for feature in of["split_feature"]):
        raise ValueError(f"tree {number} uses a feature that does not exist")
    if not set(of["decision_type"]) <= _DECISIONS:
        raise ValueError(f"tree {number} uses a kind of decision that musictag does not fit")
    for parent, children in enumerate(zip(of["left_child"], of["right_child"], strict=True)):
        if not all(parent < child < leaves - 1 or -leaves <= child < 0 for child in children):
            raise ValueError(f"tree {number}: branching {parent} leads nowhere")
