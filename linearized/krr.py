"""Run the console command `linearized krr` as `python -m linearized.krr`.

When this module is imported instead, the name `linearized.krr` still refers to the function of that name.
"""

import sys

if __name__ == "__main__":
    from linearized.cli.krr import command

    sys.exit(command())

from linearized.api.calls import krr

sys.modules[__name__] = krr  # importing this module must not replace the function `linearized.krr`
