"""Trims KubeRay's custom resource definitions to what the tests check manifests against.

Used as: python tests/ray_jobs/data/trim_kuberay.py …/kuberay/helm-chart/kuberay-operator/crds "1.7.0 (commit …)"

Kept are the schemas of RayJob and RayCronJob in v1, whole but for their descriptions. What occurs more than once, as a
pod's template does, is written once and referred to (YAML's anchors).
"""

import json
import sys
from pathlib import Path

import yaml

ABOUT = """\
# Schemas of RayJob and RayCronJob (ray.io/v1) of KubeRay {version}, Apache-2.0: the
# openAPIV3Schema of the files in helm-chart/kuberay-operator/crds of https://github.com/ray-project/kuberay.
# Changed: descriptions are left out and repetitions written once, by trim_kuberay.py beside this file.
"""
WORTH_AN_ANCHOR = 400
"""Length of a schema above which a reference is shorter than a copy."""


def trimmed(schema, known):
    """Return the schema without descriptions; equal parts become the same object, which YAML writes once."""
    if isinstance(schema, list):
        return [trimmed(part, known) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: trimmed(part, known) for key, part in schema.items() if key != "description" or isinstance(part, dict)}
    text = json.dumps(kept, sort_keys=True)
    return known.setdefault(text, kept) if len(text) >= WORTH_AN_ANCHOR else kept


def main(directory, version):
    known, schemas = {}, {}
    for kind in ("RayJob", "RayCronJob"):
        crd = yaml.load((Path(directory) / f"ray.io_{kind.lower()}s.yaml").read_text(), yaml.CSafeLoader)
        [served] = [found for found in crd["spec"]["versions"] if found["name"] == "v1"]
        schemas[kind] = trimmed(served["schema"]["openAPIV3Schema"], known)
    text = yaml.dump(schemas, Dumper=yaml.CSafeDumper, sort_keys=False, width=120)
    Path(__file__).with_name("kuberay.yaml").write_text(ABOUT.format(version=version) + text)


main(*sys.argv[1:])
