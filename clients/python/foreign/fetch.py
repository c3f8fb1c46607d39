"""Lays the sources of py-amqp, kombu and aio-pika with their own tests into .foreign, from the source distributions that
are pinned by hash. The tests are left as they are.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

HERE = pathlib.Path(__file__).parent
FOLDER = HERE.parent / ".foreign"
# Where tests import what they test from the folder that they lie in: it is what is installed that is tested.
TESTS = {"amqp": "t/", "kombu": "t/", "aio_pika": "tests/"}


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    # One of the build tools is a program that lies beside the interpreter.
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:",
         "--no-build-isolation", "--require-hashes", "--requirement", HERE / "sources.txt", "--dest", FOLDER],
        check=True, env={**os.environ, "PATH": path},
    )
    for archive in FOLDER.glob("*.tar.gz"):
        name = archive.name.rsplit("-", 1)[0]
        with tarfile.open(archive) as tar:
            for member in tar:
                path = member.name.partition("/")[2]
                if member.isfile() and path.startswith(TESTS[name]):
                    tar.extract(member.replace(name=path), FOLDER / name, filter="data")


if __name__ == "__main__":
    main()
