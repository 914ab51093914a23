"""`python -m titan.cli` is `titan`."""

import sys

from titan.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
