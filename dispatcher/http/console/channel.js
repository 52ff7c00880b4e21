// One channel: what it does, what holds it up, and what an operator can do about it.

import { ask, withQuery } from "./api.js";
import { confirm, el, say, setAttribute, setText } from "./dom.js";
import { TYPES, bytes, count, moment, percent, rate, seconds } from "./format.js";
import { spark } from "./spark.js";
import { follow } from "./stream.js";

const SPARK_S = 240;
const SPARK_S_MIN = 60; // the drawing begins with this much, and reaches further as time goes by
const LOOK_MS = 2_000; // between looks at what the stream does not tell
const LIMITS = [
  ["queue_bytes", "Queue", bytes], ["event_lifetime_s", "Event lifetime", seconds], ["overflow", "When full", String],
  ["batch_events", "Batch", (number) => `${count(number)} events`], ["batch_bytes", "Callback batch", bytes],
  ["websocket_batch_bytes", "WebSocket batch", bytes], ["callback_timeout_s", "Callback timeout", seconds],
  ["retry_initial_s", "First retry after", seconds], ["retry_max_s", "Retry at most after", seconds],
  ["ack_timeout_s", "Confirmation timeout", seconds], ["idle_timeout_s", "Removed when idle for", seconds],
  ["delivery_failure_timeout_s", "Removed when failing for", seconds],
  ["websocket_disconnected_timeout_s", "Removed without socket for", seconds],
  ["long_poll_idle_s", "Removed without poll for", seconds],
];

/** The view of a channel. */
export function channelView(id, shared) {
  const path = `channels/${id}`;
  const head = heading(id);
  const flow = flowPanel();
  const facts = { queue: factList("Queue"), sending: factList("Sending"), trouble: factList("Health") };
  const bounds = factList("Limits");
  const attempts = attemptsPanel();
  const peek = peekPanel(path, shared);
  const parked = parkedPanel(path, shared, () => look());
  const notice = el("p", { class: "blank", hidden: true });
  const parts = el("div", { class: "parts" },
    flow.element, facts.queue.element, facts.trouble.element, facts.sending.element,
    parked.element, attempts.element, peek.element, bounds.element);
  let timer = null;
  let known = null;
  let rates = [0, 0];
  const looking = new AbortController();

  const look = async () => {
    clearTimeout(timer);
    try {
      const [channel, log] = await Promise.all([
        ask("GET", path, looking.signal), ask("GET", `${path}/deliveries`, looking.signal),
      ]);
      known = channel;
      parts.hidden = false;
      notice.hidden = true;
      head.show(channel);
      showFacts(facts, channel);
      showLimits(bounds, channel.limits);
      attempts.show(log.deliveries);
      parked.show(channel.parked.events);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!shared.isRefused(error)) trouble(error);
      if (error.status === 404) return;
    }
    timer = setTimeout(look, LOOK_MS);
  };

  const trouble = (error) => {
    const isGone = error.status === 404;
    notice.replaceChildren(
      el("strong", {}, isGone ? "This channel is gone. " : "This channel cannot be read. "),
      isGone ? "It was deleted, or had its time." : error.message);
    notice.hidden = false;
    parts.hidden = isGone || known === null;
    head.disable(isGone);
  };

  const act = async (method, rest, done) => {
    try {
      await ask(method, path + rest);
      say(done);
      if (method === "DELETE") location.hash = "#/";
      else await look();
    } catch (error) {
      if (!shared.isRefused(error)) say(error.message, true);
    }
  };

  head.on({
    pause: () => (known?.status === "paused"
      ? act("POST", "/resume", "The channel sends again.")
      : act("POST", "/pause", "The channel is paused: it stores and sends nothing.")),
    retry: () => act("POST", "/retry", "An attempt is on its way."),
    remove: async () => {
      const what = known === null ? "" : `${count(known.records)} waiting records go with it. `;
      const isMeant = await confirm("Delete this channel?",
        `${what}The application can register again; what is queued is lost.`, "Delete channel");
      if (isMeant) await act("DELETE", "", "The channel is deleted.");
    },
  });

  const stream = follow([id], {
    onState: shared.onState,
    onUpdate: (update) => {
      const row = update.channels.find((one) => one.id === id);
      if (row !== undefined) {
        rates = [row.rate_in, row.rate_out];
        head.status(row.status);
      }
      shared.history.add(id, ...rates);
      flow.show(rates, shared.history.last(id, SPARK_S));
      shared.onTotals(update.totals);
      if (update.gone.includes(id)) look();
    },
  });

  look();
  return {
    element: el("div", { class: "channel" }, head.element, notice, parts),
    title: `Channel ${id}`,
    focus: () => head.focus(),
    close: () => {
      clearTimeout(timer);
      looking.abort();
      stream.close();
    },
  };
}

// --- the head ---

function heading(id) {
  const title = el("h1", { tabindex: "-1" }, `Channel ${id}`);
  const badge = el("span", { class: "status" });
  const about = el("p", { class: "about" }, " ");
  const buttons = {
    pause: el("button", { type: "button" }, "Pause"),
    retry: el("button", { type: "button" }, "Retry now"),
    remove: el("button", { type: "button", class: "danger" }, "Delete…"),
  };
  const element = el("header", { class: "head" },
    el("p", { class: "back" }, el("a", { href: "#/" }, "← All channels")),
    el("div", { class: "title" }, title, badge),
    about,
    el("div", { class: "actions" }, buttons.pause, buttons.retry, buttons.remove));
  return {
    element,
    focus: () => title.focus({ preventScroll: true }),
    on: (actions) => Object.entries(actions).forEach(([name, run]) => buttons[name].addEventListener("click", run)),
    disable: (isOff) => Object.values(buttons).forEach((button) => { button.disabled = isOff; }),
    status: (status) => {
      setText(badge, status);
      setAttribute(element, "data-status", status);
      setText(buttons.pause, status === "paused" ? "Resume" : "Pause");
      buttons.retry.disabled = status === "paused";
    },
    show(channel) {
      setText(title, `${channel.account}/${channel.application}`);
      const target = channel.target === null ? "" : ` to ${channel.target}`;
      setText(about, `${TYPES[channel.type]}${target} · channel ${channel.id}`);
      buttons.retry.hidden = channel.type !== "CALLBACK";
      this.status(channel.status);
    },
  };
}

// --- rates ---

function flowPanel() {
  const drawing = spark(640, 96, SPARK_S_MIN);
  const numbers = { in: el("b", {}, "–"), out: el("b", {}, "–") };
  const span = el("span", { class: "span" });
  const element = el("section", { class: "panel flow", "aria-labelledby": "flow-title" },
    el("h2", { id: "flow-title" }, "Events a second"),
    el("p", { class: "legend" },
      el("span", { class: "key in" }, numbers.in, " in"),
      el("span", { class: "key out" }, numbers.out, " confirmed"),
      span),
    drawing.element);
  return {
    element,
    show: ([rateIn, rateOut], series) => {
      setText(numbers.in, rate(rateIn));
      setText(numbers.out, rate(rateOut));
      const shown = Math.max(SPARK_S_MIN, series.ins.length);
      setText(span, `last ${shown < 120 ? `${shown} seconds` : `${Math.floor(shown / 60)} minutes`}, `
        + `at most ${rate(Math.max(0, ...series.ins, ...series.outs))}`);
      drawing.draw(series);
    },
  };
}

// --- facts ---

function factList(title) {
  const list = el("dl", {});
  const values = new Map();
  const id = `facts-${title.toLowerCase()}`;
  const element = el("section", { class: `panel facts ${id}`, "aria-labelledby": id }, el("h2", { id }, title), list);
  return {
    element,
    show: (facts) => {
      const names = new Set(facts.map(([name]) => name));
      for (const [name, value] of values) {
        if (names.has(name)) continue;
        value.parentElement.remove();
        values.delete(name);
      }
      facts.forEach(([name, text, isBad], at) => {
        if (!values.has(name)) values.set(name, el("dd", {}));
        const value = values.get(name);
        if (value.parentElement === null) list.append(el("div", {}, el("dt", {}, name), value));
        const line = value.parentElement;
        if (list.children[at] !== line) list.insertBefore(line, list.children[at] ?? null);
        setText(value, text);
        setAttribute(value, "data-bad", isBad);
      });
    },
  };
}

function showFacts(facts, channel) {
  const { queue, sending } = channel;
  const share = percent(channel.record_bytes, channel.queue_bytes);
  facts.queue.show([
    ["Waiting", `${count(channel.records)} records`],
    ["Stored", `${bytes(channel.record_bytes)} of ${bytes(channel.queue_bytes)}, ${share.toFixed(0)} %`, share >= 90],
    ["Longest wait", channel.oldest_age_s === null ? "none" : seconds(channel.oldest_age_s)],
    ["Settled", `up to ${count(queue.settled_seq)} of ${count(queue.last_seq)}`],
    ["Confirmed", `${count(channel.confirmed)} since the start`],
    ["Lost", `${count(channel.lost)} since the start`, channel.lost > 0],
  ]);
  facts.sending.show([
    ["Bound", sending.is_bound ? "yes" : "no: nobody to send to"],
    ["On its way", `${count(sending.unconfirmed_events)} events, ${bytes(sending.unconfirmed_bytes)}`],
    ["To send again", sending.frozen_events === null ? "nothing" : `${count(sending.frozen_events)} events, as they were`],
    ["Next batch", `at most ${count(sending.batch_events_max)} events, ${bytes(sending.batch_bytes_max)}`],
    ["Headers", channel.header_names.join(", ") || "none"],
  ]);
  const failure = channel.last_failure;
  facts.trouble.show([
    ["Failures", channel.failures ? `${count(channel.failures)} in a row` : "none", channel.failures > 0],
    ["Failing for", channel.failing_for_s === null ? "–" : seconds(channel.failing_for_s), channel.failures > 0],
    ["Next try", channel.next_attempt_in_s === null ? "–" : `in ${seconds(channel.next_attempt_in_s)}`],
    ["Last failure", failure === null ? "none" : `${failure.reason}, ${moment(failure.at_unix_ms)}`],
    ["Removed", channel.removal === null ? "never" : `in ${seconds(channel.removal.in_s)}, if ${channel.removal.reason}`,
      channel.removal !== null && channel.removal.in_s < 0.1 * channel.removal.timeout_s],
  ]);
}

function showLimits(list, limits) {
  list.show(LIMITS.map(([name, title, write]) => [title, write(limits[name])]));
}

// --- attempts ---

function attemptsPanel() {
  const body = el("tbody");
  const none = el("p", { class: "none" }, "No attempt since the daemon started.");
  const table = el("table", { class: "attempts" },
    el("caption", { class: "out-of-sight" }, "Last attempts, the newest first"),
    el("thead", {}, el("tr", {}, ["Ended", "Outcome", "Took", "Events", "Bytes"].map((name) =>
      el("th", { scope: "col" }, name)))),
    body);
  const element = el("section", { class: "panel attempts-panel", "aria-labelledby": "attempts-title" },
    el("h2", { id: "attempts-title" }, "Attempts"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "attempts-title" }, table, none));
  let shown = "";
  const show = (attempts) => {
    const mark = `${attempts.length}.${attempts[0]?.ended_unix_ms}.${attempts[0]?.events}`;
    none.hidden = attempts.length > 0;
    table.hidden = attempts.length === 0;
    if (mark === shown) return;
    shown = mark;
    body.replaceChildren(...attempts.map((one) => el("tr", { "data-bad": one.error !== null },
      el("td", {}, moment(one.ended_unix_ms)),
      el("td", { class: "outcome" }, `${one.error ?? "delivered"} ${one.status ?? ""}`.trim()),
      el("td", {}, seconds(one.seconds)),
      el("td", {}, count(one.events)),
      el("td", {}, bytes(one.bytes)))));
  };
  return { element, show };
}

// --- peek ---

function peekPanel(path, shared) {
  const records = el("ol", { class: "records" });
  const none = el("p", { class: "none" }, "Looking takes nothing out of the queue.");
  const payloads = el("input", { type: "checkbox", id: "payloads" });
  const look = async () => {
    try {
      const query = { limit: 10, payloads: payloads.checked ? "true" : "" };
      const found = await ask("GET", withQuery(`${path}/peek`, query));
      records.replaceChildren(...found.records.map((one) => recordLine(one)));
      setText(none, found.records.length ? "" : "The queue is empty.");
    } catch (error) {
      if (!shared.isRefused(error)) setText(none, error.message);
    }
  };
  const element = el("section", { class: "panel peek", "aria-labelledby": "peek-title" },
    el("h2", { id: "peek-title" }, "Oldest records"),
    el("div", { class: "actions" },
      el("button", { type: "button", on: { click: look } }, "Look"),
      el("label", { for: "payloads" }, payloads, " with payloads (this is logged)")),
    none, records);
  return { element };
}

// --- what its receiver refused ---

function parkedPanel(path, shared, look) {
  const records = el("ol", { class: "records" });
  const about = el("p", { class: "none", role: "status" });
  const buttons = {
    look: el("button", { type: "button" }, "Look"),
    giveBack: el("button", { type: "button" }, "Give all back"),
    discard: el("button", { type: "button", class: "danger" }, "Discard all…"),
  };
  const element = el("section", { class: "panel parked", "aria-labelledby": "parked-title", hidden: true },
    el("h2", { id: "parked-title" }, "Parked: refused by the receiver"),
    el("div", { class: "actions" }, buttons.look, buttons.giveBack, buttons.discard),
    about, records);
  let known = 0;
  const act = async (method, rest, done) => {
    try {
      const result = await ask(method, `${path}/parked${rest}`);
      records.replaceChildren();
      say(`${count(result.events)} events ${done}.`);
      await look();
    } catch (error) {
      if (!shared.isRefused(error)) say(error.message, true);
    }
  };
  buttons.look.addEventListener("click", async () => {
    try {
      const found = await ask("GET", withQuery(`${path}/parked`, { limit: 20 }));
      records.replaceChildren(...found.events.map((one) => recordLine(one.record, `answered ${one.status}`)));
    } catch (error) {
      if (!shared.isRefused(error)) say(error.message, true);
    }
  });
  buttons.giveBack.addEventListener("click", () => act("POST", "/give-back", "are queued again"));
  buttons.discard.addEventListener("click", async () => {
    const isMeant = await confirm("Discard what is parked?",
      `${count(known)} events are lost with it. Giving them back would send them again.`, "Discard all");
    if (isMeant) await act("DELETE", "", "are gone");
  });
  return {
    element,
    show: (events) => {
      if (events !== known) records.replaceChildren();
      known = events;
      element.hidden = events === 0;
      setText(about, `${count(events)} ${events === 1 ? "event waits" : "events wait"} for you; each came alone and was answered 400 or 422.`);
    },
  };
}

function recordLine(record, note = "") {
  const hidden = record.payload_bytes === null ? null
    : el("span", { class: "masked" }, `${bytes(record.payload_bytes)} payload not shown`);
  const when = record.received_unix_ms === null ? "" : moment(record.received_unix_ms);
  return el("li", {},
    el("p", {}, el("b", {}, `#${count(record.seq)}`), ` ${record.kind} `, el("time", {}, when),
      record.is_in_flight ? el("span", { class: "flight" }, "in flight") : null,
      note ? el("span", { class: "flight" }, note) : null, hidden),
    el("pre", {}, JSON.stringify(record.event, null, 1).replace(/\n\s*/g, " ")));
}
