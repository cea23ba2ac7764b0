"""Run the console command `linearized compare` as `python -m linearized.compare`.

An import of this module does not replace the function `linearized.compare`.
"""

import sys

if __name__ == "__main__":
    from linearized.cli.compare import command

    sys.exit(command())

from linearized.api.calls import compare

sys.modules[__name__] = compare  # importing this module must not replace the function `linearized.compare`
