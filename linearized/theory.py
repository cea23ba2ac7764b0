"""`python -m linearized.theory` is `linearized theory`; imported, this name is the function `linearized.theory`."""

import sys

if __name__ == "__main__":
    from linearized.cli.theory import command

    sys.exit(command())

from linearized.api.calls import theory

sys.modules[__name__] = theory  # importing this module must not replace the function `linearized.theory`
