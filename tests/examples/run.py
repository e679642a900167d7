"""Runs the clients of examples/ against a real server, through a connection that breaks while they load. `make examples`

usage: run.py [python] [typescript] [grpcurl]     (default: all)
"""

import pathlib
import struct
import subprocess
import sys
import tempfile

from proxy import BreakingProxy
from server import ROOT, generate, serve

EXAMPLES = ROOT / "examples"
CLIENTS = {
    "python": [sys.executable, EXAMPLES / "python" / "client.py"],
    "typescript": ["node", EXAMPLES / "typescript" / "dist" / "client.js"],
    "grpcurl": ["bash", EXAMPLES / "grpcurl" / "client.sh"],
}
# What each of them says.
EXPECTED = """\
stored 3 texts
why does the sea rise and fall: tides
not found: there is no collection "nope"; there are: {collections}
0: why does the sea rise and fall: tides
1: baking: bread
2: board games: chess
loaded 40 frames over 2 connections
"""
TEXTS = 3 + 40 * 25
# A record in the middle of what they load.
BREAKS_AT = b"note-600"
CLIENT_MAX_S = 60


def run(name, address, collections):
    command = [*CLIENTS[name], address]
    client = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_MAX_S)
    if client.returncode != 0 or client.stdout != EXPECTED.format(collections=", ".join(collections)):
        raise SystemExit(f"the {name} client ended with {client.returncode} and said\n{client.stdout}{client.stderr}")


def check_records(address, collection):
    """All are there, and none was written twice: each write of a frame has a sequence of its own."""
    import grpc
    from vectron.v1 import vector_service_pb2, vector_service_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        store = vector_service_pb2_grpc.VectorServiceStub(channel)
        request = vector_service_pb2.ListRequest(collection=collection, page_size=10000)
        records = store.List(request, timeout=60).records
    assert len(records) == TEXTS, len(records)
    by_id = {record.id: record for record in records}
    assert by_id["tides"].metadata["length"].int_value == 56, by_id["tides"].metadata
    # A frame has one sequence, and frames have them in their order: a frame that was written again would be later.
    versions = [by_id[f"note-{n}"].version for n in range(1000)]
    assert versions == sorted(versions) and len(set(versions)) == 40, versions


def check_embedding(address):
    import grpc
    from vectron.embedding.v1 import embedding_service_pb2, embedding_service_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        service = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        answer = service.Embed(embedding_service_pb2.EmbedRequest(texts=["hello"]), timeout=60)
    components = struct.unpack(f"<{answer.dimension}f", answer.embeddings[0].f32_le)
    assert abs(sum(x * x for x in components) - 1) < 1e-4, components


def main():
    names = sys.argv[1:] or list(CLIENTS)
    generate(EXAMPLES / "python" / "generated")
    with tempfile.TemporaryDirectory() as folder, serve(pathlib.Path(folder)) as server:
        check_embedding(server.embedding)
        collections = []
        for name in names:
            collections = sorted([*collections, f"example-{name}"])
            proxy = BreakingProxy(server.store, BREAKS_AT)
            run(name, proxy.address, collections)
            assert proxy.breaks == 1
            proxy.close()
            check_records(server.store, f"example-{name}")
            print(f"the {name} client stored, found and loaded its texts")


if __name__ == "__main__":
    main()
