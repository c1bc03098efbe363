// A data stream from its creation on, with the AWS SDK for JavaScript v3, its default settings (HTTP/2, prior
// knowledge) but for the endpoint: written, read, and all its shards subscribed to at once. Prints what came back as
// JSON. Arguments: endpoint, stream, shards, file of one record a line.
const { readFileSync } = require("node:fs");
const {
  CreateStreamCommand, DescribeStreamConsumerCommand, DescribeStreamSummaryCommand, GetRecordsCommand,
  GetShardIteratorCommand, KinesisClient, ListShardsCommand, PutRecordCommand, PutRecordsCommand,
  RegisterStreamConsumerCommand, SubscribeToShardCommand, waitUntilStreamExists,
} = require("@aws-sdk/client-kinesis");

const [endpoint, StreamName, shards, file] = process.argv.slice(2);
const client = new KinesisClient({
  endpoint, region: "us-east-1", credentials: { accessKeyId: "any", secretAccessKey: "credentials" },
});
const text = (record) => Buffer.from(record.Data).toString();

async function write(lines) {
  const entry = (line, at) => ({ Data: Buffer.from(line), PartitionKey: `key-${at}` });
  const [first, ...rest] = lines.map(entry);
  const one = await client.send(new PutRecordCommand({ StreamName, ...first }));
  let failed = one.SequenceNumber ? 0 : 1;
  for (let at = 0; at < rest.length; at += 500) {
    failed += (await client.send(new PutRecordsCommand({ StreamName, Records: rest.slice(at, at + 500) }))).FailedRecordCount;
  }
  return failed;
}

async function read(ShardId) {
  const ask = new GetShardIteratorCommand({ StreamName, ShardId, ShardIteratorType: "TRIM_HORIZON" });
  let { ShardIterator } = await client.send(ask);
  const found = [];
  for (;;) {
    const some = await client.send(new GetRecordsCommand({ ShardIterator }));
    found.push(...some.Records.map(text));
    if (some.MillisBehindLatest === 0) return found;
    ShardIterator = some.NextShardIterator;
  }
}

async function consumer() {
  const { StreamDescriptionSummary: { StreamARN } } = await client.send(new DescribeStreamSummaryCommand({ StreamName }));
  const made = await client.send(new RegisterStreamConsumerCommand({ StreamARN, ConsumerName: "js" }));
  const { ConsumerARN } = made.Consumer;
  for (;;) {
    const { ConsumerDescription } = await client.send(new DescribeStreamConsumerCommand({ ConsumerARN }));
    if (ConsumerDescription.ConsumerStatus === "ACTIVE") return ConsumerARN;
  }
}

async function subscribe(ConsumerARN, ShardId, all) {
  const StartingPosition = { Type: "TRIM_HORIZON" };
  const answer = await client.send(new SubscribeToShardCommand({ ConsumerARN, ShardId, StartingPosition }));
  for await (const event of answer.EventStream) {
    all.push(...event.SubscribeToShardEvent.Records.map(text));
    if (event.SubscribeToShardEvent.MillisBehindLatest === 0) return;
  }
}

async function main() {
  const lines = readFileSync(file, "utf8").trimEnd().split("\n");
  await client.send(new CreateStreamCommand({ StreamName, ShardCount: Number(shards) }));
  await waitUntilStreamExists({ client, maxWaitTime: 300, minDelay: 1, maxDelay: 1 }, { StreamName });
  const failed = await write(lines);
  const { Shards } = await client.send(new ListShardsCommand({ StreamName }));
  const ids = Shards.map((shard) => shard.ShardId);
  const polled = (await Promise.all(ids.map(read))).flat();
  const ConsumerARN = await consumer();
  const subscribed = [];
  await Promise.all(ids.map((id) => subscribe(ConsumerARN, id, subscribed)));
  const refusal = await client
    .send(new SubscribeToShardCommand({ ConsumerARN, ShardId: "shardId-000000009999", StartingPosition: { Type: "LATEST" } }))
    .catch((error) => error.name);
  const same = (found) => JSON.stringify(found.sort()) === JSON.stringify([...lines].sort());
  console.log(JSON.stringify({ failed, shards: ids.length, polled: same(polled), subscribed: same(subscribed), refusal }));
}

main().then(() => process.exit(0)); // the connections of subscriptions outlive the client
