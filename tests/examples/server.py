"""The real server in a process of its own, and the client code that is generated from proto/."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
READY = "texts can be embedded"
START_MAX_S = 120


def generate(folder):
    """Generates the client code as examples/python does, and makes it importable."""
    sys.path.insert(0, str(ROOT / "examples" / "python"))
    import generate

    generate.generate(folder)
    sys.path.insert(0, str(folder))


def environment():
    """This environment without anybody's settings: a server of a test depends on its arguments alone."""
    settings = ("VECTRON_", "HF_", "OPENAI_", "RUST_LOG")
    return {name: value for name, value in os.environ.items() if not name.startswith(settings)}


class Server:
    """A running server: its addresses, its process, and what it logs."""

    def __init__(self, folder):
        binary = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "vectron"
        command = [binary, "serve", "--offline", "--log", "info", "--data", folder / "data"]
        command += ["--listen", "127.0.0.1:0", "--embedding-listen", "127.0.0.1:0"]
        command += ["--model-cache", ROOT / os.environ.get("VECTRON_MODEL_CACHE", "model_cache")]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=folder, env=environment()
        )
        self.log = []
        ready = threading.Event()
        threading.Thread(target=self.read_log, args=(ready,), daemon=True).start()
        if not ready.wait(timeout=START_MAX_S) or not self.has_logged(READY):
            self.process.kill()
            raise SystemExit("the server was not ready in time:\n" + "\n".join(self.log))
        self.store = self.find(r"vectron listens on http://(\S+)")
        self.embedding = self.find(r"embeddings on http://(\S+)")

    def read_log(self, ready):
        """Reads to the end, so that the server never waits for a reader."""
        for line in self.process.stderr:
            self.log.append(line.rstrip())
            if READY in line:
                ready.set()
        ready.set()

    def has_logged(self, text):
        return any(text in line for line in self.log)

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
