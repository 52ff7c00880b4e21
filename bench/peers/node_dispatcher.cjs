// The same work on Node, as one would write it there: NDJSON in by POST, an array of events for
// the channel, frames or PUT bodies of up to 10,000 events out.  Nothing is kept on disk,
// nothing is confirmed, and without --parse nothing of an event is checked.
//
//     node node_dispatcher.cjs [--parse] [--put URL]
//
// Without --put, events go to the newest WebSocket.  Says `ready http://127.0.0.1:PORT`.
"use strict";

const http = require("node:http");

const BATCH_EVENTS = 10000;
const BUFFERED_BYTES_MAX = 16 * 1024 * 1024;
const LINE_HEAD = '{"notifications":[';
const LINE_TAIL = "]}";

const is_parsing = process.argv.includes("--parse");
const put_at = process.argv.indexOf("--put");
const put_url = put_at < 0 ? null : process.argv[put_at + 1];

// The queue of the one channel: what lies before `first` has been sent.
let events = [];
let first = 0;

function take(body) {
  const lines = body.split("\n");
  let count = 0;
  for (const line of lines) {
    if (line.length === 0) continue;
    if (is_parsing) {
      for (const event of JSON.parse(line).notifications) {
        if (typeof event.ep !== "string" || typeof event.path !== "string") throw new Error("no event");
        events.push(event);
        count += 1;
      }
    } else {
      events.push(line.slice(LINE_HEAD.length, -LINE_TAIL.length));
      count += 1;
    }
  }
  return count;
}

function next_batch() {
  const batch = events.slice(first, first + BATCH_EVENTS);
  first += batch.length;
  if (first === events.length) {
    events = [];
    first = 0;
  } else if (first >= 10 * BATCH_EVENTS) {
    events = events.slice(first);
    first = 0;
  }
  return is_parsing ? JSON.stringify({ notifications: batch }) : LINE_HEAD + batch.join(",") + LINE_TAIL;
}

const has_events = () => first < events.length;

// --- out: a WebSocket ----------------------------------------------------------------------

let client = null;

function pump_websocket() {
  while (client !== null && has_events() && client.bufferedAmount < BUFFERED_BYTES_MAX) {
    client.send(next_batch(), wake);
  }
}

// --- out: PUT, one in flight ---------------------------------------------------------------

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
let is_putting = false;

function pump_put() {
  if (is_putting || !has_events()) return;
  is_putting = true;
  const body = Buffer.from(next_batch());
  const headers = { "content-type": "application/json", "content-length": body.length };
  const request = http.request(put_url, { method: "PUT", agent, headers }, (response) => {
    response.resume();
    response.on("end", () => {
      is_putting = false;
      pump_put();
    });
  });
  request.end(body);
}

// --- in ------------------------------------------------------------------------------------

const pump = put_url === null ? pump_websocket : pump_put;
let is_awake = false;

function wake() {
  if (is_awake) return;
  is_awake = true;
  setImmediate(() => {
    is_awake = false;
    pump();
  });
}

function answer(request, response) {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    let status = 202;
    let text;
    try {
      const count = take(Buffer.concat(chunks).toString());
      text = `{"accepted":${count},"queued":${count},"rejected":0}`;
    } catch (error) {
      status = 400;
      text = JSON.stringify({ message: String(error) });
    }
    response.writeHead(status, { "content-type": "application/json", "content-length": text.length });
    response.end(text);
    wake();
  });
}

const server = http.createServer(answer);
if (put_url === null) {
  const { WebSocketServer } = require("ws");
  new WebSocketServer({ server, handleProtocols: () => "wss" }).on("connection", (socket) => {
    client = socket;
    socket.on("close", () => {
      if (client === socket) client = null;
    });
    wake();
  });
}
server.listen(0, "127.0.0.1", () => console.log(`ready http://127.0.0.1:${server.address().port}`));
process.on("SIGTERM", () => process.exit(0));
