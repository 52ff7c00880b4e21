// What was seen of rates, second by second, since the page was opened; the oldest is forgotten.

const SECONDS_MAX = 300;
const SERIES_MAX = 1_000; // channels; the one looked at longest ago is forgotten

export class History {
  #series = new Map();

  /** Another second of a channel (or of "fleet"). */
  add(id, rateIn, rateOut) {
    const series = this.#series.get(id) ?? { ins: [], outs: [] };
    this.#series.delete(id);
    this.#series.set(id, series);
    if (this.#series.size > SERIES_MAX) this.#series.delete(this.#series.keys().next().value);
    series.ins.push(rateIn ?? 0);
    series.outs.push(rateOut ?? 0);
    if (series.ins.length > SECONDS_MAX) {
      series.ins.shift();
      series.outs.shift();
    }
  }

  /** The last so many seconds, `{ ins, outs }`, the newest at the end. */
  last(id, seconds) {
    const { ins, outs } = this.#series.get(id) ?? { ins: [], outs: [] };
    return { ins: ins.slice(-seconds), outs: outs.slice(-seconds) };
  }
}
