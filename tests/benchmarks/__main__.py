"""``python -m tests.benchmarks [section ...]``"""

import sys

from musictag.common.errors import MusictagError
from tests.benchmarks import main

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MusictagError as error:
        sys.exit(str(error))
