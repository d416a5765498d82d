"""Containers are known by their cgroups' names, whoever manages them."""
from __future__ import annotations

import pytest

from pytools.domains.containers import container_of

ID = "0123456789abcdef" * 4
pytestmark = pytest.mark.host_only


@pytest.mark.parametrize(
    "path, container",
    [
        (f"/system.slice/docker-{ID}.scope", ID[:12]),
        (f"/docker/{ID}", ID[:12]),
        (f"/docker/{ID}/inner", ID[:12]),
        (f"/machine.slice/libpod-{ID}.scope/container", ID[:12]),
        (f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", ID[:12]),
        (f"/kubepods/besteffort/pod0/{ID}", ID[:12]),
        (f"/kubepods.slice/crio-{ID}.scope", ID[:12]),
        # Docker in Docker: the innermost.
        (f"/docker/{'f' * 64}/docker/{ID}", ID[:12]),
        ("/lxc.payload.web1/system.slice", "web1"),
        ("/lxc/web1", "web1"),
        ("/machine.slice/machine-debian.scope", "debian"),
        ("/system.slice/ssh.service", None),
        ("/user.slice/user-1000.slice", None),
        (f"/system.slice/{ID[:63]}.scope", None),
        (f"/system.slice/{ID}0.scope", None),
        ("/", None),
    ],
)
def test_container_of(path: str, container: str | None) -> None:
    assert container_of(path) == container
