"""A client that anybody could write: generated from proto/ with grpcio-tools, it stores texts and finds them again.

Starts the real server on free ports with a data folder of its own, and fails with a clear word.
"""

import pathlib
import re
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXTS = {
    "tides": "The moon's gravity pulls the oceans and makes the tides.",
    "bread": "Knead the dough for ten minutes and let it rise overnight.",
    "chess": "The bishop moves diagonally across the board.",
}


def generate(folder):
    from grpc_tools import protoc

    files = [str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("v1/*.proto")]
    include = pathlib.Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{include}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main(arguments + files) != 0:
        sys.exit("protoc has failed")
    sys.path.insert(0, str(folder))


def start(folder):
    command = [ROOT / "target/release/vectron", "serve", "--offline", "--data", folder / "data"]
    command += ["--listen", "127.0.0.1:0", "--embedding-listen", "127.0.0.1:0"]
    command += ["--model-cache", ROOT / "model_cache"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=folder)
    addresses = {}
    for line in server.stderr:
        for name, pattern in (("store", r"vectron listens on http://(\S+)"), ("embedding", r"embeddings on http://(\S+)")):
            if found := re.search(pattern, line):
                addresses[name] = found.group(1)
        if "texts can be embedded" in line:
            return server, addresses
    sys.exit("the server has ended before it was ready")


def use(addresses):
    import grpc
    from vectron.embedding.v1 import embedding_service_pb2, embedding_service_pb2_grpc
    from vectron.v1 import record_pb2, search_pb2, value_pb2, vector_service_pb2, vector_service_pb2_grpc

    store = vector_service_pb2_grpc.VectorServiceStub(grpc.insecure_channel(addresses["store"]))
    records = [
        record_pb2.RecordInput(id=id, text=text, metadata={"n": value_pb2.Value(int_value=n)})
        for n, (id, text) in enumerate(TEXTS.items())
    ]
    written = store.Upsert(
        vector_service_pb2.UpsertRequest(collection="python", records=records, create_missing=True), timeout=60
    )
    assert written.record_count == 3, written

    for query, expected in (("why does the sea rise and fall", "tides"), ("baking", "bread"), ("board games", "chess")):
        request = search_pb2.SearchRequest(
            collection="python", text=search_pb2.TextQuery(text=query), top_k=2, min_sequence=written.sequence
        )
        hits = store.Search(request, timeout=60).hits
        assert len(hits) == 2 and hits[0].record.id == expected, hits
        assert hits[0].record.text == TEXTS[expected], hits

    try:
        store.Search(search_pb2.SearchRequest(collection="nope", text=search_pb2.TextQuery(text="x")), timeout=60)
        sys.exit("an unknown collection was found")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND and "nope" in error.details(), error

    embedding = embedding_service_pb2_grpc.EmbeddingServiceStub(grpc.insecure_channel(addresses["embedding"]))
    answer = embedding.Embed(embedding_service_pb2.EmbedRequest(texts=["hello"]), timeout=60)
    components = struct.unpack(f"<{answer.dimension}f", answer.embeddings[0].f32_le)
    assert abs(sum(x * x for x in components) - 1) < 1e-4, components


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        generate(folder)
        server, addresses = start(folder)
        try:
            use(addresses)
        finally:
            server.terminate()
            server.wait(timeout=30)
    assert server.returncode == 0, server.returncode
    print("the Python client stored and found its texts")


main()
