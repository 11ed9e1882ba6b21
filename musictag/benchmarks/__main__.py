"""``python -m musictag.benchmarks [section ...]``"""

import sys

from musictag.benchmarks import main
from musictag.errors import MusictagError

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MusictagError as error:
        sys.exit(str(error))
