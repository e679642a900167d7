"""Vectron from Python: stores texts, finds them, and loads many on a stream that survives a broken connection.

usage: client.py [host:port]     (default: localhost:3000)
"""

import contextlib
import pathlib
import queue
import sys
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).parent / "generated"))

import grpc  # noqa: E402
from vectron.v1 import record_pb2, search_pb2, stream_pb2, value_pb2, vector_service_pb2  # noqa: E402
from vectron.v1.vector_service_pb2_grpc import VectorServiceStub  # noqa: E402

COLLECTION = "example-python"
TEXTS = {
    "tides": "The moon's gravity pulls the oceans and makes the tides.",
    "bread": "Knead the dough for ten minutes and let it rise overnight.",
    "chess": "The bishop moves diagonally across the board.",
}
QUERIES = ["why does the sea rise and fall", "baking", "board games"]
# What is loaded: frames of some records each. Any frame can be made again from its number, when it has to be sent again.
FRAMES, FRAME_RECORDS = 40, 25
# Frames that are sent and not settled. The server would allow more, but it is busy with these.
UNSETTLED_MAX = 16


def store_texts(store):
    """One batch: all of it is stored, or nothing. The server embeds the texts; `create_missing` makes the collection."""
    # Metadata keeps its types, 64-bit integers too.
    length = lambda text: {"length": value_pb2.Value(int_value=len(text))}  # noqa: E731
    records = [record_pb2.RecordInput(id=id, text=text, metadata=length(text)) for id, text in TEXTS.items()]
    request = vector_service_pb2.UpsertRequest(collection=COLLECTION, records=records, create_missing=True)
    # The answer means: synced to disk, and visible. Put a deadline on every call.
    print("stored", store.Upsert(request, timeout=60).record_count, "texts")


def query(text, collection=COLLECTION):
    return search_pb2.SearchRequest(collection=collection, text=search_pb2.TextQuery(text=text), top_k=1)


def search(store):
    hits = store.Search(query(QUERIES[0]), timeout=60).hits
    print(f"{QUERIES[0]}: {hits[0].record.id}")
    try:
        store.Search(query("x", collection="nope"), timeout=60)
    except grpc.RpcError as error:
        # Every error has a code for programs and a text for people.
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        print("not found:", error.details())


def search_many(store):
    """All queries are in flight at once on one stream. Answers may overtake each other: `query_index` tells which is which."""
    requests = [stream_pb2.StreamSearchRequest(query_index=n, search=query(text)) for n, text in enumerate(QUERIES)]
    nearest = {}
    for answer in store.StreamSearch(iter(requests), timeout=60):
        # An error concerns its query alone; the stream goes on.
        failed = answer.HasField("error")
        nearest[answer.query_index] = answer.error.message if failed else answer.response.hits[0].record.id
    for index in sorted(nearest):
        print(f"{index}: {QUERIES[index]}: {nearest[index]}")


def frame(number):
    first = (number - 1) * FRAME_RECORDS
    records = [record_pb2.RecordInput(id=f"note-{n}", text=f"Note {n}.") for n in range(first, first + FRAME_RECORDS)]
    return stream_pb2.UpsertFrame(frame=number, records=records)


def load(store):
    """Nothing is lost and nothing is written twice, however often the connection breaks."""
    # The server knows the stream by this name. A job that is to go on after a crash of its own writes it down.
    stream_id = str(uuid.uuid4())
    for connections in range(1, 31):
        try:
            load_on(store, stream_id)
            print(f"loaded {FRAMES} frames over {connections} connections")
            return
        except grpc.RpcError as error:
            # What is in the way of this connection alone. Anything else would be so again the next time.
            if error.code() != grpc.StatusCode.UNAVAILABLE or connections == 30:
                raise
            time.sleep(0.2)


def load_on(store, stream_id):
    requests = queue.SimpleQueue()  # gRPC sends what is put into it, until it gets None
    send = lambda **message: requests.put(stream_pb2.StreamUpsertRequest(**message))  # noqa: E731
    try:
        answers = store.StreamUpsert(iter(requests.get, None))
        send(open=stream_pb2.StreamOpen(stream_id=stream_id, collection=COLLECTION, create_missing=True))
        opened = next(answers).opened
        # This is how to go on: the server says which frame it wants next. Everything before it is settled.
        sent = settled = opened.resume_from - 1
        credit_bytes, unsettled_bytes = opened.limits.credit_bytes, {}
        while settled < FRAMES:
            while sent < min(FRAMES, settled + UNSETTLED_MAX):
                message = frame(sent + 1)
                if sum(unsettled_bytes.values()) + message.ByteSize() > credit_bytes:
                    break
                send(frame=message)
                sent += 1
                unsettled_bytes[sent] = message.ByteSize()
            answer = next(answers)
            if answer.HasField("refused"):  # the whole frame, for good: `settled` will pass it
                print(f"frame {answer.refused.frame} was refused: {answer.refused.message}")
            if answer.HasField("progress"):
                settled, credit_bytes = answer.progress.settled_frame, answer.progress.credit_bytes
                unsettled_bytes = {n: size for n, size in unsettled_bytes.items() if n > settled}
        # All is settled. Now the server may forget the name; if it cannot be told, no harm is done.
        with contextlib.suppress(grpc.RpcError):
            send(finish=stream_pb2.StreamFinish())
            next(answers)
    finally:
        requests.put(None)


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "localhost:3000"
    with grpc.insecure_channel(address) as channel:
        store = VectorServiceStub(channel)
        for step in (store_texts, search, search_many, load):
            step(store)
