// Vectron from TypeScript: stores texts, finds them, and loads many on a stream that survives a broken connection.
//
// usage: node dist/client.js [host:port]     (default: localhost:3000)
import { randomUUID } from "node:crypto";
import { PassThrough } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Client } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { StreamUpsertRequestSchema, UpsertFrameSchema } from "./generated/vectron/v1/stream_pb.js";
import { VectorService } from "./generated/vectron/v1/vector_service_pb.js";

type Store = Client<typeof VectorService>;
type Sent = MessageInitShape<typeof StreamUpsertRequestSchema>["message"];

const COLLECTION = "example-typescript";
const TEXTS = {
  tides: "The moon's gravity pulls the oceans and makes the tides.",
  bread: "Knead the dough for ten minutes and let it rise overnight.",
  chess: "The bishop moves diagonally across the board.",
};
const QUERIES = ["why does the sea rise and fall", "baking", "board games"];
// What is loaded: frames of some records each. Any frame can be made again from its number, when it has to be sent again.
const FRAMES = 40;
const FRAME_RECORDS = 25;
// Frames that are sent and not settled. The server would allow more, but it is busy with these.
const UNSETTLED_MAX = 16;

// One batch: all of it is stored, or nothing. The server embeds the texts; `createMissing` makes the collection.
async function storeTexts(store: Store) {
  const records = Object.entries(TEXTS).map(([id, text]) => ({
    id,
    text,
    // Metadata keeps its types, 64-bit integers too: those are `bigint` here.
    metadata: { length: { kind: { case: "intValue" as const, value: BigInt(text.length) } } },
  }));
  // The answer means: synced to disk, and visible. Put a deadline on every call.
  const stored = await store.upsert({ collection: COLLECTION, records, createMissing: true }, { timeoutMs: 60_000 });
  console.log(`stored ${stored.recordCount} texts`);
}

const query = (text: string, collection = COLLECTION) =>
  ({ collection, query: { case: "text" as const, value: { text } }, topK: 1 });

async function search(store: Store) {
  const { hits } = await store.search(query(QUERIES[0]), { timeoutMs: 60_000 });
  console.log(`${QUERIES[0]}: ${hits[0].record?.id}`);
  try {
    await store.search(query("x", "nope"), { timeoutMs: 60_000 });
  } catch (error) {
    // Every error has a code for programs and a text for people.
    if (!(error instanceof ConnectError && error.code === Code.NotFound)) throw error;
    console.log(`not found: ${error.rawMessage}`);
  }
}

// All queries are in flight at once on one stream. Answers may overtake each other: `queryIndex` tells which is which.
async function searchMany(store: Store) {
  async function* requests() {
    for (const [index, text] of QUERIES.entries()) yield { queryIndex: BigInt(index), search: query(text) };
  }
  const nearest: string[] = [];
  for await (const { queryIndex, result } of store.streamSearch(requests(), { timeoutMs: 60_000 })) {
    // An error concerns its query alone; the stream goes on.
    const said = result.case === "response" ? result.value.hits[0].record?.id : result.value?.message;
    nearest[Number(queryIndex)] = said ?? "nothing";
  }
  QUERIES.forEach((text, index) => console.log(`${index}: ${text}: ${nearest[index]}`));
}

function frame(number: number) {
  const first = (number - 1) * FRAME_RECORDS;
  const records = Array.from({ length: FRAME_RECORDS }, (_, n) => ({ id: `note-${first + n}`, text: `Note ${first + n}.` }));
  return create(UpsertFrameSchema, { frame: BigInt(number), records });
}

// Nothing is lost and nothing is written twice, however often the connection breaks.
async function load(store: Store) {
  // The server knows the stream by this name. A job that is to go on after a crash of its own writes it down.
  const streamId = randomUUID();
  for (let connections = 1; ; connections++) {
    try {
      await loadOn(store, streamId);
      console.log(`loaded ${FRAMES} frames over ${connections} connections`);
      return;
    } catch (error) {
      // What the server refuses has details; a broken connection has none. A refusal would come again the next time,
      // unless the server is only stopping or starting.
      const isTransient = error instanceof ConnectError && (error.code === Code.Unavailable || !error.details.length);
      if (!isTransient || connections === 30) throw error;
      await sleep(200);
    }
  }
}

async function loadOn(store: Store, streamId: string) {
  const requests = new PassThrough({ objectMode: true }); // what is written into it is sent, until its end
  const send = (message: Sent) => requests.write(create(StreamUpsertRequestSchema, { message }));
  const answers = store.streamUpsert(requests)[Symbol.asyncIterator]();
  const next = async () => (await answers.next()).value?.message;
  try {
    send({ case: "open", value: { streamId, collection: COLLECTION, createMissing: true } });
    const opened = await next();
    if (opened?.case !== "opened") throw new ConnectError("the stream was not opened", Code.Unavailable);
    // This is how to go on: the server says which frame it wants next. Everything before it is settled.
    let settled = Number(opened.value.resumeFrom) - 1;
    let sent = settled;
    let creditBytes = Number(opened.value.limits?.creditBytes);
    const unsettledBytes = new Map<number, number>();
    while (settled < FRAMES) {
      while (sent < Math.min(FRAMES, settled + UNSETTLED_MAX)) {
        const message = frame(sent + 1);
        const size = toBinary(UpsertFrameSchema, message).length;
        if ([...unsettledBytes.values()].reduce((sum, bytes) => sum + bytes, size) > creditBytes) break;
        send({ case: "frame", value: message });
        unsettledBytes.set(++sent, size);
      }
      const answer = await next();
      if (answer === undefined) throw new ConnectError("the stream has ended", Code.Unavailable);
      if (answer.case === "refused") {
        // The whole frame, for good: `settled` will pass it.
        console.log(`frame ${answer.value.frame} was refused: ${answer.value.message}`);
      } else if (answer.case === "progress") {
        settled = Number(answer.value.settledFrame);
        creditBytes = Number(answer.value.creditBytes);
        for (const number of unsettledBytes.keys()) if (number <= settled) unsettledBytes.delete(number);
      }
    }
    // All is settled. Now the server may forget the name; if it cannot be told, no harm is done.
    send({ case: "finish", value: {} });
    await next().catch(() => undefined);
  } finally {
    requests.end();
  }
}

const store = createClient(VectorService, createGrpcTransport({ baseUrl: `http://${process.argv[2] ?? "localhost:3000"}` }));
for (const step of [storeTexts, search, searchMany, load]) await step(store);
