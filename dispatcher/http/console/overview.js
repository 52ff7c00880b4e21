// The fleet: totals, and the channels page by page, live.

import { ask, withQuery } from "./api.js";
import { el, setAttribute, setText } from "./dom.js";
import { TYPES, bytes, count, percent, rate, seconds, short } from "./format.js";
import { spark } from "./spark.js";
import { follow } from "./stream.js";

const ROWS = 50;
const SPARK_S = 60;
const LIST_MS = 5_000; // between looks at what is on the page; the rows themselves are live
const TYPING_MS = 250;
const STATUSES = ["failing", "paused", "disconnected", "connected", "ok"];

/** The view; `shared` has the history of rates and what to do with the stream's state. */
export function overviewView(shared) {
  const totals = totalsStrip();
  const table = channelTable();
  const wanted = { ...shared.wanted };
  const cursors = [""]; // of the pages up to this one
  let stream = null;
  let followed = "";
  let timer = null;
  let loading = new AbortController();

  const filters = filterBar(wanted, () => {
    shared.wanted = { ...wanted };
    cursors.length = 1;
    load();
  });
  const pager = pageButtons((step) => {
    if (step > 0) cursors.push(pager.next);
    else cursors.pop();
    load();
  });

  const load = async () => {
    clearTimeout(timer);
    loading.abort();
    loading = new AbortController();
    try {
      const page = await ask("GET", withQuery("channels", {
        ...wanted, limit: ROWS, after: cursors[cursors.length - 1],
      }), loading.signal);
      table.show(page.channels, Object.values(wanted).some((one) => one !== "" && one !== "age"));
      pager.show(cursors.length, page);
      followRows(page.channels.map((row) => row.id));
      timer = setTimeout(load, LIST_MS);
    } catch (error) {
      if (error.name === "AbortError") return;
      timer = setTimeout(load, LIST_MS);
      if (!shared.isRefused(error)) table.trouble(error.message);
    }
  };

  const followRows = (ids) => {
    const key = [...ids].sort().join();
    if (stream !== null && key === followed) return;
    followed = key;
    stream?.close();
    stream = follow(ids, { onState: shared.onState, onUpdate: (update) => take(update, ids) });
  };

  const take = (update, ids) => {
    shared.history.add("fleet", update.totals.rate_in, update.totals.rate_out);
    update.channels.forEach((row) => table.update(row));
    update.gone.forEach((id) => table.remove(id));
    ids.forEach((id) => table.tick(id, shared.history));
    totals.show(update.totals, shared.history.last("fleet", SPARK_S));
    filters.show(update.totals.by_status, update.totals.channels);
    shared.onTotals(update.totals);
  };

  load();
  const element = el("div", { class: "overview" },
    el("h1", { class: "out-of-sight", tabindex: "-1" }, "Channels"),
    totals.element, filters.element, table.element, pager.element);
  return {
    element,
    title: "Channels",
    focus: () => element.querySelector("h1").focus({ preventScroll: true }),
    close: () => {
      clearTimeout(timer);
      loading.abort();
      stream?.close();
    },
  };
}

// --- the strip of totals ---

function totalsStrip() {
  const drawings = { in: spark(120, 26, SPARK_S), out: spark(120, 26, SPARK_S) };
  const values = Object.fromEntries(
    ["channels", "in", "out", "records", "oldest", "lost"].map((name) => [name, el("dd", {}, "–")]));
  const notes = Object.fromEntries(["channels", "records", "oldest", "lost"].map((name) => [name, el("p", {}, " ")]));
  const mix = el("p", { class: "mix", "aria-hidden": "true" },
    STATUSES.map((status) => el("span", { "data-status": status })));
  const tile = (name, title, ...rest) =>
    el("div", { class: `tile tile-${name}` }, el("dt", {}, title), values[name], rest);
  const element = el("dl", { class: "totals", "aria-label": "All channels together" },
    tile("channels", "Channels", mix, notes.channels),
    tile("in", "In, a second", drawings.in.element),
    tile("out", "Confirmed, a second", drawings.out.element),
    tile("records", "Waiting", notes.records),
    tile("oldest", "Longest wait", notes.oldest),
    tile("lost", "Lost since start", notes.lost));

  const show = (now, { ins, outs }) => {
    const dropped = Object.values(now.dropped).reduce((sum, one) => sum + one, 0);
    const lost = dropped + now.expired;
    setText(values.channels, count(now.channels));
    setText(values.in, rate(now.rate_in));
    setText(values.out, rate(now.rate_out));
    setText(values.records, short(now.records));
    setText(values.oldest, now.oldest_age_s === null ? "none" : seconds(now.oldest_age_s));
    setText(values.lost, short(lost));
    setAttribute(values.lost, "data-bad", lost > 0);
    const failing = now.by_status.failing ?? 0;
    const paused = now.by_status.paused ?? 0;
    const away = now.by_status.disconnected ?? 0;
    const words = [[failing, "failing"], [paused, "paused"], [away, "away"]].filter(([number]) => number)
      .map(([number, word]) => `${count(number)} ${word}`);
    setText(notes.channels, words.join(", ") || (now.channels ? "all well" : "none yet"));
    setText(notes.records, `${bytes(now.record_bytes)} in queues`);
    setText(notes.oldest, now.oldest_age_s === null ? "every queue is empty" : "of any record in a queue");
    setText(notes.lost, lost ? `${short(dropped)} dropped, ${short(now.expired)} expired` : "nothing");
    [...mix.children].forEach((part) => {
      part.style.flexGrow = String(now.by_status[part.dataset.status] ?? 0);
    });
    drawings.in.draw({ ins, outs: [] });
    drawings.out.draw({ ins: [], outs });
  };
  return { element, show };
}

// --- filters ---

function filterBar(wanted, onChange) {
  let typing = null;
  const search = el("input", {
    type: "search", id: "search", value: wanted.search, placeholder: "Account, application or id   /",
    "aria-label": "Search channels by account, application or id", autocomplete: "off", spellcheck: "false",
    on: {
      input: () => {
        clearTimeout(typing);
        typing = setTimeout(() => choose("search", search.value.trim()), TYPING_MS);
      },
    },
  });
  const chips = ["", ...STATUSES].map((status) => el("button", {
    type: "button", class: "chip", "data-status": status, "aria-pressed": String(wanted.status === status),
    on: { click: () => choose("status", status) },
  }, el("span", { class: "dot", "aria-hidden": "true" }), status || "all", el("b", {})));
  const type = select("Type", [["", "every type"], ...Object.entries(TYPES)], wanted.type, (value) => choose("type", value));
  const order = select("Order", [["age", "longest wait first"], ["depth", "fullest first"], ["id", "by id"]],
    wanted.order, (value) => choose("order", value));

  const choose = (name, value) => {
    wanted[name] = value;
    chips.forEach((chip) => setAttribute(chip, "aria-pressed", String(chip.dataset.status === wanted.status)));
    onChange();
  };
  const show = (byStatus, all) => chips.forEach((chip) => {
    const number = chip.dataset.status ? byStatus[chip.dataset.status] ?? 0 : all;
    setText(chip.querySelector("b"), count(number));
    setAttribute(chip, "data-none", number === 0);
  });
  const element = el("div", { class: "filters", role: "search", "aria-label": "Channels" },
    search, el("div", { class: "chips", role: "group", "aria-label": "Status" }, chips), type, order);
  return { element, show };
}

function select(name, options, chosen, onChange) {
  const element = el("select", { "aria-label": name, on: { change: () => onChange(element.value) } },
    options.map(([value, words]) => el("option", { value, selected: value === chosen }, words)));
  return element;
}

// --- the table ---

function channelTable() {
  const rows = new Map();
  const body = el("tbody");
  const blank = el("p", { class: "blank", hidden: true });
  const head = ["Channel", "Status", "In / s", "Out / s", "Last minute", "Queue", "Wait", "Lost", "Next try"];
  const table = el("table", { class: "channels" },
    el("caption", { class: "out-of-sight" }, "Channels"),
    el("thead", {}, el("tr", {}, head.map((name, at) =>
      el("th", { scope: "col", class: `c${at}` }, name)))),
    body);
  const banner = el("p", { class: "banner", role: "alert", hidden: true });
  const element = el("div", { class: "table" }, banner, table, blank);

  const say = (title, text) => {
    blank.replaceChildren(el("strong", {}, title), text);
    blank.hidden = false;
    table.hidden = true;
  };
  const show = (page, isFiltered) => {
    const kept = new Set(page.map((row) => row.id));
    for (const id of [...rows.keys()]) if (!kept.has(id)) remove(id);
    page.forEach((row, at) => {
      if (!rows.has(row.id)) rows.set(row.id, channelRow(row.id));
      const line = rows.get(row.id);
      line.update(row);
      if (body.children[at] !== line.element) body.insertBefore(line.element, body.children[at] ?? null);
    });
    banner.hidden = true;
    blank.hidden = true;
    table.hidden = false;
    if (page.length) return;
    if (isFiltered) say("Nothing matches. ", "No channel is of this kind; try another filter.");
    else say("No channels yet. ", "An application makes one when it registers a callback or a WebSocket, or polls.");
  };
  const remove = (id) => {
    rows.get(id)?.element.remove();
    rows.delete(id);
  };
  return {
    element, show, remove,
    trouble: (text) => {
      setText(banner, `The list cannot be read. ${text}`);
      banner.hidden = false;
    },
    update: (row) => rows.get(row.id)?.update(row),
    tick: (id, history) => rows.get(id)?.tick(history),
  };
}

function channelRow(id) {
  const drawing = spark(180, 22, SPARK_S);
  const link = el("a", { href: `#/channels/${id}` });
  const type = el("span", { class: "type" });
  const status = el("span", { class: "status" });
  const bar = el("span", { class: "fill", "aria-hidden": "true" }, el("i", {}));
  const queue = el("span", {});
  const cells = Array.from({ length: 9 }, (_, at) => el("td", { class: `c${at}` }));
  cells[0].append(link, type);
  cells[1].append(status);
  cells[4].append(drawing.element);
  cells[5].append(queue, bar);
  const element = el("tr", { on: { click: (event) => event.target.closest("a") ?? link.click() } }, cells);
  let rates = [0, 0];

  const update = (row) => {
    if (row.rate_in !== undefined) rates = [row.rate_in, row.rate_out];
    setText(link, `${row.account}/${row.application}`);
    setText(type, `${TYPES[row.type]} · ${row.id}`);
    setText(status, row.status);
    setAttribute(element, "data-status", row.status);
    setText(cells[2], rate(row.rate_in === undefined ? rates[0] : row.rate_in));
    setText(cells[3], rate(row.rate_out === undefined ? rates[1] : row.rate_out));
    setText(queue, count(row.records));
    setAttribute(queue, "title", `${bytes(row.record_bytes)} of ${bytes(row.queue_bytes)}`);
    const share = percent(row.record_bytes, row.queue_bytes);
    bar.firstChild.style.width = `${share}%`;
    setAttribute(bar, "data-level", share >= 90 ? "bad" : share >= 50 ? "warn" : null);
    setText(cells[6], row.oldest_age_s === null ? "" : seconds(row.oldest_age_s));
    setText(cells[7], row.lost ? short(row.lost) : "");
    setText(cells[8], row.next_attempt_in_s === null ? "" : seconds(row.next_attempt_in_s));
  };
  const tick = (history) => {
    history.add(id, ...rates);
    drawing.draw(history.last(id, SPARK_S));
  };
  return { element, update, tick };
}

function pageButtons(onStep) {
  const where = el("span", {});
  const back = el("button", { type: "button", on: { click: () => onStep(-1) } }, "Previous");
  const on = el("button", { type: "button", on: { click: () => onStep(1) } }, "Next");
  const element = el("nav", { class: "pager", "aria-label": "Pages", hidden: true }, back, where, on);
  const pager = {
    element,
    next: "",
    show: (number, page) => {
      pager.next = page.next;
      element.hidden = number === 1 && page.next === null;
      back.disabled = number === 1;
      on.disabled = page.next === null;
      const first = (number - 1) * ROWS + 1;
      setText(where, `${count(first)}–${count(first + Math.max(0, page.channels.length - 1))}`);
    },
  };
  return pager;
}
