// Open loop: requests leave when they are due, however long the answers take. Run by latency.py with k6.
import http from "k6/http";
import exec from "k6/execution";

// One body for each of k6's users, of bytes: to join strings anew for each request takes it longer than to send it.
const body = new Uint8Array(open(__ENV.BODY, "b"));
const place = parseInt(__ENV.PLACE);
const first = parseInt(__ENV.FIRST);
const parameters = { headers: { "content-type": "application/x-ndjson" } };

export const options = {
  discardResponseBodies: true,
  summaryTrendStats: ["p(50)", "p(99)", "max"],
  scenarios: {
    load: {
      executor: "constant-arrival-rate",
      rate: parseInt(__ENV.RATE),
      timeUnit: "1s",
      duration: __ENV.DURATION,
      preAllocatedVUs: 64,
      maxVUs: 256,
    },
  },
};

export default function () {
  const number = String(first + exec.scenario.iterationInTest).padStart(12, "0");
  for (let digit = 0; digit < number.length; digit++) {
    body[place + digit] = number.charCodeAt(digit);
  }
  http.post(__ENV.URL, body.buffer, parameters);
}

export function handleSummary(data) {
  return { [__ENV.SUMMARY]: JSON.stringify(data.metrics) };
}
