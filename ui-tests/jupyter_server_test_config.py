"""The server that the browser tests talk to: open to this machine, on a throw-away directory.

One template is small, so that running out of memory and of room is quick.
"""

import os
import tempfile

from jupyterlab.galata import configure_jupyter_server

c = get_config()  # noqa: F821

configure_jupyter_server(c)
c.ServerApp.port = int(os.environ.get("ELASTIC_TEST_PORT", "8898"))
c.ServerApp.allow_root = True  # containers and CI
c.JupyterNotebookApp.expose_app_in_browser = True

c.ElasticLocal.state_dir = os.environ.get("ELASTIC_TEST_STATE") or tempfile.mkdtemp(
    prefix="elastic-ui-"
)
c.ElasticLocal.memory = "6Gi"
c.ElasticKernels.stop_with_server = True
c.ElasticKernels.templates = [
    {
        "name": "elastic-python3",
        "display_name": "Python 3, elastic",
        "description": "Answers at once; CPU and memory can be changed while it runs.",
        "resources": {
            "cpu": {"minimum": "100m", "default": "1", "maximum": "2"},
            "memory": {"minimum": "128Mi", "default": "512Mi", "maximum": "8Gi"},
        },
        "pool": {"size": 1},
    },
    {
        "name": "fails",
        "display_name": "Cannot start",
        "description": "Its kernel ends at once.",
        "language": "none",
        "argv": ["false", "{connection_file}"],
        "resources": {"cpu": "1", "memory": "256Mi"},
    },
]

if more := os.environ.get("ELASTIC_TEST_CONFIG"):
    load_subconfig(more)  # noqa: F821
