"""Runs the clients of examples/ against a real server, through a connection that breaks while they load. `make examples`

usage: run.py [python] [typescript] [grpcurl] [openai]     (default: all)
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
# OpenAI's client speaks to the embedding service alone.
OPENAI = "openai"
OPENAI_CLIENT = [sys.executable, EXAMPLES / "python" / "openai_client.py"]
OPENAI_EXPECTED = """\
2 embeddings of 384 numbers, the same either way: True
tokens: 27 of minilm
nearest: The moon's gravity pulls the oceans and makes the tides.
NotFoundError model_not_found model
BadRequestError invalid_argument input
BadRequestError invalid_argument dimensions
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


def run_openai(address):
    client = subprocess.run([*OPENAI_CLIENT, address], capture_output=True, text=True, timeout=CLIENT_MAX_S)
    models, _, rest = client.stdout.partition("\n")
    if client.returncode != 0 or "minilm" not in models or rest != OPENAI_EXPECTED:
        raise SystemExit(f"OpenAI's client ended with {client.returncode} and said\n{client.stdout}{client.stderr}")
    print("OpenAI's client had its embeddings")


def check_not_repeated(address):
    """What fails again and again, a missing key of a provider here, OpenAI's client asks for once."""
    import urllib.request

    import openai

    told = None
    try:
        client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="not needed", timeout=60)
        client.embeddings.create(model="openai-small", input="x")
    except openai.InternalServerError as error:
        told = error.code
    figures = urllib.request.urlopen(f"http://{address}/metrics").read().decode().splitlines()
    answered = [line for line in figures if line.startswith("vectron_embedding_requests_total{") and '"503"' in line]
    if told != "provider_no_key" or len(answered) != 1 or not answered[0].endswith("} 1"):
        raise SystemExit(f"OpenAI's client was told {told}, and asked so often:\n" + "\n".join(answered))


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
    names = sys.argv[1:] or [*CLIENTS, OPENAI]
    generate(EXAMPLES / "python" / "generated")
    with tempfile.TemporaryDirectory() as folder, serve(pathlib.Path(folder)) as server:
        check_embedding(server.embedding)
        collections = []
        if OPENAI in names:
            run_openai(server.embedding)
            check_not_repeated(server.embedding)
        for name in (name for name in names if name != OPENAI):
            collections = sorted([*collections, f"example-{name}"])
            proxy = BreakingProxy(server.store, BREAKS_AT)
            run(name, proxy.address, collections)
            assert proxy.breaks == 1
            proxy.close()
            check_records(server.store, f"example-{name}")
            print(f"the {name} client stored, found and loaded its texts")


if __name__ == "__main__":
    main()
