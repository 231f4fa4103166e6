# One line instead of a traceback for what a person can put right.
import sys

from distilled_circuits.errors import UserError
from distilled_circuits.failures import in_one_line


def stop(message):
    """End Snakemake with one line; a WorkflowError would add the lines of these rules, where the mistake is not."""
    sys.exit(f"distilled-circuits: {message}")


def or_stop(read, *arguments):
    """Return what `read` returns, or stop Snakemake with the one line that explains the mistake."""
    try:
        return read(*arguments)
    except UserError as error:
        stop(error)
    except OSError as error:
        stop(in_one_line(error, "snakemake") or error)
