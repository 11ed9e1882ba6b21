"""`musictag plan`: hours, gigabytes and cost of a training, on paper."""

from __future__ import annotations

import argparse

from musictag.planning.arithmetic import make_plan
from musictag.planning.settings import Settings
from musictag.planning.show import as_dict, print_json, print_plan


def main(options: argparse.Namespace) -> int:
    """Print the plan that the options of the command line ask for; returns the exit status.

    Raises MusictagError for options that are out of range, unknown, or contradict each other.
    """
    settings = Settings(options)
    plan = make_plan(settings.numbers)
    if options.json:
        print_json(as_dict(plan, settings.model, settings.assumptions))
    else:
        print_plan(plan, settings.model, settings.assumptions)
    return 0
