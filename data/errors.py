"""The one exception for what a user can cause and mend: told in one line, an exit code, no traceback."""


class UserError(ValueError):
    """Says what is wrong, what came in and what to do next."""

    code = 2  # a command's exit code


class TryLater(UserError):
    """Nothing is wrong: another process is at work on the same thing."""

    code = 75  # as sysexits.h has it for "try again later"
