"""
What a release consists of: the wheel in an environment of its own, and the source distribution with tests and documentation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email import message_from_string
from pathlib import Path

from twisted.trial.unittest import SkipTest, TestCase

from tests.system.stage import ROOT

SOAK = os.environ.get("TUNNELSTACK_SOAK") == "1"


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    """
    @return: standard output.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TUNNELSTACK_"))}
    done = subprocess.run(command, cwd=cwd, env=kept | environ, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class PackageTests(TestCase):
    """
    Both files are built once from a copy of the tracked files.
    """

    timeout = 900
    built: Path | None = None

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        if PackageTests.built is None:
            PackageTests.built = self.folder / "dist"
            run(
                sys.executable, "-m", "build", "--no-isolation", "--outdir", PackageTests.built, self.source(), cwd=self.folder
            )
        (self.wheel,) = PackageTests.built.glob("*.whl")
        (self.sdist,) = PackageTests.built.glob("*.tar.gz")

    def source(self) -> Path:
        """
        A copy of what the project consists of, so that building leaves nothing in it.
        """
        copy = self.folder / "source"
        for name in self.tracked():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
        return copy

    def tracked(self) -> list[str]:
        """
        The files of the project; where there is no repository, those that the source distribution had.
        """
        if not (ROOT / ".git").exists():
            found = (ROOT / "tunnelstack.egg-info" / "SOURCES.txt").read_text().splitlines()
        else:
            found = run("git", "ls-files", cwd=ROOT).splitlines()
        return [name for name in found if (ROOT / name).is_file()]

    def test_theSourceDistributionIsComplete(self) -> None:
        """
        The kind: a file without which the tests or the documentation of a release cannot be used.
        """
        with tarfile.open(self.sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        self.assertEqual(set(self.tracked()) - names, set())

    def test_theSourceDistributionRunsItsTests(self) -> None:
        with tarfile.open(self.sdist) as archive:
            archive.extractall(self.folder, filter="data")
        (unpacked,) = self.folder.glob("tunnelstack-*")
        tests = ["tests"] if SOAK else ["tests/test_examples.py", "tests/test_words.py", "tests/test_configuration_page.py"]
        command = [sys.executable, "-m", "pytest", "-q", *tests]
        self.assertIn(" passed", run(*command, cwd=unpacked, PYTHONPATH=str(unpacked)))

    def test_theMetadataCanBeReadAnywhere(self) -> None:
        with zipfile.ZipFile(self.wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            metadata = message_from_string(archive.read(name).decode())
        self.assertEqual(
            [line.partition(",")[0] for line in metadata.get_all("Project-URL", [])],
            ["Documentation", "Changes", "Source", "Issues"],
        )
        self.assertEqual(set(metadata.get_all("Provides-Extra", [])), {"uvloop", "metrics", "otel", "dev"})
        self.assertNotIn("](docs/", metadata.get_payload())

    def test_theWheelHoldsNothingElse(self) -> None:
        with zipfile.ZipFile(self.wheel) as archive:
            roots = {name.partition("/")[0] for name in archive.namelist()}
        version = self.wheel.name.split("-")[1]
        self.assertLessEqual(
            roots, {"tunnelstack", "twisted", f"tunnelstack-{version}.dist-info", f"tunnelstack-{version}.data"}
        )

    def test_theWheelWorksInACleanEnvironment(self) -> None:
        """
        Console scripts, plugin and data files are where they belong.  Its requirements are installed from the index with
        C{TUNNELSTACK_SOAK=1}, and are otherwise those of this environment.
        """
        clean = self.folder / "clean"
        venv.create(clean, with_pip=True)
        python = clean / "bin" / "python"
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run(*pip, *([] if SOAK else ["--no-deps"]), self.wheel, cwd=self.folder)
        if not SOAK:
            place = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=self.folder).strip()
            Path(place, "requirements.pth").write_text(self.requirements())
        environ = {"HOME": str(self.folder)}
        for program in ("tunnelstack", "tunnel-edge", "tunnel-agent"):
            self.assertIn("Usage: ", run(clean / "bin" / program, "--help", cwd=self.folder, **environ))
        where = run(python, "-c", "import tunnelstack; print(tunnelstack.__file__)", cwd=self.folder)
        self.assertIn(str(clean), where)
        listed = run(python, "-m", "twisted", "--help", cwd=self.folder, **environ)
        self.assertIn("tunnel-edge", listed)

    def requirements(self) -> str:
        """
        A folder with the packages of this environment, but for tunnelstack itself.
        """
        links = self.folder / "requirements"
        links.mkdir()
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if "tunnelstack" not in path.name and path.suffix != ".pth":
                (links / path.name).symlink_to(path)
        return f"{links}\n"

    def test_pipxInstallsTheWheel(self) -> None:
        if not SOAK:
            raise SkipTest("needs the index: TUNNELSTACK_SOAK=1 runs it")
        home = self.folder / "pipx"
        venv.create(home, with_pip=True)
        run(home / "bin" / "python", "-m", "pip", "install", "--quiet", "pipx", cwd=self.folder)
        environ = {"PIPX_HOME": str(home / "home"), "PIPX_BIN_DIR": str(home / "apps"), "PIPX_MAN_DIR": str(home / "man")}
        run(home / "bin" / "pipx", "install", self.wheel, cwd=self.folder, **environ)
        self.assertIn("Usage: ", run(home / "apps" / "tunnelstack", "--help", cwd=self.folder, HOME=str(self.folder)))
