"""What the node's programs are told: configuration files and flags, as functions of where things are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAME = "node-1"
ADDRESS = "10.77.0.1"
ADDRESS_BITS = f"{ADDRESS}/24"
SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/24"
RUNTIME_SOCKET = "/run/containerd/containerd.sock"
"""In the node's own /run, at the place where cAdvisor looks for it."""
PAUSE = "phoenix.test/pause:1"


def containerd(folder: Path) -> str:
    """Nothing at a fixed place outside the node's own /run and /var; pods may not ask for a lower OOM score
    than containerd has, which needs a right that many machines do not give."""
    return f"""\
version = 3
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{RUNTIME_SOCKET}"
[plugins.'io.containerd.internal.v1.opt']
path = "{folder}/opt"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE}"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = "runc"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{folder}/bin/runc"
SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{folder}/bin"]
conf_dir = "{folder}/cni"
"""


def network() -> dict[str, Any]:
    """Every pod is routed to, none is bridged: so also what one pod sends another passes where services
    are translated, without br_netfilter."""
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": PODS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": "/run/cni-addresses",
                },
            }
        ],
    }


def kubelet(folder: Path, cgroup: str, *, old_cgroups: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{folder}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{folder}/kubelet.crt",
        "tlsPrivateKeyFile": f"{folder}/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{RUNTIME_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "clusterDomain": "cluster.local",
        "clusterDNS": [ADDRESS],
        "resolvConf": f"{folder}/resolv.conf",
        "podLogsDir": f"{folder}/pods",
        "volumePluginDir": f"{folder}/volume-plugins",
        "protectKernelDefaults": True,  # never write the machine's settings
        "oomScoreAdj": 0,  # a lower one needs a right that many machines do not give
        "failSwapOn": False,
        # the disk is the machine's: how full it is says nothing about the tests
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "24h",
        "nodeStatusReportFrequency": "1m",
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "serializeImagePulls": False,
    }
    if old_cgroups:
        settings["failCgroupV1"] = False
    return settings


def kube_proxy(folder: Path) -> dict[str, Any]:
    """It leaves the sizes of the connection table alone: they are the machine's."""
    zero = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "hostnameOverride": NAME,
        "clientConnection": {"kubeconfig": f"{folder}/system-kube-proxy.kubeconfig"},
        "conntrack": zero,
        "nodePortAddresses": [f"{ADDRESS}/32"],
        "healthzBindAddress": f"{ADDRESS}:10256",
        "metricsBindAddress": f"{ADDRESS}:10249",
        "oomScoreAdj": 0,
        "nftables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
    }


def write(folder: Path, cgroup: str, *, old_cgroups: bool) -> None:
    """Write the files of containerd, the network, kubelet and kube-proxy into the folder."""
    (folder / "cni").mkdir()
    (folder / "containerd.toml").write_text(containerd(folder), "utf-8")
    files = {
        "cni/10-pods.conflist": network(),
        "kubelet.json": kubelet(folder, cgroup, old_cgroups=old_cgroups),
        "kube-proxy.json": kube_proxy(folder),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1), "utf-8")
    (folder / "resolv.conf").write_text(f"nameserver {ADDRESS}\n", "utf-8")


def api_server_flags(folder: Path) -> list[str]:
    return [
        "--bind-address=0.0.0.0",
        f"--advertise-address={ADDRESS}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={folder}/ca.crt",
        f"--kubelet-client-certificate={folder}/api-server-client.crt",
        f"--kubelet-client-key={folder}/api-server-client.key",
    ]


def scheduler_flags(folder: Path) -> list[str]:
    return [
        f"--kubeconfig={folder}/system-kube-scheduler.kubeconfig",
        "--secure-port=0",
        "--leader-elect=false",
    ]


def kubelet_flags(folder: Path) -> list[str]:
    return [
        f"--config={folder}/kubelet.json",
        f"--kubeconfig={folder}/system-node-{NAME}.kubeconfig",
        f"--root-dir={folder}/kubelet",
        f"--hostname-override={NAME}",
        f"--node-ip={ADDRESS}",
        f"--cert-dir={folder}",
    ]
