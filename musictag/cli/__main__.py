"""`python -m musictag.cli`: the same as `musictag`."""

from __future__ import annotations

import sys

from musictag.cli import main

sys.exit(main())
