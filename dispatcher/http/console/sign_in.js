// The way in: an admin key, typed or pasted.

import { Refused, ask } from "./api.js";
import { el, setText } from "./dom.js";
import { looksLikeKey, signIn, signOut } from "./session.js";

/** The view; `onSignedIn` is called once a key was taken. */
export function signInView(onSignedIn, words = "") {
  const input = el("input", {
    id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true,
    "aria-describedby": "key-help key-trouble", placeholder: "ak_…",
  });
  const trouble = el("p", { class: "trouble", id: "key-trouble", role: "alert" }, words);
  const button = el("button", { type: "submit", class: "primary" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    const text = input.value.trim();
    const refusal = looksLikeKey(text) ? await tryKey(text) : "That is no access key: it starts with ak_.";
    button.disabled = false;
    if (refusal === null) return onSignedIn();
    setText(trouble, refusal);
    return input.select();
  };
  const element = el("section", { class: "sign-in", "aria-labelledby": "sign-in-title" },
    el("h1", { id: "sign-in-title", tabindex: "-1" }, "Sign in"),
    el("form", { on: { submit } },
      el("label", { for: "key" }, "Admin key"),
      input,
      trouble,
      button),
    el("p", { class: "help", id: "key-help" },
      "It stays in this tab until you close it. To make one:",
      el("code", {}, "dispatcher keys create --role admin --data DIR")));
  return { element, title: "Sign in", focus: () => input.focus(), close: () => {} };
}

/** Keep a key if it opens the admin API; else why not. */
async function tryKey(text) {
  signIn(text);
  try {
    await ask("GET", "stats");
    return null;
  } catch (error) {
    signOut();
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) return "This key is unknown, expired or revoked.";
    if (error.status === 403) return "This key is not an admin key.";
    return error.message;
  }
}
