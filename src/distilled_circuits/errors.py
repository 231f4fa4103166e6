"""The one exception that reaches a person: a mistake they can mend, said in one line without a traceback."""


class UserError(Exception):
    """What is wrong, where, and what to do; the command line prints it and exits with status 2."""
