"""Run the console command `linearized krr` as `python -m linearized.krr`.

An import of this module does not replace the function `linearized.krr`.
"""

import sys

if __name__ == "__main__":
    from linearized.cli.krr import command

    sys.exit(command())

from linearized.api.calls import krr

sys.modules[__name__] = krr  # importing this module must not replace the function `linearized.krr`
