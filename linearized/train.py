"""`python -m linearized.train` is `linearized train`; imported, this name is the function `linearized.train`."""

import sys

if __name__ == "__main__":
    from linearized.cli.train import command

    sys.exit(command())

from linearized.api.calls import train

sys.modules[__name__] = train  # importing this module must not replace the function `linearized.train`
