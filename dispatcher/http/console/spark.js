// Rates as small drawings: what goes out as an area, what comes in as a line over it.

import { setAttribute, svg } from "./dom.js";

/** A drawing of so many seconds, or as many as there are; `draw(series)` brings it up to date. */
export function spark(width, height, secondsMin) {
  const area = svg("path", { class: "out" });
  const line = svg("path", { class: "in" });
  const element = svg("svg", {
    class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true",
  }, area, line);
  const draw = ({ ins, outs }) => {
    const top = Math.max(1e-9, ...ins, ...outs);
    const place = placer(width, height, Math.max(secondsMin, ins.length, outs.length), top);
    const floor = height - 1;
    const edge = points(outs, place);
    setAttribute(area, "d", outs.length < 2 ? "" : `${edge}L${width},${floor}L${place(outs, 0)[0]},${floor}Z`);
    setAttribute(line, "d", ins.length < 2 ? "" : points(ins, place));
  };
  return { element, draw };
}

function placer(width, height, seconds, top) {
  return (values, at) => [
    round(width * (1 - (values.length - 1 - at) / (seconds - 1))),
    round(height - 1 - (values[at] / top) * (height - 3)),
  ];
}

const points = (values, place) =>
  values.map((_, at) => `${at ? "L" : "M"}${place(values, at).join(",")}`).join("");

const round = (number) => Math.round(number * 10) / 10;
