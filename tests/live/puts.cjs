// Puts records with the AWS SDK for JavaScript v3, its default settings but for the endpoint, and prints what came
// back as JSON. Arguments: endpoint, stream, file of one record a line.
const { readFileSync } = require("node:fs");
const {
  DescribeDeliveryStreamCommand, FirehoseClient, PutRecordBatchCommand, PutRecordCommand,
} = require("@aws-sdk/client-firehose");

const [endpoint, DeliveryStreamName, file] = process.argv.slice(2);
const client = new FirehoseClient({
  endpoint, region: "us-east-1", credentials: { accessKeyId: "any", secretAccessKey: "credentials" },
});
const record = (line) => ({ Data: Buffer.from(`${line}\n`) });

async function main() {
  const [first, ...rest] = readFileSync(file, "utf8").trimEnd().split("\n");
  const one = await client.send(new PutRecordCommand({ DeliveryStreamName, Record: record(first) }));
  const ids = [one.RecordId];
  let failed = 0;
  for (let at = 0; at < rest.length; at += 500) {
    const Records = rest.slice(at, at + 500).map(record);
    const batch = await client.send(new PutRecordBatchCommand({ DeliveryStreamName, Records }));
    failed += batch.FailedPutCount;
    ids.push(...batch.RequestResponses.map((response) => response.RecordId));
  }
  const found = await client.send(new DescribeDeliveryStreamCommand({ DeliveryStreamName }));
  const status = found.DeliveryStreamDescription.DeliveryStreamStatus;
  const created = found.DeliveryStreamDescription.CreateTimestamp instanceof Date;
  const refusal = await client
    .send(new DescribeDeliveryStreamCommand({ DeliveryStreamName: "nowhere" }))
    .catch((error) => error.name);
  console.log(JSON.stringify({ failed, ids: new Set(ids).size, status, created, refusal }));
}

main();
