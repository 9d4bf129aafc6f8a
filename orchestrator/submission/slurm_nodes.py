"""A Ray cluster of a Slurm job's own on its nodes: the shell text that starts it, waits for it and ends it.

Plain ``ray start`` under ``srun``, as ``ray symmetric-run`` ends every Ray process of the user on a shared
node, and does not hand a signal on to the study.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from orchestrator.submission.apptainer import contained
from orchestrator.submission.job import Job
from orchestrator.submission.shell import head

NODE, _LOG = "node.sh", "nodes.log"
_WAIT_SECONDS = 300
"""How long the nodes are waited for: shared file systems are slow."""

_PORT = """\
free_port() {
  # Below what systems give out of themselves, above what Ray's workers take.
  local port
  while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}"""

_ADDRESS = """\
# The node of this script is the head. Its address is what Slurm calls it by, if others can reach that.
address=${ORCHESTRATE_HEAD_ADDRESS:-}
if [ -z "$address" ]; then
  named=$(scontrol show node "$SLURMD_NODENAME" --oneliner | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p')
  address=$(getent ahostsv4 "${named:-$SLURMD_NODENAME}" | awk '{print $1; exit}')
  case $address in ''|127.*) address=$(hostname -I | awk '{print $1}');; esac
fi
export ORCHESTRATE_HEAD_NODE=$SLURMD_NODENAME ORCHESTRATE_HEAD_ADDRESS=$address
ORCHESTRATE_HEAD_PORT=$(free_port)
# Nobody else can talk to this cluster: the token is in the job's environment, and written nowhere.
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')
export ORCHESTRATE_HEAD_PORT RAY_AUTH_TOKEN RAY_AUTH_MODE=token"""

_READY = """\
ready() { grep -c 'Ray runtime started' "$nodes_log"; }
settled() { grep -c -E 'Ray runtime started|^(the head|a worker) on .* has ended' "$nodes_log"; }
head_answers() { (exec 3<>"/dev/tcp/$address/$ORCHESTRATE_HEAD_PORT") 2>/dev/null; }
end_cluster() {
  # srun hands it on to every node; of TERM it would make a KILL. What does not end by then ends with the job.
  [ -n "$cluster" ] && kill -USR1 "$cluster" 2>/dev/null || return
  for _ in {1..30}; do kill -0 "$cluster" 2>/dev/null || break; sleep 0.5; done
}
deadline=$((SECONDS + wait_seconds))
while [ -z "$stopped" ] && [ "$(settled)" -lt "$nodes" ] && [ "$SECONDS" -lt "$deadline" ] \\
  && kill -0 "$cluster" 2>/dev/null && ! grep -q '^the head on .* has ended' "$nodes_log"; do sleep 1; done
if [ -n "$stopped" ]; then :
elif ! head_answers; then
  echo "The head of the Ray cluster did not start ($nodes_log):" >&2
  tail -n 20 "$nodes_log" >&2
  stopped=yes code=1
elif [ "$(ready)" -lt "$nodes" ]; then
  echo "Only $(ready) of $nodes nodes are ready: the study begins there. See $nodes_log"
fi
export RAY_ADDRESS=$address:$ORCHESTRATE_HEAD_PORT"""


def cluster(job: Job) -> Iterator[str]:
    """Start a Ray cluster on the job's nodes, and wait until it is ready."""
    nodes = job.profile.nodes
    yield _PORT
    yield _ADDRESS
    yield f"nodes={nodes} wait_seconds={_WAIT_SECONDS}"
    yield f"nodes_log={shlex.quote(str(job.home / _LOG))}"
    yield ': > "$nodes_log"'
    yield "# The study outlives a node; steps do not inherit the processors that a job was given."
    yield (
        f"srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 --input=none "
        "--kill-on-bad-exit=0 --wait=0 --export=ALL "
        '${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} '
        f'bash {shlex.quote(str(job.home / NODE))} >> "$nodes_log" 2>&1 &'
    )
    yield "cluster=$!"
    yield _READY


_NODE_END = """\
ray=$! told= grace=0
end() { grace=$1; told=${told:-$SECONDS}; kill -TERM "$ray" 2>/dev/null; }
# Slurm's own word: a study needs up to 10 s to stop, and Ray would take 30 s to end.
trap 'end 15' TERM INT
# The batch script's: the study is over.
trap 'end 2' USR1
while kill -0 "$ray" 2>/dev/null; do
  [ -z "$told" ] || [ $((SECONDS - told)) -lt "$grace" ] || kill -KILL "$ray" 2>/dev/null
  sleep 0.5 & wait $!
done
wait "$ray"; code=$?
rm -rf "$folder"
echo "$part on $SLURMD_NODENAME has ended with status $code"
exit "$code"
"""


def node(job: Job) -> Iterator[str]:
    """What each node runs: its part of the Ray cluster, until it is told to end."""
    ray = shlex.join(contained(job.profile, ("ray", "start")))
    yield from head(job)
    yield "SECONDS=0"
    yield _PORT
    yield "# Short, as sockets live in it, and this job's alone."
    yield "folder=$(mktemp -d /tmp/ray.XXXXXX) || exit 1"
    yield "export RAY_USAGE_STATS_ENABLED=0"
    yield (
        'options=(--block --disable-usage-stats --temp-dir="$folder" --object-store-memory=104857600 '
        '--num-cpus="${SLURM_CPUS_ON_NODE:-1}" --dashboard-agent-listen-port="$(free_port)")'
    )
    yield '[ -z "${SLURM_GPUS_ON_NODE:-}" ] || options+=(--num-gpus="$SLURM_GPUS_ON_NODE")'
    yield 'if [ "$SLURMD_NODENAME" = "$ORCHESTRATE_HEAD_NODE" ]; then'
    yield "  part='the head'"
    yield "  AUTOSCALER_METRIC_PORT=$(free_port) DASHBOARD_METRIC_PORT=$(free_port)"
    yield "  export AUTOSCALER_METRIC_PORT DASHBOARD_METRIC_PORT"
    yield '  options+=(--head --node-ip-address="$ORCHESTRATE_HEAD_ADDRESS" --port="$ORCHESTRATE_HEAD_PORT")'
    yield "  options+=(--include-dashboard=false)"
    yield "else"
    yield "  part='a worker'"
    yield '  until (exec 3<>"/dev/tcp/$ORCHESTRATE_HEAD_ADDRESS/$ORCHESTRATE_HEAD_PORT") 2>/dev/null; do'
    yield f'    [ "$SECONDS" -lt {_WAIT_SECONDS} ] || {{ echo "the head does not answer" >&2; exit 1; }}'
    yield "    sleep 1"
    yield "  done"
    yield '  options+=(--address="$ORCHESTRATE_HEAD_ADDRESS:$ORCHESTRATE_HEAD_PORT")'
    yield "fi"
    yield f'{ray} "${{options[@]}}" &'
    yield _NODE_END.rstrip()
