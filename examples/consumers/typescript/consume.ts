// Prints the records of billbus topics, one JSON line a record: node consume.ts DAY TOPIC...
//
// DAY is where a group begins that never read before: a date (midnight UTC) or an instant with its offset,
// such as 2026-11-20T00:00:00-06:00. A group that did read goes on where it ended.
// Environment: KAFKA, REGISTRY, GROUP; KAFKA_USER, KAFKA_PASSWORD and KAFKA_CA where the brokers ask for them.

import { readFileSync } from "node:fs";
import { Consumer, type Message } from "@platformatic/kafka";
import avro from "avsc";

const KAFKA = process.env.KAFKA ?? "127.0.0.1:19092";
const REGISTRY = process.env.REGISTRY ?? "http://127.0.0.1:18081/apis/ccompat/v7";
const GROUP = process.env.GROUP ?? "another-team-in-typescript";
const LIMIT_MS = 20_000;
const COMMIT_AFTER = 500;

type Place = { topic: string; partition: number; offset: bigint; leaderEpoch: number };

/** How one gets in, where the brokers ask who comes. */
function login() {
  const { KAFKA_USER: username, KAFKA_PASSWORD: password, KAFKA_CA: file } = process.env;
  if (!username || !password) return {};
  return {
    sasl: { mechanism: "SCRAM-SHA-512" as const, username, password },
    tls: file ? { ca: readFileSync(file) } : {},
  };
}

async function main(day: string, topics: string[]): Promise<void> {
  const since = new Date(day).getTime();
  if (Number.isNaN(since)) throw new Error(`${day} is no day`);
  const consumer = new Consumer({ groupId: GROUP, clientId: GROUP, bootstrapBrokers: [KAFKA], ...login() });
  consumer.topics.trackAll(...topics);
  await consumer.joinGroup();
  const beginning = await begin(consumer, topics, BigInt(since));
  if (beginning.length > 0) await consumer.commit({ offsets: beginning });
  const stream = await consumer.consume({
    topics,
    mode: "committed",
    fallbackMode: "fail", // an offset that is gone is a person's affair
    autocommit: false, // below, when the records are printed
  });
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => void stream.close());
  const printed = new Map<string, Place>();
  let count = 0;
  for await (const message of stream) {
    console.log(JSON.stringify(await line(message)));
    printed.set(`${message.topic} ${message.partition}`, { ...place(message), offset: message.offset + 1n });
    if (++count % COMMIT_AFTER === 0 || stream.readableLength === 0) {
      // at least once: first the effect, then the commit
      await consumer.commit({ offsets: [...printed.values()] });
      printed.clear();
    }
  }
  if (printed.size > 0) await consumer.commit({ offsets: [...printed.values()] });
  await consumer.close();
}

/** Where partitions begin that the group never read: the day's first record, else what comes next. */
async function begin(consumer: Consumer, topics: string[], timestamp: bigint): Promise<Place[]> {
  // the ends are asked for before the day, so that no record slips in between
  const ends = await consumer.listOffsets({ topics });
  const found = await consumer.listOffsets({ topics, timestamp });
  const asked = topics.map((topic) => ({ topic, partitions: [...ends.get(topic)!.keys()] }));
  const committed = await consumer.listCommittedOffsets({ topics: asked });
  return asked.flatMap(({ topic, partitions }) =>
    partitions
      .filter((partition) => (committed.get(topic)?.[partition] ?? -1n) < 0n)
      .map((partition) => {
        const first = found.get(topic)![partition];
        const offset = first < 0n ? ends.get(topic)![partition] : first;
        return { topic, partition, offset, leaderEpoch: -1 };
      }),
  );
}

function place({ topic, partition, offset, leaderEpoch }: Message): Place {
  return { topic, partition, offset, leaderEpoch };
}

async function line(message: Message): Promise<object> {
  const { topic, partition, offset } = place(message);
  const headers = new Map([...message.headers].map(([name, value]) => [name.toString(), value.toString()]));
  try {
    return {
      topic,
      partition,
      offset: Number(offset),
      key: message.key.toString(),
      id: headers.get("ce_id") ?? null,
      time: headers.get("ce_time") ?? null,
      value: message.value ? await decode(message.value) : null, // null in a compacted topic: the key is gone
    };
  } catch (error) {
    throw new Error(`${topic}, partition ${partition}, offset ${offset} cannot be read: ${error}`);
  }
}

const schemas = new Map<number, Promise<avro.Type>>();

/** Reads the Confluent wire format: a zero, the schema's id, the Avro body. */
async function decode(value: Buffer): Promise<unknown> {
  if (value.length < 5 || value[0] !== 0) throw new Error("not in the Confluent wire format");
  const id = value.readUInt32BE(1);
  if (!schemas.has(id)) schemas.set(id, fetchSchema(id));
  const schema = await schemas.get(id)!;
  return schema.fromBuffer(value.subarray(5));
}

async function fetchSchema(id: number): Promise<avro.Type> {
  const reply = await fetch(`${REGISTRY}/schemas/ids/${id}`, { signal: AbortSignal.timeout(LIMIT_MS) });
  if (!reply.ok) throw new Error(`the registry answers ${reply.status} for schema ${id}`);
  const { schema } = (await reply.json()) as { schema: string };
  return avro.Type.forSchema(JSON.parse(schema), {
    wrapUnions: "never",
    logicalTypes: { decimal: Money, date: Day, "timestamp-millis": Instant },
  });
}

/** As text, since a number of JavaScript is not exact. */
class Money extends avro.types.LogicalType {
  scale: number;

  constructor(schema: avro.Schema, options?: object) {
    super(schema, options);
    this.scale = (schema as { scale?: number }).scale ?? 0;
  }

  _fromValue(bytes: Buffer): string {
    const unscaled = BigInt.asIntN(8 * bytes.length, BigInt(`0x${bytes.toString("hex") || "0"}`));
    const digits = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(this.scale + 1, "0");
    const point = digits.length - this.scale;
    const sign = unscaled < 0n ? "-" : "";
    return `${sign}${digits.slice(0, point)}${this.scale ? "." : ""}${digits.slice(point)}`;
  }
}

class Day extends avro.types.LogicalType {
  _fromValue(days: number): string {
    return new Date(days * 86_400_000).toISOString().slice(0, 10);
  }
}

class Instant extends avro.types.LogicalType {
  _fromValue(millis: number): string {
    return new Date(millis).toISOString();
  }
}

if (process.argv.length < 4) {
  console.error("node consume.ts DAY TOPIC...");
  process.exit(1);
}
await main(process.argv[2], process.argv.slice(3));
