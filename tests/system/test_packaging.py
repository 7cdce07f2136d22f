"""
What the folder C{packaging} holds: units of systemd, the recipe of a container, and that of a Debian package.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, TestCase

from tests.system.stage import BIN, ROOT
from tunnelstack.version import VERSION

PACKAGING = ROOT / "packaging"
SOAK = os.environ.get("TUNNELSTACK_SOAK") == "1"
REQUIRED = os.environ.get("TUNNELSTACK_REQUIRE_PEERS") == "1"
UNITS = ("tunnel-edge.service", "tunnel-agent.service", "tunnel-edge.socket")

EXPOSURE = 20
"""Tenths of a point: what C{systemd-analyze security} may find at most, out of 100."""

WITHOUT_WRITABLE_CODE = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):     # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    sys.exit(99)
os.execv(sys.argv[1], sys.argv[1:])
"""


def run(*command: str | Path, cwd: Path, timeout: float = 60) -> str:
    """
    @return: standard output and standard error.
    """
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
    if done.returncode:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}")
    return done.stdout


class UnitTests(TestCase):
    """
    The units, with the programs of this environment.
    """

    def setUp(self) -> None:
        if shutil.which("systemd-analyze") is None:
            if REQUIRED:
                self.fail("systemd-analyze is not installed")
            raise SkipTest("systemd-analyze is not installed")
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        for name in UNITS:
            text = (PACKAGING / "systemd" / name).read_text()
            (self.folder / name).write_text(text.replace("/usr/bin/tunnel-", f"{BIN}/tunnel-"))

    def test_systemdUnderstandsEveryLine(self) -> None:
        self.assertEqual(run("systemd-analyze", "verify", *(f"./{name}" for name in UNITS), cwd=self.folder), "")

    def test_servicesAreHardened(self) -> None:
        for name in UNITS[:2]:
            run(
                "systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", "--no-pager", f"./{name}",
                cwd=self.folder,
            )

    def test_anExitCodeAfterWhichAStartIsVainPreventsIt(self) -> None:
        found = {
            name: re.findall(r"^RestartPreventExitStatus=(.*)$", (self.folder / name).read_text(), re.MULTILINE)
            for name in UNITS[:2]
        }
        self.assertEqual(found, {"tunnel-edge.service": ["64 78"], "tunnel-agent.service": ["64 77 78"]})

    def test_thePageAboutTheEdgeShowsNoOtherUnit(self) -> None:
        page = (ROOT / "docs" / "howto" / "run-an-edge.md").read_text()
        self.assertIn("packaging/systemd/tunnel-edge.service", page)
        self.assertNotIn("[Service]", page)

    def test_theProgramsNeedNoMemoryThatIsWritableAndExecutable(self) -> None:
        """
        As C{MemoryDenyWriteExecute} of the units demands.
        """
        if not hasattr(ctypes.CDLL(None), "prctl"):
            raise SkipTest("this system has no prctl")
        for program in ("tunnel-edge", "tunnel-agent"):
            command = [sys.executable, "-c", WITHOUT_WRITABLE_CODE, sys.executable, BIN / program, "--help"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            if done.returncode == 99:
                raise SkipTest("this kernel cannot refuse such memory")
            self.assertEqual((done.returncode, done.stdout[:6]), (0, "Usage:"), done.stderr)


class ContainerTests(TestCase):
    """
    The recipe of the image.  It cannot be built where no base image can be had, so its instructions are checked one by one.
    """

    def setUp(self) -> None:
        text = (PACKAGING / "container" / "Containerfile").read_text().replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        self.instructions = [tuple(line.split(None, 1)) for line in lines]

    def arguments(self, name: str) -> list[str]:
        """
        @return: those of each instruction of that name, in order.
        """
        return [rest for word, rest in self.instructions if word == name]

    def test_everythingThatIsCopiedIsThere(self) -> None:
        copied = [rest.split()[:-1] for rest in self.arguments("COPY") if not rest.startswith("--from=")]
        missing = [name for names in copied for name in names if not (ROOT / name).exists()]
        self.assertEqual(missing, [])
        self.assertIn("COPY --from=build /opt/tunnelstack /opt/tunnelstack", map(" ".join, self.instructions))

    def test_whatIsCopiedIsEnoughToInstall(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        for rest in self.arguments("COPY"):
            *names, to = rest.split()
            for name in names:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
                elif not name.startswith(("--", "/")):
                    shutil.copy(ROOT / name, folder / name)
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", folder, cwd=folder, timeout=300)
        (wheel,) = (folder / "dist").glob("*.whl")
        self.assertTrue(wheel.name.startswith(f"tunnelstack-{VERSION}-"), wheel.name)

    def test_itsProgramsAreOurs(self) -> None:
        (command,) = self.arguments("CMD")
        health = json.loads(self.arguments("HEALTHCHECK")[0].partition("CMD ")[2])
        for program in (json.loads(command)[0], health[0]):
            self.assertTrue((BIN / program).exists(), program)

    def test_itDoesNotRunAsRoot(self) -> None:
        words = [word for word, _ in self.instructions]
        (user,) = self.arguments("USER")
        self.assertLess(words.index("USER"), words.index("CMD"))
        makes = f"useradd --system --user-group --home-dir /var/lib/tunnelstack --create-home {user}"
        self.assertIn(makes, self.arguments("RUN"))

    def test_itIsStoppedByTheSignalThatDrains(self) -> None:
        self.assertEqual(self.arguments("STOPSIGNAL"), ["SIGTERM"])


class DebianTests(TestCase):
    """
    The Debian package.
    """

    timeout = 3600

    def test_itsVersionIsThatOfTheProject(self) -> None:
        self.assertTrue((PACKAGING / "debian" / "changelog").read_text().startswith(f"tunnelstack ({VERSION}) "))

    def test_aPackageIsBuiltAndWorksInAFreshSystem(self) -> None:
        """
        Built by dh-virtualenv, and installed by apt in the root of a system that mmdebstrap has made.
        """
        if not SOAK:
            raise SkipTest("builds and installs a package: TUNNELSTACK_SOAK=1 runs it")
        missing = [tool for tool in ("dh_virtualenv", "mmdebstrap", "dpkg-buildpackage") if shutil.which(tool) is None]
        if missing:
            raise SkipTest(f"not installed: {', '.join(missing)}")
        folder = Path(self.mktemp()).absolute()
        source = folder / "source"
        for name in run("git", "ls-files", cwd=ROOT).splitlines():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
        shutil.copytree(PACKAGING / "debian", source / "debian")
        run("dpkg-buildpackage", "--build=binary", "--no-sign", cwd=source, timeout=1500)
        (package,) = folder.glob("*.deb")
        root = folder / "root"
        install = f'chroot "$1" apt-get install --yes --no-install-recommends /tmp/{package.name}'
        hooks = [f"--customize-hook=copy-in {package} /tmp", f"--customize-hook={install}"]
        run("mmdebstrap", "--variant=minbase", "--include=python3", *hooks, "bookworm", root, cwd=folder, timeout=1500)
        for program in ("tunnelstack", "tunnel-edge", "tunnel-agent"):
            self.assertIn("Usage: ", run("chroot", root, f"/usr/bin/{program}", "--help", cwd=folder))
        run("chroot", root, "/opt/venvs/tunnelstack/bin/python", "-c", "import prometheus_client", cwd=folder)
        for unit in UNITS[:2]:
            self.assertTrue((root / "lib" / "systemd" / "system" / unit).exists(), unit)
        shutil.rmtree(root)
