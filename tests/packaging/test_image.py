"""The image, built without a registry and run as a kubelet's runtime runs it, on a LAN of its own."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import version as installed
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from sidecar import __version__
from sidecar.demo.apiserver import ApiServer
from sidecar.demo.cluster import DOOR_PORT
from sidecar.demo.forward import ApiForwarder
from sidecar.demo.lan import Lan
from sidecar.demo.store import Target
from tests.fakes import container
from tests.fakes.container import Container, Image
from tests.netns.peers import until
from tools import image

pytestmark = [pytest.mark.packaging, pytest.mark.netns]

VIP = "10.77.0.100"
COMPILED = """
import os, sys
import sidecar.agent.process, sidecar.cli, sidecar.engine.process, sidecar.supervisor
loaded = [module for module in sys.modules.values() if getattr(module, "__cached__", None)]
print([module.__name__ for module in loaded if not os.path.exists(module.__cached__)])
"""
"""Prints the names of the loaded modules that no compiled file is there for."""
PROGRAMS = ("buildah", "runc", "debootstrap")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(real_kernel: None) -> Iterator[str]:  # noqa: ARG001 - root and its tools come first
    """The image's id."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"NO {', '.join(missing)}, so the image is not tested: as root on Debian, `make system-packages`")
    if not image.is_prepared():
        pytest.skip("NO BASE IMAGE, so the image is not tested: run `make package-tools`")
    yield image.build()
    image.buildah("rmi", "--prune", "--force")  # what earlier sources left behind


@pytest.fixture(scope="module")
def the_image(built: str) -> Iterator[Image]:
    del built
    with container.mounted(image.IMAGE) as it:
        yield it


def test_the_image_says_what_it_is_and_has_no_health_check(the_image: Image) -> None:
    config = the_image.config
    assert config["Entrypoint"] == ["carp-sidecar"]
    assert config["Cmd"] == ["run"]
    assert config["User"] == "0:0"
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert (labels["title"], labels["licenses"], labels["version"]) == ("carp-sidecar", "Apache-2.0", __version__)
    assert "Healthcheck" not in config
    assert "HEALTHCHECK" not in re.sub(r"^#.*$", "", (ROOT / "Dockerfile").read_text(), flags=re.M)


def test_no_compiler_and_no_installer_of_ours_is_in_it(the_image: Image) -> None:
    folders = [the_image.root / folder for folder in ("usr/bin", "usr/local/bin", "opt/carp-sidecar/bin")]
    programs = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()}
    assert "python3" in programs
    assert not programs & {"gcc", "cc", "c++", "as", "ld", "make", "pip"}
    assert not (the_image.root / "build").exists()
    assert not list((the_image.root / "opt/carp-sidecar").glob("setuptools*"))


def test_it_adds_as_much_to_its_base_as_the_dockerfile_says(the_image: Image) -> None:
    (said,) = re.findall(r"(\d+) MB come on top of the base", (ROOT / "Dockerfile").read_text())
    files = [path for path in (the_image.root / "opt/carp-sidecar").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) / 1e6 == pytest.approx(int(said), rel=0.1)


def test_every_module_of_ours_is_compiled_whatever_its_time(the_image: Image) -> None:
    for source in (the_image.root / "opt/carp-sidecar/sidecar").rglob("*.py"):
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")
        assert compiled.read_bytes()[4:8] == b"\1\0\0\0", "unchecked, by hash (PEP 552)"


def test_the_same_source_is_the_same_image(built: str) -> None:
    assert image.build("--no-cache") == built


def test_the_lock_has_every_dependency_at_the_version_that_is_tested() -> None:
    text = image.REQUIREMENTS.read_text()
    locked = dict(re.findall(r"^([\w-]+)==(\S+)", text, re.M))
    wanted = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert wanted is not None
    for line in re.findall(r'"([^"]+)"', wanted[1]):
        requirement = Requirement(line)
        name = requirement.name.lower()
        assert requirement.specifier.contains(locked[name]), f"{line}: run `make lock`"
        assert requirement.specifier.contains(installed(requirement.name))


@pytest.fixture
def sidecar(the_image: Image, lan: Lan, tmp_path: Path) -> Iterator[tuple[Container, ApiServer]]:
    """The image's container on the first node, with a stand-in for the API server."""
    (tmp_path / "carp").mkdir()
    (tmp_path / "carp/password").write_text("correct horse")
    node = lan.nodes[0]
    environment = {
        "CARP_VHID": "42",
        "CARP_VIPS": VIP,
        "CARP_PASSWORD_FILE": "/etc/secret/password",
        "CARP_LOG_FORMAT": "text",
        "POD_NAME": "ours",
        "POD_NAMESPACE": "default",
        "NODE_NAME": node.name,
        "KUBECONFIG": "/etc/secret/kubeconfig",
    }
    with (
        ApiServer() as api,
        ApiForwarder(node, DOOR_PORT, target_host="127.0.0.1", target_port=api.port),
    ):
        api.write_kubeconfig(tmp_path / "carp/kubeconfig", server=f"http://127.0.0.1:{DOOR_PORT}")
        api.store.create(
            "default", {"metadata": {"name": "ours"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
        )
        with container.running(
            the_image, node, tmp_path, environment=environment, mounts={"/etc/secret": tmp_path / "carp"}
        ) as it:
            yield it, api
    print((tmp_path / "log").read_text())


def test_with_two_rights_and_a_read_only_root_it_takes_the_vip_and_tells_the_api(
    sidecar: tuple[Container, ApiServer], lan: Lan
) -> None:
    it, api = sidecar
    node = lan.nodes[0]

    def role() -> str:
        done = it.run("carp-sidecar", "status", "--json")
        return str(json.loads(done.stdout)["groups"][0]["role"]) if done.returncode == 0 else ""

    until(lambda: role() == "master", "the container is master")
    until(lambda: VIP in node.run(["ip", "-4", "addr", "show", "dev", "eth0"]).stdout, "the VIP is on the node")
    assert lan.client.run(["ping", "-c", "1", "-W", "5", VIP]).returncode == 0
    until(lambda: labels(api).get("carp-role") == "master", "the pod's label")

    rights = {}
    for pid in it.run("python3", "-c", "import os; print(*filter(str.isdigit, os.listdir('/proc')))").stdout.split():
        status = it.run("cat", f"/proc/{pid}/status").stdout
        command = it.run("cat", f"/proc/{pid}/cmdline").stdout.split("\0")
        if "sidecar" in command:
            fields = dict(re.findall(r"^(CapEff|CapBnd|NoNewPrivs|Seccomp):\s*(\S+)", status, re.M))
            rights[command[command.index("sidecar") + 1]] = fields
    nothing = {"NoNewPrivs": "1", "Seccomp": "2"}
    two = f"{1 << 12 | 1 << 13:016x}"
    assert rights["parent"] == {**nothing, "CapEff": two, "CapBnd": two}
    assert {name: each["CapEff"] for name, each in rights.items() if name != "parent"} == dict.fromkeys(
        ("engine", "agent"), "0" * 16
    )
    assert "Read-only file system" in it.run("touch", "/opt/carp-sidecar/x").stderr
    assert it.run("python3", "-c", COMPILED).stdout == "[]\n", "nothing is compiled where it runs"
    doctor = it.run("carp-sidecar", "doctor", "--seconds", "1")
    assert doctor.returncode in (0, 4), doctor.stdout + doctor.stderr  # this machine's clock may be off
    assert "PASS  kernel lifetimes" in doctor.stdout
    demo = it.run("carp-sidecar", "demo")
    assert (demo.returncode, demo.stderr.count("\n")) == (3, 1), "a command that has no place here says so in a line"


def labels(api: ApiServer) -> dict[str, str]:
    return dict(api.store.get(Target("default", "ours"))["metadata"].get("labels") or {})
