"""Generates the client's code from proto/ into `generated/`. Needs nothing but grpcio-tools, which brings protoc."""

import pathlib

from grpc_tools import protoc

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parents[1] / "proto"


def generate(folder):
    folder.mkdir(exist_ok=True)
    files = [str(path.relative_to(PROTO)) for path in PROTO.rglob("v1/*.proto")]
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    options = [f"-I{PROTO}", f"-I{well_known}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main(["protoc", *options, *files]) != 0:
        raise SystemExit("protoc has failed")


if __name__ == "__main__":
    generate(HERE / "generated")
