// The event stream, read with fetch, because an EventSource cannot send an Authorization header.

import { Refused, request, withQuery } from "./api.js";

const SILENCE_MS = 40_000; // the server says something at least every 15 s
const PAUSE_MS = 1_000; // before connecting again; doubles
const PAUSE_MS_MAX = 15_000;

/**
 * Follow channels until `close` of what is returned is called.
 * `onUpdate` gets each message; `onState` gets "connecting", "live", "lost" or "refused".
 */
export function follow(ids, { onUpdate, onState }) {
  const stop = new AbortController();
  run(ids, stop.signal, onUpdate, onState);
  return { close: () => stop.abort() };
}

async function run(ids, stopped, onUpdate, onState) {
  let pauseMs = PAUSE_MS;
  onState("connecting");
  while (!stopped.aborted) {
    try {
      await read(ids, stopped, (update) => {
        pauseMs = PAUSE_MS;
        onState("live");
        onUpdate(update);
      });
    } catch (error) {
      if (stopped.aborted) return;
      if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
        onState("refused");
        return;
      }
      if (!isLoss(error)) reportError(error);
    }
    if (stopped.aborted) return;
    onState("lost");
    await pause(pauseMs, stopped);
    pauseMs = Math.min(PAUSE_MS_MAX, 2 * pauseMs);
  }
}

/** Whether the connection is to blame, and not this program. */
const isLoss = (error) => error instanceof Refused || error instanceof TypeError || error.name === "AbortError";

async function read(ids, stopped, take) {
  const silent = new AbortController();
  const signal = AbortSignal.any([stopped, silent.signal]);
  const path = withQuery("events", { channels: ids.join(",") });
  let timer = setTimeout(() => silent.abort(), SILENCE_MS);
  try {
    const response = await request("GET", path, signal);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENCE_MS);
      const messages = (text + value).split("\n\n");
      text = messages.pop();
      messages.forEach((message) => takeMessage(message, take));
    }
  } finally {
    clearTimeout(timer);
  }
}

function takeMessage(message, take) {
  const line = message.split("\n").find((one) => one.startsWith("data: "));
  if (line !== undefined) take(JSON.parse(line.slice("data: ".length)));
}

function pause(ms, stopped) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    stopped.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
