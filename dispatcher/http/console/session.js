// The admin key.  It is typed into the page and kept in the tab's sessionStorage: it outlives a reload,
// ends with the tab, and is sent in the Authorization header alone, never in a URL or a cookie.

const NAME = "dispatcher.key";

export const key = () => sessionStorage.getItem(NAME);

export const isSignedIn = () => key() !== null;

export const signIn = (text) => sessionStorage.setItem(NAME, text);

export const signOut = () => sessionStorage.removeItem(NAME);

/** Whether a text could be a key at all; keeps what cannot be a header's value out of one. */
export const looksLikeKey = (text) => /^[A-Za-z0-9\-._~+/]+=*$/.test(text);
