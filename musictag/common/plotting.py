"""The look of all figures, and how they are made and saved."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from musictag.common.files import atomic_write

BLUE, ORANGE, GREEN, _RED, _INK, FAINT = "#2f6f9f", "#d9822b", "#4b8f6b", "#b04a4a", "#2b2b2b", "#7a7a7a"
LONGEST_NAME = 28

STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": "#bbbbbb",
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.parse_math": False,  # a tag name is not a formula, even with a dollar sign in it
}


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """``name`` as it fits beside an axis."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def new_figure(width_inches: float, height_inches: float) -> Figure:
    figure = Figure(figsize=(width_inches, height_inches), dpi=130, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
