"""Run the console command `linearized compare` as `python -m linearized.compare`.

When this module is imported instead, the name `linearized.compare` still refers to the function of that name.
"""

import sys

if __name__ == "__main__":
    from linearized.cli.compare import command

    sys.exit(command())

from linearized.api.calls import compare

sys.modules[__name__] = compare  # importing this module must not replace the function `linearized.compare`
