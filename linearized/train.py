"""`python -m linearized.train` is `linearized train`; imported, this name is the function `linearized.train`."""

import sys

if __name__ == "__main__":
    from linearized.cli.train import command

    sys.exit(command())

from linearized.api.calls import train

sys.modules[__name__] = train  # this is what the import hands on: the function stays
