# One line instead of a traceback for a mistake in params.yaml or dvc.yaml.
from snakemake.exceptions import WorkflowError

from distilled_circuits.errors import UserError


def or_stop(read, *arguments):
    """Return what `read` returns, or stop Snakemake with the one line that explains the mistake."""
    try:
        return read(*arguments)
    except UserError as error:
        raise WorkflowError(str(error)) from None
