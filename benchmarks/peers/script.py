"""One process a trial: what a paper's training script is.

python -m benchmarks.peers.script JOB        trains the one trial of JOB (JSON)
"""

from __future__ import annotations

import sys

from benchmarks.peers.job import Job, write_result
from benchmarks.peers.training import run


def main() -> None:
    job = Job.loads(sys.argv[1])
    write_result(job, run(job, lambda epoch: print(epoch, flush=True)))


if __name__ == "__main__":
    main()
