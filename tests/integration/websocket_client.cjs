// A notification receiver on the Node library ws.
// node websocket_client.cjs URL BUSY_SECONDS: works that long, without yielding, on its
// first message; prints one line of JSON when the server has closed.
"use strict";
const WebSocket = require("ws");

const [url, busySeconds] = process.argv.slice(2);
const socket = new WebSocket(url, ["wss", "pelion_ak_test"]);
const numbers = [];
let busyUntil = null;

socket.on("message", (data) => {
  const events = JSON.parse(data.toString()).notifications;
  for (const event of events) numbers.push(Number(event.path.slice(1)));
  if (busyUntil === null) {
    busyUntil = Date.now() + 1000 * Number(busySeconds);
    while (Date.now() < busyUntil);
  }
});
socket.on("error", (error) => console.error(error.message));
socket.on("close", (code) => console.log(JSON.stringify({ code, numbers })));
