#!/usr/bin/env python3
"""Validates docker/kubernetes.yml: `make manifests`.

    tests/kubernetes.py FILE PROGRAM

Against Kubernetes' own schemas, of its oldest and newest version that kubernetes-validate knows, with unknown fields
refused; then what no schema says: names that must be the same in two places, and redis-trib's command lines.
"""

import copy
import shlex
import subprocess
import sys

import kubernetes_validate
import yaml

VERSIONS = ["1.25", kubernetes_validate.latest_version()]


def against_schemas(documents):
    for document in documents:
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(str(step) for step in error.path)
                yield f"{document['kind']}, Kubernetes {version}: {where}: {error.message}"


def pod_of(document):
    return document["spec"]["template"]["spec"]


def pods(documents):
    return [document for document in documents if "template" in document.get("spec", {})]


def references(documents):
    by_name = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    nodes = by_name["StatefulSet", "redis"]["spec"]
    labels = nodes["template"]["metadata"]["labels"].items()
    service = by_name.get(("Service", nodes["serviceName"]))
    selectors = {
        "the StatefulSet": nodes["selector"]["matchLabels"],
        "the Service": service and service["spec"]["selector"],
        "the PodDisruptionBudget": by_name["PodDisruptionBudget", "redis"]["spec"]["selector"]["matchLabels"],
    }
    for owner, selector in selectors.items():
        if not selector or not selector.items() <= labels:
            yield f"{owner} does not select the pods of the StatefulSet"
    if service and not service["spec"].get("publishNotReadyAddresses"):
        yield "the Service publishes only nodes that are ready, and none is before there is a cluster"
    if service and service["spec"].get("clusterIP") != "None":
        yield "the Service has an address of its own: its name stands for one node, not for all"
    for document in pods(documents):
        pod = pod_of(document)
        claims = document["spec"].get("volumeClaimTemplates", [])
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | {claim["metadata"]["name"] for claim in claims}
        for container in pod["containers"]:
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            for name in mounts.keys() - volumes:
                yield f"{document['kind']}: {container['name']} mounts {name}, which is no volume"
            for variable in container.get("env", []):
                if variable["name"] == "auth_file" and not any(
                        variable["value"].startswith(path + "/") for path in mounts.values()):
                    yield f"{document['kind']}: {variable['value']} is on no volume"
    expected = next(arguments for arguments in command_lines(documents) if "create" in arguments)
    if expected[expected.index("--expect-nodes") + 1] != str(nodes["replicas"]):
        yield f"the Job expects {expected[expected.index('--expect-nodes') + 1]} nodes, and there are {nodes['replicas']}"
    grace = nodes["template"]["spec"]["terminationGracePeriodSeconds"]
    hook = nodes["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    if hook[0] != "timeout" or int(hook[1]) >= grace:
        yield "the preStop hook may take all of terminationGracePeriodSeconds, and the server can't save its data"


def command_lines(documents):
    """Those that begin with redis-trib, in probes, hooks, arguments and the scripts of `sh -c`."""
    def walk(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in ("command", "args") and inner and inner[0] == "redis-trib":
                    yield inner
                elif key in ("command", "args") and "-c" in inner:
                    lines = (line.strip() for line in inner[-1].splitlines())
                    yield from (shlex.split(line) for line in lines if line.startswith("redis-trib "))
                yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)
    for document in documents:
        yield from walk(document)


def understood(documents, program):
    found = list(command_lines(documents))
    if len(found) < 4:
        yield f"{len(found)} command lines of redis-trib were found, where there are more"
    for words in found:
        ended = subprocess.run([program, *words[1:], "--help"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if ended.returncode != 0:
            yield f"{' '.join(words)}: {ended.stderr.strip()}"


def mistakes_are_found(documents, program):
    """That this test can fail: each of these must be found."""
    def changed(change):
        copied = copy.deepcopy(documents)
        change(next(document for document in copied if document["kind"] == "StatefulSet"))
        return copied

    def misspelled(nodes):
        container = pod_of(nodes)["containers"][0]
        container["readinesProbe"] = container.pop("readinessProbe")

    def wrong_type(nodes):
        nodes["spec"]["replicas"] = "six"

    def other_label(nodes):
        nodes["spec"]["template"]["metadata"]["labels"] = {"app": "valkey"}

    def wrong_option(nodes):
        pod_of(nodes)["containers"][0]["livenessProbe"]["exec"]["command"].append("--lokal")

    for check, change in [(against_schemas, misspelled), (against_schemas, wrong_type), (references, other_label),
                          (lambda found: understood(found, program), wrong_option)]:
        if not list(check(changed(change))):
            yield f"tests/kubernetes.py does not find a mistake any more: {change.__name__}"


def main():
    file, program = sys.argv[1:]
    with open(file) as text:
        documents = list(yaml.safe_load_all(text))
    errors = [*against_schemas(documents), *references(documents), *understood(documents, program),
              *mistakes_are_found(documents, program)]
    for error in errors:
        print(f"{file}: {error}", file=sys.stderr)
    if errors:
        sys.exit(1)
    print(f"{file}: {len(documents)} manifests are valid in Kubernetes {' and '.join(VERSIONS)}")


if __name__ == "__main__":
    main()
