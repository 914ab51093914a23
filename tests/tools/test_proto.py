"""Stubs that are not what the generator writes are told apart and put right."""

from pathlib import Path

import pytest

from tools import proto

FRESH = {"task_pb2.py": b"new", "task_pb2.pyi": b"new", "task_pb2_grpc.py": b"new"}


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    """What the generator wrote, and the committed package, which agree."""
    fresh, committed = tmp_path / "fresh", tmp_path / "committed"
    for directory in (fresh, committed):
        directory.mkdir()
        for name, content in FRESH.items():
            (directory / name).write_bytes(content)
    (committed / "__init__.py").touch()
    return fresh, committed


def test_stubs_that_agree_are_current(directories: tuple[Path, Path]) -> None:
    assert proto.find_differences(*directories) == []


def test_every_kind_of_difference_is_named_and_put_right(directories: tuple[Path, Path]) -> None:
    fresh, committed = directories
    (committed / "task_pb2.py").write_bytes(b"old")
    (committed / "task_pb2.pyi").unlink()
    (committed / "gone_pb2_grpc.pyi").touch()
    assert proto.find_differences(fresh, committed) == [
        "gone_pb2_grpc.pyi: has no .proto file",
        "task_pb2.py: out of date",
        "task_pb2.pyi: missing",
    ]
    proto.install(fresh, committed)
    assert proto.find_differences(fresh, committed) == []
    assert (committed / "__init__.py").exists()


def test_the_check_fails_when_there_are_differences(capsys: pytest.CaptureFixture[str]) -> None:
    assert proto.report([]) == 0
    assert proto.report(["task_pb2.py: out of date"]) == 1
    assert "run 'make proto' and commit the result" in capsys.readouterr().err


def test_the_generator_writes_all_four_files_of_each_proto(tmp_path: Path) -> None:
    assert proto.generate(tmp_path) == 0
    written = proto.stubs(tmp_path / proto.PACKAGE).keys()
    sources = [path.stem for path in (proto.PROTO_ROOT / proto.PACKAGE).glob("*.proto")]
    endings = [pattern.removeprefix("*") for pattern in proto.STUB_PATTERNS]
    assert written == {source + ending for source in sources for ending in endings}
