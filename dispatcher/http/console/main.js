// Which view is shown, by the part of the address behind the "#", and what the views share.

import { Refused } from "./api.js";
import { channelView } from "./channel.js";
import { setAttribute, setText } from "./dom.js";
import { seconds } from "./format.js";
import { History } from "./history.js";
import { overviewView } from "./overview.js";
import { isSignedIn, signOut } from "./session.js";
import { signInView } from "./sign_in.js";

const PULSES = {
  off: "not signed in",
  connecting: "connecting",
  live: "live",
  lost: "connection lost, trying again",
};
const main = document.getElementById("main");
let view = null;

const shared = {
  history: new History(),
  wanted: { search: "", status: "", type: "", order: "age" },
  onState: (state) => (state === "refused" ? leave("This key is not valid any more.") : pulse(state)),
  onTotals: (totals) => setText(document.getElementById("build"),
    `${totals.version} · durability ${totals.durability} · up ${seconds(totals.up_s)}`),
  /** Whether an error says that the key is of no use; the way in is then shown again. */
  isRefused: (error) => {
    const isRefused = error instanceof Refused && (error.status === 401 || error.status === 403);
    if (isRefused) leave("This key is not valid any more.");
    else if (!(error instanceof Refused)) throw error;
    return isRefused;
  },
};

function pulse(state) {
  const element = document.getElementById("pulse");
  if (state === "connecting" && element.dataset.state === "live") return; // to follow other channels
  setAttribute(element, "data-state", state);
  setText(document.getElementById("pulse-text"), PULSES[state]);
}

function leave(words) {
  signOut();
  show(signInView(route, words));
  pulse("off");
}

function show(next) {
  view?.close();
  view = next;
  document.title = `${next.title} · dispatcher`;
  document.getElementById("sign-out").hidden = !isSignedIn();
  main.replaceChildren(next.element);
  next.focus();
  window.scrollTo(0, 0);
}

function route() {
  if (!isSignedIn()) return leave("");
  const channel = /^#\/channels\/(\d{1,15})$/.exec(location.hash);
  return show(channel ? channelView(Number(channel[1]), shared) : overviewView(shared));
}

window.addEventListener("hashchange", () => {
  if (location.hash === "#main") main.focus();
  else route();
});
document.getElementById("sign-out").addEventListener("click", () => leave("You are signed out."));
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, select, textarea, dialog") !== null;
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
    const search = document.getElementById("search");
    if (search !== null) {
      event.preventDefault();
      search.focus();
    }
  }
});
route();
