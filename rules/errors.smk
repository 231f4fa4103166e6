# One line instead of a traceback for a mistake in params.yaml or dvc.yaml.
import sys

from distilled_circuits.errors import UserError


def or_stop(read, *arguments):
    """Return what `read` returns, or stop Snakemake with the one line that explains the mistake."""
    try:
        return read(*arguments)
    except UserError as error:
        # A WorkflowError would add the lines of these rules, which are not where the mistake is.
        sys.exit(f"distilled-circuits: {error}")
