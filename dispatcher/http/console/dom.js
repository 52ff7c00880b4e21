// Elements without markup: text is always text, so nothing that comes from outside can become code.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children.  `on` holds listeners; null children are left out. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, { on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set, or take away (null, false), an attribute, if that changes anything. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

/** Set an element's text, if that changes anything. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Say something to everyone, on the screen and to a screen reader; it goes by itself. */
export function say(text, isBad = false) {
  const toast = document.getElementById("toast");
  clearTimeout(say.timer);
  setAttribute(toast, "data-bad", isBad);
  toast.textContent = text;
  toast.classList.add("shown");
  say.timer = setTimeout(() => toast.classList.remove("shown"), 6000);
}

/** Ask before something that cannot be undone; resolves to whether it is meant. */
export function confirm(title, text, action) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { class: "confirm", "aria-labelledby": "confirm-title" },
      el("h2", { id: "confirm-title" }, title),
      el("p", {}, text),
      el("div", { class: "actions" },
        el("button", { type: "button", autofocus: true, on: { click: () => dialog.close("no") } }, "Cancel"),
        el("button", { type: "button", class: "danger", on: { click: () => dialog.close("yes") } }, action)));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
