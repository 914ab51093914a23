"""`python -m titan.lookback`: see server.py."""

import sys

from titan.lookback.server import main

sys.exit(main(sys.argv[1:]))
