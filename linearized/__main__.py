"""Run the console command as `python -m linearized COMMAND ...`."""

import sys

from linearized.cli import main

if __name__ == "__main__":
    sys.exit(main())
