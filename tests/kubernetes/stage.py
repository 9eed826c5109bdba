"""``python -m tests.kubernetes.stage``: a namespace for the browser tests, until its input ends.

Prints one line of JSON once all is there: ``config``, a file to be loaded into a Jupyter server's
configuration. With the end of the input the namespace goes, and the cluster if it was started for
this. Exit status 77, and the reason, where there is no Kubernetes to be had.
"""

from __future__ import annotations

import json
import sys

from .choice import NoKubernetes, chosen
from .desk import Desk, home_directory
from .world import install

RESOURCES = {
    "cpu": {"minimum": "100m", "default": "500m", "maximum": "2"},
    "memory": {"minimum": "128Mi", "default": "256Mi", "maximum": "8Gi"},
}
UNAVAILABLE = 77


def main() -> int:
    """Set the stage, say so, and wait."""
    try:
        with chosen() as kube, kube.namespace() as namespace, home_directory() as home:
            install(kube)
            desk = Desk(kube, namespace, home)
            desk.offer("elastic-python3", displayName="Python 3, elastic", resources=RESOURCES)
            config = home / "kubernetes_config.py"
            # What the server offers beside the cluster's own templates could not run there.
            config.write_text("c = get_config()\nc.ElasticKernels.templates = []\n" + desk.config())
            print(json.dumps({"config": str(config)}), flush=True)
            sys.stdin.read()
    except NoKubernetes as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
