"""``python -m tests.benchmarks [section ...]``"""

import sys

from tests.benchmarks import main
from musictag.errors import MusictagError

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MusictagError as error:
        sys.exit(str(error))
