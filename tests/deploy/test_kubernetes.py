"""The manifests: Kubernetes' own schemas take them, and what one names another has."""

from __future__ import annotations

import kubernetes_validate
import pytest

from tests.deploy.files import DEPLOY, container, manifest, manifests

# The oldest that is looked after as this is written, and the newest.
VERSIONS = ("1.35", "1.37")
SETS = ("titan-manager", "titan-worker")
PORTS = {"titan-manager": {"grpc": 50051, "metrics": 9464}, "titan-worker": {"metrics": 9465}}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_take_them(version: str) -> None:
    for each in manifests():
        kubernetes_validate.validate(each, version, strict=True)


def test_the_schemas_would_not_take_a_mistake() -> None:
    wrong = manifest("StatefulSet", "titan-manager")
    wrong["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_all_are_in_one_namespace_which_kubectl_makes_before_them() -> None:
    first = "00-namespace.yaml"
    assert min(path.name for path in (DEPLOY / "kubernetes").iterdir()) == first
    namespace, *others = manifests()
    assert namespace["kind"] == "Namespace"
    assert {each["metadata"]["namespace"] for each in others} == {namespace["metadata"]["name"]}


@pytest.mark.parametrize("name", SETS)
def test_labels_ports_and_names_agree(name: str) -> None:
    found = manifest("StatefulSet", name)
    spec, labels = found["spec"], found["spec"]["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels
    service = manifest("Service", spec["serviceName"])
    assert service["spec"]["selector"] == labels
    assert manifest("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"] == labels
    ports = {each["name"]: each["containerPort"] for each in container(name)["ports"]}
    assert ports == PORTS[name]
    assert ports == {each["name"]: each["port"] for each in service["spec"]["ports"]}
    told = spec["template"]["metadata"]["annotations"]
    assert told["prometheus.io/port"] == str(ports["metrics"])
    listens = [word for word in container(name)["args"] if word.startswith("--metrics-listen=")]
    assert listens == [f"--metrics-listen=0.0.0.0:{ports['metrics']}"]


def test_clients_know_each_manager_by_the_name_that_it_says_it_has() -> None:
    found = manifest("StatefulSet", "titan-manager")["spec"]
    (advertised,) = [
        word.removeprefix("--advertise=")
        for word in container("titan-manager")["args"]
        if word.startswith("--advertise=")
    ]
    names = [
        advertised.replace("$(POD_NAME)", f"titan-manager-{number}")
        for number in range(found["replicas"])
    ]
    assert manifest("ConfigMap", "titan")["data"]["TITAN_MANAGER"].split(",") == names
    service = manifest("Service", found["serviceName"])
    assert advertised.partition(":")[0].endswith(f".{service['metadata']['name']}")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"], "who starts has to be found, too"


def test_probes_ask_for_no_leader() -> None:
    own = container("titan-manager")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        # A standby that is never ready would hold up each rollout, and a budget with it.
        assert own[probe]["exec"]["command"] == ["titan-healthy", "9464/healthz"]
    assert container("titan-worker")["readinessProbe"]["exec"]["command"] == [
        "titan-healthy",
        "9465/metrics",
    ]
    # Each is patient enough for what titan-healthy waits for by itself.
    assert all(own[each]["timeoutSeconds"] > 5 for each in ("startupProbe", "livenessProbe"))


def test_the_key_for_secrets_lies_where_managers_look() -> None:
    own = container("titan-manager")
    environment = {each["name"]: each.get("value") for each in own["env"]}
    directory, _, name = environment["TITAN_SECRETS_KEY"].rpartition("/")
    (mounted,) = [each for each in own["volumeMounts"] if each["mountPath"] == directory]
    pod = manifest("StatefulSet", "titan-manager")["spec"]["template"]["spec"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == mounted["name"]]
    secret = volume["secret"]["secretName"]
    assert (
        f"create secret generic {secret} --from-file={name}\n" in (DEPLOY / "README.md").read_text()
    )
    # Of root and for the pod's group: what a manager takes for its own alone.
    assert volume["secret"]["defaultMode"] == 0o440


@pytest.mark.parametrize("name", SETS)
def test_volumes_are_there_and_nothing_runs_as_root(name: str) -> None:
    spec = manifest("StatefulSet", name)["spec"]
    pod = spec["template"]["spec"]
    there = {each["name"] for each in pod["volumes"]}
    there |= {each["metadata"]["name"] for each in spec["volumeClaimTemplates"]}
    assert {each["name"] for each in container(name)["volumeMounts"]} == there
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container(name)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False
