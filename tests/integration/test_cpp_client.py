"""The example in C++ against the protos alone; building it whole takes minutes, so that its types are checked."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("g++", "protoc", "grpc_cpp_plugin")


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)) or not Path("/usr/include/grpcpp/grpcpp.h").exists(),
    reason="gRPC for C++ (Debian's libgrpc++-dev, protobuf-compiler-grpc) is not installed",
)
def test_the_example_in_cpp_needs_nothing_but_the_protos(tmp_path: Path) -> None:
    plugin = f"--plugin=protoc-gen-grpc={shutil.which('grpc_cpp_plugin')}"
    protos = sorted(map(str, (ROOT / "proto/dyncity/v1").glob("*.proto")))
    generated = [f"--cpp_out={tmp_path}", f"--grpc_out={tmp_path}"]
    subprocess.run(["protoc", "-I", str(ROOT / "proto"), *generated, plugin, *protos], check=True)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    checked = subprocess.run(
        ["g++", *flags, f"-I{tmp_path}", str(ROOT / "examples/call_server.cc")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
