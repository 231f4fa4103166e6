# Stage `code` notes the modules that each other stage is made of. It is run when a run starts, and not as a job: one that
# everything depends on would make Snakemake run everything, whatever was edited.
import subprocess
import sys

NOTED = ".snakemake/keys/code.noted"  # says that it was run for the code as it is


def note_code():
    logger.info("Noting which modules each stage is made of: logs/code.log")
    Path("logs").mkdir(exist_ok=True)
    with open("logs/code.log", "w") as log:
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", "code"]
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode:
            said = Path("logs/code.log").read_text().strip().splitlines()
            stop(f"stage code failed: {said[-1] if said else 'DVC said nothing'} (logs/code.log has all)")


before_jobs.append(note_code)
if not all(Path(out).exists() for out in graph.stages["code"].outputs):
    Path(NOTED).unlink(missing_ok=True)
