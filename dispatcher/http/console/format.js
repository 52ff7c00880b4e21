// Numbers, sizes and times as people read them.

const whole = new Intl.NumberFormat("en");
const SIZES = ["B", "kB", "MB", "GB", "TB"];
const SHORT = ["", "k", "M", "G"];
const UNITS_S = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];

export const count = (number) => whole.format(number);

/** Three digits and a unit: `1.2 MB`. */
export function bytes(number) {
  return scaled(number, SIZES, " ");
}

/** Three digits: `12.3k`. */
export function short(number) {
  return scaled(number, SHORT, "");
}

function scaled(number, units, space) {
  let value = number;
  let unit = 0;
  while (Math.round(value) >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 9.95 ? 0 : 1;
  return `${value.toFixed(digits)}${space}${units[unit]}`;
}

/** `2d 3h`, `4m 5s`, `1.5s`, `30ms`. */
export function seconds(number) {
  if (number < 1) return number === 0 ? "0s" : `${Math.round(number * 1000)}ms`;
  if (number < 9.95) return `${number.toFixed(1)}s`;
  const rounded = Math.round(number);
  const at = UNITS_S.findIndex(([, unitS]) => rounded >= unitS);
  const [name, unitS] = UNITS_S[at];
  const first = `${Math.floor(rounded / unitS)}${name}`;
  if (at === UNITS_S.length - 1) return first;
  const [below, belowS] = UNITS_S[at + 1];
  const rest = Math.floor((rounded % unitS) / belowS);
  return rest ? `${first} ${rest}${below}` : first;
}

/** Events a second. */
export function rate(number) {
  if (number === undefined || number === null) return "–";
  if (number === 0) return "0";
  return number < 9.95 ? number.toFixed(1) : short(number);
}

/** The time of day, or the date as well when it is not today's. */
export function moment(unixMs) {
  const date = new Date(unixMs);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString()} ${time}`;
}

export const percent = (part, all) => (all ? Math.min(100, (100 * part) / all) : 0);

export const TYPES = {
  CALLBACK: "callback",
  WEB_SOCKET: "WebSocket",
  LONG_POLLING: "long poll",
  IN_PROCESS: "in process",
};
