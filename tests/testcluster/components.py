"""What runs in the cluster: the command line and the configuration of each component.

Paths are absolute: everything lives in the state directory, and what a component insists on
writing elsewhere lands in folders of the cluster's own mount namespace (``supervisor.py``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import image, needs
from .addresses import Addresses
from .certificates import NODE

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
STAGES = Path(__file__).with_name("stages.yaml")
# The controllers' default of 20 requests a second makes a thousand pods take a minute.
BRISK = ("--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000")


def specification(binaries: Path, state: Path, addresses: Addresses) -> list[dict[str, Any]]:
    """For the supervisor: name, command, and the sockets that must answer before it starts."""
    kubernetes, pki = str(binaries / "kubernetes"), state / "pki"
    etcd = "http://127.0.0.1:2379"
    api = f"{addresses.node}:6443"
    admin = f"--kubeconfig={state}/admin.conf"
    apiserver = [
        f"--etcd-servers={etcd}",
        f"--advertise-address={addresses.node}",
        f"--cert-dir={state}/apiserver",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/admin.crt",
        f"--kubelet-client-key={pki}/admin.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--service-cluster-ip-range={addresses.services}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
    ]
    controllers = [
        admin,
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        "--use-service-account-credentials",
        f"--cert-dir={state}/controllers",
        *BRISK,
    ]
    proxy = [
        admin,
        f"--hostname-override={NODE}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={addresses.pods}",
        "--conntrack-max-per-core=0",  # a setting of the machine, not of the namespace
        f"--bind-address={addresses.node}",
    ]
    kwok = [
        admin,
        f"--config={STAGES}",
        f"--cidr={addresses.fake_pods}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
    ]
    kubelet = [
        f"--config={state}/kubelet.json",
        f"--kubeconfig={state}/kubelet.conf",
        f"--root-dir={state}/kubelet",
        f"--hostname-override={NODE}",
        f"--node-ip={addresses.node}",
    ]
    storage = [
        f"--data-dir={state}/etcd",
        f"--listen-client-urls={etcd}",
        f"--advertise-client-urls={etcd}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    schedule = [admin, f"--cert-dir={state}/scheduler", *BRISK]
    containerd = needs.which("containerd")
    return [
        _one("etcd", [kubernetes, "etcd", *storage]),
        _one("containerd", [str(containerd), "--config", f"{state}/containerd.toml"]),
        _one("apiserver", [kubernetes, "kube-apiserver", *apiserver], "127.0.0.1:2379"),
        _one("kubelet", [kubernetes, "kubelet", *kubelet], api, CONTAINERD_SOCKET),
        _one("scheduler", [kubernetes, "kube-scheduler", *schedule], api),
        _one("controllers", [kubernetes, "kube-controller-manager", *controllers], api),
        _one("proxy", [kubernetes, "kube-proxy", *proxy], api),
        _one("kwok", [str(binaries / "kwok"), *kwok], api),
    ]


def _one(name: str, command: list[str], *after: str) -> dict[str, Any]:
    return {"name": name, "command": command, "after": after}


def write_configuration(state: Path, addresses: Addresses) -> None:
    """The files that the command lines name."""
    # Nobody answers there, so a name is unknown at once and not after a timeout.
    (state / "resolv.conf").write_text(f"nameserver {addresses.node}\noptions attempts:1\n")
    (state / "kubelet.json").write_text(json.dumps(_kubelet(state, addresses), indent=1))
    network = state / "cni"
    network.mkdir()
    (network / "10-ptp.conflist").write_text(json.dumps(_network(state, addresses), indent=1))
    (state / "containerd.toml").write_text(_containerd(state, network))


def _kubelet(state: Path, addresses: Addresses) -> dict[str, Any]:
    pki = state / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{addresses.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "authentication": {
            "anonymous": {"enabled": False},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
            "webhook": {"enabled": True},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/kubelet.crt",
        "tlsPrivateKeyFile": f"{pki}/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "podLogsDir": f"{state}/pod-logs",
        "volumePluginDir": f"{state}/volume-plugins",
        "resolvConf": f"{state}/resolv.conf",
        "clusterDNS": [addresses.node],  # none either, but then no event complains of it
        "clusterDomain": "cluster.local",
        "readOnlyPort": 0,
        "nodeStatusUpdateFrequency": "5s",
        # The machine's disk may be nearly full for reasons of its own.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi"},
    }


def _network(state: Path, addresses: Addresses) -> dict[str, Any]:
    """Each pod has a cable of its own and is routed: a bridge would let answers bypass services."""
    return {
        "cniVersion": "0.4.0",
        "name": "testcluster",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "dataDir": f"{state}/addresses",
                    "ranges": [[{"subnet": addresses.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }


def _containerd(state: Path, network: Path) -> str:
    """``restrict_oom_score_adj``: root without CAP_SYS_RESOURCE may not lower it, and then every
    pod would fail with "can't get final child's PID". AppArmor's profiles would outlive us.
    """
    snapshotter = "native" if _on_overlay(state) else "overlayfs"
    return f"""version = 2
root = "{state}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{state}/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image.NAME}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{needs.cni_plugins()}"
    conf_dir = "{network}"
"""


def _on_overlay(path: Path) -> bool:
    """Whether a path lies on an overlay, which cannot carry another one."""
    best = ("", "")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind = line.split(" ")[:3]
        if path.is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, kind)
    return best[1] == "overlay"
