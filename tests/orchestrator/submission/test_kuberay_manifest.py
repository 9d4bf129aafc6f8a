"""The RayJob of a profile, also against KubeRay's published schema."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from orchestrator.errors import UserError
from orchestrator.submission import kuberay, kuberay_manifest
from orchestrator.submission.profile import Profile
from tests.orchestrator.submission.cases import NASTY
from tests.orchestrator.submission.rayjobs import FULL, NAME, SMALL, STORED, made


def manifest(profile: Profile) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kuberay.render(made(profile))["rayjob.json"])
    return found


# -- the manifest -------------------------------------------------------------------------------------------


def test_a_profile_becomes_a_rayjob() -> None:
    about = manifest(FULL)
    spec = about.pop("spec")
    cluster = spec.pop("rayClusterSpec")
    assert about == {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": NAME,
            "namespace": "research",
            "annotations": {"orchestrate/submission": NAME},
            "labels": {"team": "vision", "kueue.x-k8s.io/queue-name": "local-queue"},
        },
    }
    assert yaml.safe_load(spec.pop("runtimeEnvYAML")) == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "30"}}
    assert spec == {
        "entrypoint": "bash /shared/runs/submissions/x/job.sh",
        "metadata": {"study": "small", "commit": "5c14bc6"},
        "submissionMode": "K8sJobMode",
        "backoffLimit": 2,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "activeDeadlineSeconds": 93784,  # 24 * 3600 + 2 * 3600 + 3 * 60 + 4
        "suspend": True,
    }
    resources = {"cpu": "32", "memory": "64Gi", "nvidia.com/gpu": "4"}
    pod = {
        "serviceAccountName": "runner",
        "volumes": [
            {"name": "volume-0", "persistentVolumeClaim": {"claimName": "claim"}},
            {"name": "volume-1", "persistentVolumeClaim": {"claimName": "more"}},
        ],
        "containers": [
            {
                "name": "ray-head",
                "image": "registry:5000/i:1",
                "env": [
                    {"name": "A", "value": NASTY},
                    {"name": "MY_KEY", "valueFrom": {"secretKeyRef": {"name": NAME, "key": "MY_KEY"}}},
                    {"name": "OTHER_KEY", "valueFrom": {"secretKeyRef": {"name": NAME, "key": "OTHER_KEY"}}},
                ],
                "resources": {"requests": resources, "limits": resources},
                "volumeMounts": [
                    {"name": "volume-0", "mountPath": "/shared"},
                    {"name": "volume-1", "mountPath": "/data"},
                ],
            }
        ],
    }
    assert cluster.pop("headGroupSpec") == {"rayStartParams": {}, "template": {"spec": pod}}
    (workers,) = cluster.pop("workerGroupSpecs")
    pod["containers"][0]["name"] = "ray-worker"  # type: ignore[index]
    assert workers.pop("template") == {"spec": pod}
    assert workers == {
        "groupName": "workers",
        "replicas": 2,
        "minReplicas": 2,
        "maxReplicas": 2,
        "rayStartParams": {},
    }
    assert cluster == {"rayVersion": metadata.version("ray"), "authOptions": {"mode": "token"}}


def test_what_is_not_said_is_left_to_the_cluster() -> None:
    about = manifest(SMALL)
    assert set(about["metadata"]) == {"name", "annotations"}
    assert {"activeDeadlineSeconds", "suspend"}.isdisjoint(about["spec"])
    cluster = about["spec"]["rayClusterSpec"]
    assert "workerGroupSpecs" not in cluster
    (container,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert set(container) == {"name", "image", "env", "volumeMounts"}
    assert container["env"] == []


def test_the_script_runs_the_study_with_its_words_quoted() -> None:
    lines = kuberay.render(made(FULL))["job.sh"].splitlines()
    assert lines[3:] == ["source x", "exec orchestrate study 'a b'"]


def test_on_an_object_store_the_pods_are_given_the_command_and_their_own_variables() -> None:
    assert set(kuberay.render(made(STORED))) == {"rayjob.json"}
    spec = manifest(STORED)["spec"]
    assert (
        spec["entrypoint"]
        == "orchestrate study s3://bucket/runs/submissions/x/study.yaml --out s3://bucket/runs"
    )
    (container,) = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert [variable["name"] for variable in container["env"]] == ["A", "MY_KEY"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"setup": ("module load x",)},
            "setup: needs a script that the pods can read, and 's3://bucket/runs'",
        ),
        ({"storage": "s3://bucket/a;b"}, r"storage and data: must be of letters.*got 's3://bucket/a;b/subm"),
    ],
)
def test_on_an_object_store_there_is_no_script_for_what_needs_one(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        manifest(dataclasses.replace(STORED, **changed))


@pytest.mark.parametrize(
    ("study", "name"),
    [
        ("small", NAME),
        ("My_Study.2", "my-study-2-20260102-030405-0abc"),
        ("2024", "s-2024-20260102-030405-0abc"),
        ("x" * 26, "x" * 26 + "-20260102-030405-0abc"),
        ("a" * 25 + "_" + "b" * 30, "a" * 25 + "-20260102-030405-0abc"),
    ],
)
def test_a_name_is_one_that_kubernetes_takes(study: str, name: str) -> None:
    assert kuberay_manifest.name_of(made(SMALL, study)) == name
    assert len(name) <= 47


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"volumes": {}}, "storage: must be on one of the profile's volumes"),
        ({"volumes": {"claim": "/share"}}, "storage: must be on one of the profile's volumes"),
        ({"data": "/elsewhere"}, "data: must be on one of the profile's volumes, .* got '/elsewhere'"),
        ({"storage": "/shared/a b"}, "storage and data: must be of letters"),
        ({"storage": "/shared/$(x)"}, "storage and data: must be of letters"),
        ({"options": ("team",)}, "options: must be labels, name=value, for kind kuberay; got 'team'"),
        ({"options": ("team=a b",)}, "options: must be labels"),
    ],
)
def test_what_no_pod_could_work_with_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        manifest(dataclasses.replace(SMALL, **changed))


# -- the published schema -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    """The schema of KubeRay's ``ray.io_rayjobs.yaml``, version v1, strict about unknown keys."""
    place = os.environ.get("KUBERAY_CRD")
    if not place:
        pytest.skip("KUBERAY_CRD does not name KubeRay's ray.io_rayjobs.yaml")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with Path(place).open(encoding="utf-8") as file:
        versions = yaml.load(file, Loader=loader)["spec"]["versions"]
    (found,) = [each["schema"]["openAPIV3Schema"] for each in versions if each["name"] == "v1"]
    return Draft202012Validator(_strict(found))


def _strict(node: Any) -> Any:
    """A structural schema as a JSON schema: Kubernetes knows no key but those that it names."""
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: _strict(each) for key, each in node.items()}
    if isinstance(node.get("properties"), dict) and not node.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


@pytest.mark.parametrize("profile", [SMALL, FULL, STORED], ids=["small", "full", "stored"])
def test_kuberays_schema_takes_the_manifest(profile: Profile, schema: Draft202012Validator) -> None:
    assert [f"{e.json_path}: {e.message}" for e in schema.iter_errors(manifest(profile))] == []


def _broken() -> Iterator[tuple[str, dict[str, Any]]]:
    """Manifests with one thing wrong, and where."""
    for path, key in (
        ("$.spec", "entrypont"),
        ("$.spec.rayClusterSpec", "rayversion"),
        ("$.spec.rayClusterSpec.headGroupSpec.template.spec", "serviceAcountName"),
        (
            "$.spec.rayClusterSpec.workerGroupSpecs[0].template.spec.containers[0].env[1].valueFrom",
            "secretRef",
        ),
    ):
        whole = manifest(FULL)
        node: Any = whole
        for step in path.removeprefix("$.").replace("[", ".").replace("]", "").split("."):
            node = node[int(step)] if step.isdecimal() else node[step]
        node[key] = {}
        yield path, whole
    wrong = manifest(FULL)
    wrong["spec"]["ttlSecondsAfterFinished"] = "600"
    yield "$.spec.ttlSecondsAfterFinished", wrong
    wrong = manifest(FULL)
    wrong["spec"]["rayClusterSpec"]["authOptions"]["mode"] = "tokens"
    yield "$.spec.rayClusterSpec.authOptions.mode", wrong
    wrong = manifest(FULL)
    del wrong["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["minReplicas"]
    yield "$.spec.rayClusterSpec.workerGroupSpecs[0]", wrong


def test_the_schema_finds_a_misspelt_key_and_a_wrong_value(schema: Draft202012Validator) -> None:
    for path, wrong in _broken():
        assert [e.json_path for e in schema.iter_errors(wrong)] == [path]
