"""Run the console command `linearized theory` as `python -m linearized.theory`.

When this module is imported instead, the name `linearized.theory` still refers to the function of that name.
"""

import sys

if __name__ == "__main__":
    from linearized.cli.theory import command

    sys.exit(command())

from linearized.api.calls import theory

sys.modules[__name__] = theory  # importing this module must not replace the function `linearized.theory`
