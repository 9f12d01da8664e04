"""`python -m redline.cli`."""

import sys

from redline.cli import main

if __name__ == "__main__":
    sys.exit(main())
