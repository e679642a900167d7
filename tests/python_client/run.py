"""A client that anybody could write: generated from proto/, it stores texts and finds them again. Run by `make test`."""

import pathlib
import struct
import tempfile

from server import generate, serve

TEXTS = {
    "tides": "The moon's gravity pulls the oceans and makes the tides.",
    "bread": "Knead the dough for ten minutes and let it rise overnight.",
    "chess": "The bishop moves diagonally across the board.",
}


def use_the_store(address):
    import grpc
    from vectron.v1 import record_pb2, search_pb2, value_pb2, vector_service_pb2, vector_service_pb2_grpc

    store = vector_service_pb2_grpc.VectorServiceStub(grpc.insecure_channel(address))
    records = [
        record_pb2.RecordInput(id=id, text=text, metadata={"n": value_pb2.Value(int_value=n)})
        for n, (id, text) in enumerate(TEXTS.items())
    ]
    request = vector_service_pb2.UpsertRequest(collection="python", records=records, create_missing=True)
    written = store.Upsert(request, timeout=60)
    assert written.record_count == 3, written

    for query, expected in (("why does the sea rise and fall", "tides"), ("baking", "bread"), ("board games", "chess")):
        text = search_pb2.TextQuery(text=query)
        request = search_pb2.SearchRequest(collection="python", text=text, top_k=2, min_sequence=written.sequence)
        hits = store.Search(request, timeout=60).hits
        assert len(hits) == 2 and hits[0].record.id == expected, hits
        assert hits[0].record.text == TEXTS[expected], hits

    try:
        store.Search(search_pb2.SearchRequest(collection="nope", text=search_pb2.TextQuery(text="x")), timeout=60)
        raise SystemExit("an unknown collection was found")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND and "nope" in error.details(), error


def use_the_embedding_service(address):
    import grpc
    from vectron.embedding.v1 import embedding_service_pb2, embedding_service_pb2_grpc

    service = embedding_service_pb2_grpc.EmbeddingServiceStub(grpc.insecure_channel(address))
    answer = service.Embed(embedding_service_pb2.EmbedRequest(texts=["hello"]), timeout=60)
    components = struct.unpack(f"<{answer.dimension}f", answer.embeddings[0].f32_le)
    assert abs(sum(x * x for x in components) - 1) < 1e-4, components


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        generate(folder)
        with serve(folder) as server:
            use_the_store(server.store)
            use_the_embedding_service(server.embedding)
    print("the Python client stored its texts and found them again")


if __name__ == "__main__":
    main()
