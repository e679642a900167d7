"""The real server in a process of its own, and the client code that grpcio-tools generates from proto/."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def generate(folder):
    """Generates the client code and makes it importable."""
    from grpc_tools import protoc

    files = [str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("v1/*.proto")]
    include = pathlib.Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{include}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main(arguments + files) != 0:
        raise SystemExit("protoc has failed")
    sys.path.insert(0, str(folder))


class Server:
    """A running server: its addresses, its process, and the lines that it logged until it was ready."""

    def __init__(self, folder):
        command = [ROOT / "target/release/vectron", "serve", "--offline", "--data", folder / "data"]
        command += ["--listen", "127.0.0.1:0", "--embedding-listen", "127.0.0.1:0"]
        command += ["--model-cache", os.environ.get("VECTRON_MODEL_CACHE", ROOT / "model_cache")]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=folder)
        self.log = []
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            if "texts can be embedded" in line:
                break
        else:
            raise SystemExit("the server has ended before it was ready:\n" + "\n".join(self.log))
        self.store = self.find(r"vectron listens on http://(\S+)")
        self.embedding = self.find(r"embeddings on http://(\S+)")

    def find(self, pattern):
        """What the pattern's group matches in the log."""
        return next(found.group(1) for line in self.log if (found := re.search(pattern, line)))

    def stop(self):
        """SIGTERM; the server must end by itself and with success."""
        self.process.terminate()
        if self.process.wait(timeout=60) != 0:
            raise SystemExit(f"the server ended with {self.process.returncode}")


@contextlib.contextmanager
def serve(folder):
    server = Server(folder)
    try:
        yield server
    finally:
        server.stop()
