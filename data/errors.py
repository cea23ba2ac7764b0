"""The one exception for what a user can cause and mend: told in one line, exit code 2, no traceback."""


class UserError(ValueError):
    """Says what is wrong, what came in and what to do next."""
