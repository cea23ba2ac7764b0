"""`python -m linearized.compare` is `linearized compare`; imported, this name is the function `linearized.compare`."""

import sys

if __name__ == "__main__":
    from linearized.cli.compare import command

    sys.exit(command())

from linearized.api.calls import compare

sys.modules[__name__] = compare  # importing this module must not replace the function `linearized.compare`
