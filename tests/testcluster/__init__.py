"""A real Kubernetes for the tests, on a machine with no Docker: ``python -m tests.testcluster up``.

One node with a real kubelet and containerd, further nodes that only pretend (kwok), and the
control plane, all in namespaces of their own: ending their first process ends everything.
"""
