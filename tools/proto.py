"""Generate the gRPC stubs in titan/rpc/v1 from proto/, or check that they are current.

``python -m tools.proto`` writes them; ``python -m tools.proto --check`` generates into a temporary
directory, compares, and exits 1 with the names of the files that differ. The stubs are committed:
users build no generator, and the wheel leaves out whatever git ignores.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROTO_ROOT = ROOT / "proto"
PACKAGE = Path("titan/rpc/v1")
STUB_PATTERNS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def main(arguments: list[str]) -> int:
    """Do what the command line asks and return the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m tools.proto [--check]", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="titan-proto-") as directory:
        fresh = Path(directory) / PACKAGE
        if code := generate(Path(directory)):
            return code
        if arguments:
            return report(find_differences(fresh, ROOT / PACKAGE))
        install(fresh, ROOT / PACKAGE)
    return 0


def generate(output_root: Path) -> int:
    """Write the stubs of every .proto file below `output_root`; returns protoc's exit code."""
    sources = sorted(str(path) for path in (PROTO_ROOT / PACKAGE).glob("*.proto"))
    if not sources:
        print(f"tools.proto: no .proto files in {PROTO_ROOT / PACKAGE}", file=sys.stderr)
        return 1
    # protoc finds mypy-protobuf's plugins by PATH, and this interpreter's may not be on it.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    outputs = [f"--{kind}_out={output_root}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{output_root}" for kind in ("mypy", "mypy_grpc")]
    # In a process of its own: it forks for its plugins, and aborts where gRPC has threads.
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO_ROOT}", *outputs, *sources]
    return subprocess.run(command, check=False, env={**os.environ, "PATH": path}).returncode


def find_differences(fresh: Path, committed: Path) -> list[str]:
    """Name each stub that is missing, left over, or not what the generator writes."""
    new, old = stubs(fresh), stubs(committed)
    missing = [f"{name}: missing" for name in new.keys() - old.keys()]
    left_over = [f"{name}: has no .proto file" for name in old.keys() - new.keys()]
    changed = [f"{name}: out of date" for name in new.keys() & old.keys() if new[name] != old[name]]
    return sorted(missing + left_over + changed)


def report(differences: list[str]) -> int:
    """Print the differences for people; returns the exit code."""
    for difference in differences:
        print(f"{PACKAGE}/{difference}; run 'make proto' and commit the result", file=sys.stderr)
    return 1 if differences else 0


def install(fresh: Path, committed: Path) -> None:
    """Put the fresh stubs in place and remove those whose .proto file is gone."""
    committed.mkdir(parents=True, exist_ok=True)
    for name in stubs(committed).keys() - stubs(fresh).keys():
        (committed / name).unlink()
    for name in stubs(fresh):
        shutil.copyfile(fresh / name, committed / name)


def stubs(directory: Path) -> dict[str, bytes]:
    """Return the content of each generated file in `directory`, by its name."""
    paths = [path for pattern in STUB_PATTERNS for path in directory.glob(pattern)]
    return {path.name: path.read_bytes() for path in sorted(paths)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
