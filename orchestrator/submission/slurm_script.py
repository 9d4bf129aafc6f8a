"""The batch script of a Slurm job."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.submission import slurm_nodes
from orchestrator.submission.apptainer import contained
from orchestrator.submission.job import Job
from orchestrator.submission.shell import head, surroundings, text

SCRIPT, LOG, EXIT = "job.sh", "log.txt", "exit-status"
_LATE_SECONDS = 90
"""How long before its time is up Slurm says so, or up to a minute earlier; a study stops within 10 s."""


def scripts(job: Job) -> Mapping[str, str]:
    """The scripts by name; a second one is for each of several nodes.

    Raises: UserError where Slurm could not write a log into the job's folder.
    """
    profile = job.profile
    if set("%\\") & set(str(job.home)):
        raise UserError(
            f"storage: must hold no % and no \\: Slurm replaces them in a log's path; got {profile.storage!r}"
        )
    lines = [
        *head(job),
        *(f"#SBATCH {option}" for option in _options(job)),
        *_beginning(job),
        *surroundings(profile),
        # A line of the setup may have made the shell leave at the first command that fails.
        "set +e +u",
        *(slurm_nodes.cluster(job) if profile.nodes > 1 else ()),
        *_study(job),
        *_end(job),
    ]
    node = {slurm_nodes.NODE: text(slurm_nodes.node(job))} if profile.nodes > 1 else {}
    return {SCRIPT: text(lines), **node}


def _options(job: Job) -> Iterator[str]:
    """What Slurm is asked for, each as it stands behind ``#SBATCH``."""
    profile = job.profile
    yield f"--job-name={_word(job.id)}"
    yield f"--output={_word(str(job.home / LOG))}"
    yield "--open-mode=append"
    yield "--requeue"
    yield f"--signal=B:USR1@{_LATE_SECONDS}"
    yield f"--nodes={profile.nodes}"
    yield "--ntasks-per-node=1"
    named = {
        "cpus-per-task": profile.cpus_per_node,
        "gpus-per-node": profile.gpus_per_node or None,
        "mem": profile.memory_per_node,
        "time": profile.time,
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
    }
    yield from (f"--{name}={_word(str(value))}" for name, value in named.items() if value is not None)
    yield from profile.options


def _word(value: str) -> str:
    """A value as Slurm reads it: in double quotes, where a backslash stands before a quote or a backslash."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _beginning(job: Job) -> Iterator[str]:
    exit_status, ledger = job.home / EXIT, Path(job.profile.storage or "") / job.study / "ledger.jsonl"
    yield "child= cluster= stopped= late= code=143"
    yield 'stop() { stopped=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null; }'
    yield "trap stop TERM INT"
    yield "# Slurm says so when the time is nearly up; whatever else ends the job comes as TERM."
    yield "trap 'late=yes; stop' USR1"
    yield f"ledger={shlex.quote(str(ledger))}"
    yield 'progress() { grep -c -E \'"event":"(reported|finished)"\' "$ledger" 2>/dev/null || true; }'
    yield "before=$(progress)"
    yield f"rm -f {shlex.quote(str(exit_status))}"
    yield "# Only a cluster of this job's own will do."
    yield "unset RAY_ADDRESS"
    yield "# Where nothing else offers the commands: the installation that submitted."
    yield f"export PATH=$PATH:{shlex.quote(str(Path(sys.executable).parent))}"


def _study(job: Job) -> Iterator[str]:
    """Run the study in the background, as a shell hears no signal while it waits in the foreground."""
    yield 'if [ -z "$stopped" ]; then'
    yield f"  {shlex.join(contained(job.profile, job.command))} &"
    yield "  child=$!"
    yield '  [ -z "$stopped" ] || kill -TERM "$child" 2>/dev/null'
    yield "  # A signal ends the wait, not the study."
    yield "  while stopped=; do"
    yield '    wait "$child"; waited=$?'
    yield '    [ "$waited" -eq 127 ] && [ "$code" -ne 143 ] || code=$waited'
    yield '    [ -n "$stopped" ] || break'
    yield "  done"
    yield "fi"


def _end(job: Job) -> Iterator[str]:
    exit_status = shlex.quote(str(job.home / EXIT))
    if job.profile.nodes > 1:
        yield "end_cluster"
    yield 'if [ -n "$late" ] && { [ "$code" -eq 130 ] || [ "$code" -eq 143 ]; }; then'
    yield "  after=$(progress)"
    yield '  if [ "${after:-0}" -gt "${before:-0}" ]; then'
    yield '    echo "The time is up: the job goes to the queue again, and the study goes on."'
    yield "    # Slurm tells every process of a job that is requeued to end."
    yield "    trap '' TERM INT USR1"
    yield '    scontrol requeue "$SLURM_JOB_ID" && exit "$code"'
    yield '    echo "Slurm did not requeue the job: submit the study again to go on."'
    yield "  else"
    yield '    echo "The time is up, and it was too short for a single epoch: not requeued, give it more."'
    yield "  fi"
    yield "fi"
    yield f'echo "$code" > {exit_status}.new && mv {exit_status}.new {exit_status}'
    yield 'exit "$code"'
