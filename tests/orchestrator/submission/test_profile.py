"""Profiles of clusters: what is read, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import ProfileInvalid, UserError
from orchestrator.submission.profile import Profile, load_profile, parse_profile
from orchestrator.submission.profile_rules import KEYS

ROOT = Path(__file__).resolve().parents[3]
RAY = "cluster: lab\nkind: ray\n"
SLURM = "cluster: big\nkind: slurm\nstorage: /shared\n"


def problems(text: str) -> list[str]:
    with pytest.raises(ProfileInvalid) as found:
        parse_profile(text, "p.yaml")
    assert found.value.exit_code == 2
    return str(found.value).splitlines()


def test_every_key_reaches_its_field() -> None:
    text = """\
cluster: big
kind: slurm
storage: /shared/runs
mounted: /mnt/runs
data: /shared/data
nodes: 2
gpus_per_node: 4
cpus_per_node: 32
memory_per_node: 64G
partition: gpu
account: me
qos: high
time: "1-12:00:00"
image: docker://x
environment: {A: "1", B: two words}
forward: [MLFLOW_TOKEN]
setup: [module load cuda, source venv/bin/activate]
options: ["--constraint=a100"]
"""
    assert parse_profile(text, "p.yaml") == Profile(
        name="big",
        kind="slurm",
        storage="/shared/runs",
        mounted="/mnt/runs",
        data="/shared/data",
        nodes=2,
        gpus_per_node=4,
        cpus_per_node=32,
        memory_per_node="64G",
        partition="gpu",
        account="me",
        qos="high",
        time="1-12:00:00",
        image="docker://x",
        environment={"A": "1", "B": "two words"},
        forward=("MLFLOW_TOKEN",),
        setup=("module load cuda", "source venv/bin/activate"),
        options=("--constraint=a100",),
    )


@pytest.mark.parametrize("file", sorted((ROOT / "clusters").glob("*.yaml")), ids=lambda f: f.stem)
def test_an_example_is_valid_and_called_as_its_file(file: Path) -> None:
    assert load_profile(file).name == file.stem


def test_every_kind_reads_only_keys_that_there_are() -> None:
    known = {"cluster", *vars(Profile("x", "local"))} - {"name"}
    assert set().union(*KEYS.values()) == known


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clustr: x\nkind: ray\n", "p.yaml:1: clustr: unknown key. Did you mean 'cluster'?"),
        ("kind: ray\n", "p.yaml:1: cluster: required, and missing"),
        ("cluster: x\nkind: slrum\n", "p.yaml:2: kind: must be one of ray, slurm, kuberay, local; got"),
        ("", "p.yaml:1: is empty. A profile needs at least cluster and kind"),
        ("cluster: a/b\nkind: local\n", "p.yaml:1: cluster: must be letters, digits, _, - and ."),
        (f"{RAY}nodes: 2\n", "p.yaml:3: nodes: is read for kind slurm, kuberay only; got kind ray"),
        (f"{RAY}training: 2\n", "p.yaml:3: training: unknown key"),
        (f"{RAY}address: 127.0.0.1:8265\n", "address: must be the URL of a job server, such as http://127"),
        (f"{RAY}storage: runs\n", "p.yaml:3: storage: must be an absolute path or a URI; got 'runs'"),
        (f"{RAY}storage: s3://me:secret@host/b\n", "p.yaml:3: storage: must not hold a login"),
        (f"{RAY}forward: [A]\n", "Ray shows a job's variables to all its users"),
        (f"{RAY}options: [owner]\n", "options[0]: must be name=value for kind ray; got 'owner'"),
        (f"{RAY}environment: {{1X: a}}\n", "environment.1X: must be a variable's name; got '1X'"),
        (f"{RAY}environment: {{A: 1}}\n", "environment.A: must be text; got 1, which YAML reads as a whole"),
        (f"{RAY}environment: {{MY_TOKEN: abcdefgh}}\n", "Set it where the cluster's nodes start"),
        ("cluster: x\nkind: slurm\n", "p.yaml:1: storage: required, and missing"),
        ("cluster: x\nkind: kuberay\nstorage: /s\n", "p.yaml:1: image: required, and missing"),
        (f"{SLURM}nodes: 0\n", "p.yaml:4: nodes: must be at least 1; got 0"),
        (f"{SLURM}gpus_per_node: -1\n", "gpus_per_node: must be at least 0; got -1"),
        (f"{SLURM}cpus_per_node: 0\n", "cpus_per_node: must be at least 1; got 0"),
        (f"{SLURM}time: 24:00:00\n", 'time: must be text; got 24:00:00, which YAML reads as a whole'),
        (f'{SLURM}time: "24h"\n', "time: must be [D-]HH:MM:SS, such as 24:00:00; got '24h'"),
        (f"{SLURM}memory_per_node: 64\n", "memory_per_node: must be text"),
        (f"{SLURM}memory_per_node: 64GB\n", "must be a whole number and K, M, G or T, such as 64G; got"),
        (f"{SLURM}environment: {{MY_TOKEN: abcdefgh}}\n", "which must not be written into files. Export"),
        (f"{SLURM}environment: {{U: 'http://me:pass-word@h'}}\n", "environment.U: looks like a secret"),
        (f"{SLURM}environment: {{A: '${{HOME}}'}}\n", "no variable is filled in; got '${HOME}'"),
        (f"{SLURM}forward: [A-B]\n", "forward[0]: must be a variable's name; got 'A-B'"),
        (f'{SLURM}partition: "a\\nb"\n', "partition: must be one line without control characters"),
        (f'{SLURM}setup: ["a\\nb"]\n', "setup[0]: must be one line without control characters"),
        (f'{SLURM}environment: {{A: "a\\nb"}}\n', "environment.A: must be one line without"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_file_line_key_rule_and_value(text: str, says: str) -> None:
    found = problems(text)
    assert any(says in line for line in found[:-1]), found
    assert (
        found[-1] == f"{len(found) - 1} problem{'s' * (len(found) > 2)} in the profile; nothing was submitted"
    )


def test_all_problems_come_at_once_in_the_order_of_the_lines() -> None:
    found = problems("cluster: x\nkind: slurm\nnodes: 0\ntime: soon\nimge: x\n")
    assert [line.split(":")[1] for line in found[:-1]] == ["1", "3", "4", "5"]


def test_a_value_is_data_and_never_code() -> None:
    found = problems("cluster: !!python/object/apply:os.system [echo]\nkind: local\n")
    assert "cluster: must be text; got a list" in found[0]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.yaml: cannot be read \(No such file"):
        load_profile(tmp_path / "gone.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"cluster: \xff\n")
    with pytest.raises(ProfileInvalid, match="must be text in UTF-8"):
        load_profile(tmp_path / "bad.yaml")
