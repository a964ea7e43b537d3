"""Build hook: compile the protos so that any install, editable or not, carries its stubs."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProtoBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs ``grpc_tools.protoc`` over ``proto/dyncity/v1``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write ``*_pb2.py``, ``*_pb2.pyi`` and ``*_pb2_grpc.py`` beside the protos."""
        from grpc_tools import protoc

        root = Path(self.root) / "proto"
        protos = sorted(str(p) for p in (root / "dyncity" / "v1").glob("*.proto"))
        well_known = str(files("grpc_tools") / "_proto")
        arguments = ["protoc", f"-I{root}", f"-I{well_known}", f"--python_out={root}", f"--pyi_out={root}"]
        if protoc.main([*arguments, f"--grpc_python_out={root}", *protos]) != 0:
            raise RuntimeError("protoc failed; its message is above")
