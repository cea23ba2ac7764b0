"""Run the console command `linearized train` as `python -m linearized.train`.

When this module is imported instead, the name `linearized.train` still refers to the function of that name.
"""

import sys

if __name__ == "__main__":
    from linearized.cli.train import command

    sys.exit(command())

from linearized.api.calls import train

sys.modules[__name__] = train  # importing this module must not replace the function `linearized.train`
