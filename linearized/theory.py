"""Run the console command `linearized theory` as `python -m linearized.theory`.

An import of this module does not replace the function `linearized.theory`.
"""

import sys

if __name__ == "__main__":
    from linearized.cli.theory import command

    sys.exit(command())

from linearized.api.calls import theory

sys.modules[__name__] = theory  # importing this module must not replace the function `linearized.theory`
