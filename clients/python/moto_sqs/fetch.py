"""Lays moto's sources with its tests for SQS into .moto, from the source distribution that is pinned by hash.

The tests are left as they are, but for the one address that they have typed in.
"""

import pathlib
import shutil
import subprocess
import sys
import tarfile

HERE = pathlib.Path(__file__).parent
FOLDER = HERE.parent / ".moto"
TYPED_IN = '"http://localhost:5000"'
KEPT = ("moto/", "tests/test_sqs/", "tests/__init__.py", "tests/conftest.py", "tests/markers.py")


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:",
         "--no-build-isolation", "--require-hashes", "--requirement", HERE / "requirements.txt", "--dest", FOLDER],
        check=True,
    )
    (archive,) = FOLDER.glob("moto-*.tar.gz")
    with tarfile.open(archive) as tar:
        for member in tar:
            path = member.name.partition("/")[2]
            if member.isfile() and path.startswith(KEPT):
                tar.extract(member.replace(name=path), FOLDER / "source", filter="data")
    tests = FOLDER / "source" / "tests" / "test_sqs" / "test_sqs.py"
    text = tests.read_text(encoding="utf-8")
    assert TYPED_IN in text and "import os\n" in text
    tests.write_text(text.replace(TYPED_IN, 'os.environ["TEST_SERVER_MODE_ENDPOINT"]'), encoding="utf-8")


if __name__ == "__main__":
    main()
