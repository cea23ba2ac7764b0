"""Run the console command `linearized train` as `python -m linearized.train`.

An import of this module does not replace the function `linearized.train`.
"""

import sys

if __name__ == "__main__":
    from linearized.cli.train import command

    sys.exit(command())

from linearized.api.calls import train

sys.modules[__name__] = train  # importing this module must not replace the function `linearized.train`
