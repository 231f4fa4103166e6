# One run at a time in a folder, and what a killed one left behind.
KEYS_AS_WRITTEN = {}  # by this process; empty while another run is at work


def refuse_read_only():
    """Say before anything runs which folder cannot be written to; each program would say it in its own way."""
    for folder in (".", ".snakemake", "results", "logs", ".dvc/cache", ".dvc/tmp"):
        if Path(folder).exists() and not os.access(folder, os.W_OK):
            stop(f"{Path(folder).resolve()} cannot be written to: make it writable, then start again")


def take_run_lock():
    """Open the lock of this folder's runs, or return None where another process holds it; it dies with its process."""
    Path(".snakemake").mkdir(exist_ok=True)
    file = open(".snakemake/run.lock", "w")
    for _ in range(20):  # whoever only plans holds it for a moment
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            time.sleep(0.1)
    file.close()
    return None


def refuse_second_run():
    """Hold the lock as long as this process lives: a second run would delete outputs that the first one reads."""
    global run_lock
    run_lock = take_run_lock()
    if run_lock is None or not KEYS_AS_WRITTEN:
        stop("another snakemake run is at work in this folder: wait until it ends or stop it")
    if any(file.read_text() != content for file, content in KEYS_AS_WRITTEN.items()):
        stop("another snakemake was started in this folder with other parameters meanwhile: start again")


def jobs_left_behind():
    """Processes in this folder of jobs whose snakemake was killed: only asked while no living run holds the lock."""
    marks = [(p.pid, p.info["cwd"], " ".join(p.info["cmdline"] or [])) for p in psutil.process_iter(["cwd", "cmdline"])]
    # A stage outlives its DVC too, and would write over what a new one made.
    at_work = ("dvc --wait-for-lock", "distilled-circuits run ", "around_dvc")
    mine = [(pid, command) for pid, cwd, command in marks if cwd == os.getcwd()]
    here = [f"process {pid}" for pid, command in mine if any(mark in command for mark in at_work)]
    return here + cluster_jobs_left_behind()


def cluster_jobs_left_behind():
    """The same in a cluster's queue: Slurm jobs that a snakemake in this folder submitted, which are named by its run."""
    if shutil.which("squeue") is None:
        return []
    asked = ["squeue", "--me", "--noheader", "--format=%i %j %Z"]
    said = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    submitted = re.findall(r"^(\S+) \S*[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12} (.+)$", said, re.MULTILINE)
    own = os.environ.get("SLURM_JOB_ID")
    return [f"Slurm job {job}" for job, folder in submitted if folder == os.getcwd() and job != own]


def wait_for_jobs_left_behind():
    """Let orphaned jobs finish: DVC records what they made, and two of a kind would block each other."""
    left = jobs_left_behind()
    if left:
        logger.info(f"Jobs of a killed run are still at work; waiting for {', '.join(left)}.")
    while left:
        time.sleep(2 if "Slurm" in left[-1] else 0.5)
        left = jobs_left_behind()
    # DVC takes a killed process that nobody has reaped yet for a living one, and its locks for held; killed while it
    # wrote them, it left a file that it cannot read.
    locks = Path(".dvc/tmp/rwlock")
    holders = set(map(int, re.findall(r'"pid": (\d+)', locks.read_text()))) if locks.exists() else set()
    if not any(is_alive(pid) for pid in holders):
        locks.unlink(missing_ok=True)
    forget_empty_runs(or_stop(cache_of, Path()).folder)
    if mend_lock():  # what it lost was not planned for
        stop("jobs of a killed run have ended only now: start again")


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def mend_lock():
    """Make dvc.lock readable, which DVC rewrites in place and is killed meanwhile; return whether it was not."""
    text = read_lock()
    problem = problem_of(text) if Path(LOCK).exists() else None
    if problem == "conflict":
        stop("dvc.lock has the marks of a merge: keep one side (git checkout --ours dvc.lock), then start again")
    if problem:
        logger.info("dvc.lock was cut short, as by a killed run; what it lost comes back from DVC's cache.")
        rewrite_lock(whole_entries(text))
    return problem is not None
