"""The reference operator, which the benchmarks run beside the real one: what somebody would otherwise run.

It works as the first operator did. On each request that is new or changed, and on each when it starts, it lists the
Secrets of the namespace and writes the one that is asked for, if that is not as it should be. It decides nothing, tells
nothing in a status, and watches nothing but the requests: it never notices that a source has changed.
"""

import base64
import os
import pathlib

import kopf
import kubernetes

KIND = ("xlscsde.nhs.uk", "v1", "secretsdistributions")
MANAGED_BY = "xlscsde.nhs.uk/managedBy"
OWN_NAME = os.environ.get("MANAGED_BY", "secrets-distributor")
SOURCES = pathlib.Path(os.environ.get("SECRETS_PATH", "/mnt/secrets"))

kubernetes.config.load_kube_config()
core = kubernetes.client.CoreV1Api()


@kopf.on.create(*KIND)
@kopf.on.update(*KIND)
@kopf.on.resume(*KIND)
def distribute(name, namespace, spec, **_):
    wanted = secret(spec.get("name", name), spec)
    found = find(namespace, wanted["metadata"]["name"])
    if found is None:
        core.create_namespaced_secret(namespace, wanted)
    elif (found.metadata.annotations or {}).get(MANAGED_BY) != OWN_NAME:
        raise kopf.PermanentError("a Secret of that name belongs to somebody else")
    elif found.data != wanted["data"]:
        core.replace_namespaced_secret(wanted["metadata"]["name"], namespace, wanted)


def find(namespace, name):
    secrets = core.list_namespaced_secret(namespace).items
    return next((secret for secret in secrets if secret.metadata.name == name), None)


def secret(name, spec):
    return {
        "metadata": {
            "name": name,
            "annotations": {MANAGED_BY: OWN_NAME},
            # By which the benchmarks see it arrive.
            "labels": {"app.kubernetes.io/managed-by": "kopf-reference"},
        },
        "type": spec.get("type", "Opaque"),
        "data": {mapping["to"]: encoded(mapping["from"]) for mapping in spec["secrets"]},
    }


def encoded(source):
    return base64.b64encode((SOURCES / source).read_bytes()).decode("ascii")
