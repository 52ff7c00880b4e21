// The admin API.  Paths are relative to the page, so that a proxy may put a prefix before both.

import { key } from "./session.js";

const BASE = new URL("admin/v1/", document.baseURI);

/** An answer that is not what was wanted; `status` 0: there was none. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Ask; the content of the answer, or null when it has none.  Throws `Refused`. */
export async function ask(method, path, signal = undefined) {
  const response = await request(method, path, signal);
  return response.status === 204 ? null : response.json();
}

/** Ask, and leave the answer's body to the caller.  Throws `Refused`. */
export async function request(method, path, signal = undefined) {
  let response;
  try {
    response = await fetch(new URL(path, BASE), {
      method,
      signal,
      headers: { Authorization: `Bearer ${key()}` },
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The dispatcher does not answer. Is it running, and is the network up?");
  }
  if (!response.ok) throw new Refused(response.status, await wordsOf(response));
  return response;
}

async function wordsOf(response) {
  try {
    return (await response.json()).message;
  } catch {
    return `The answer was ${response.status}.`;
  }
}

/** A path with a query; parameters that are empty are left out. */
export function withQuery(path, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}
