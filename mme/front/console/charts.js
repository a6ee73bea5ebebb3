// The last minutes as lines; what a chart shows now stands beside it as text.

import { colour, el, write } from "./dom.js";
import { inPercent, inRate, inSeconds, onTheHour } from "./words.js";

const SPAN_SECONDS = 300;
const SHORTEST_SECONDS = 60;
const KEPT = 600;
const HEIGHT = 150;

const perSecond = (rate) => (rate === 0 ? "0" : inRate(rate));
const rated = (name, text, ink) => ({ name, text, ink, say: perSecond });
const timed = (name, text, ink) => ({ name, text, ink, say: inSeconds });
const CHARTS = [
  { title: "Requests", series: [rated("requests", "requests", "--line-1"), rated("errors", "errors", "--line-3")], axis: perSecond },
  {
    title: "Latency", log: true, axis: (seconds) => (seconds < 1 ? `${seconds * 1000} ms` : `${seconds} s`),
    series: [timed("p50_seconds", "p50", "--line-1"), timed("p90_seconds", "p90", "--line-2"), timed("p99_seconds", "p99", "--line-3")],
  },
  { title: "Hit ratio", range: [0, 1], axis: inPercent, series: [{ name: "hit_ratio", text: "in memory", ink: "--line-2", say: inPercent }] },
  { title: "Loads and evictions", series: [rated("loads", "loads", "--line-2"), rated("evictions", "evictions", "--line-3")], axis: perSecond },
];

/** What is known of the last minutes, by name. */
export class History {
  constructor(samples) {
    this.samples = samples;
  }

  add(sample) {
    this.samples.push(sample);
    if (this.samples.length > KEPT) this.samples.shift();
  }

  column(name) {
    return this.samples.map((sample) => sample.rates?.[name] ?? null);
  }

  get moments() {
    return this.samples.map((sample) => sample.at);
  }
}

function inDecades(_, min, max) {
  return min === null ? [0.001, 1] : globalThis.uPlot.rangeLog(min, max, 10, true);
}

function decades(_, __, min, max) {
  const first = Math.ceil(Math.log10(min));
  return Array.from({ length: Math.max(1, Math.floor(Math.log10(max)) - first + 1) }, (___, index) => 10 ** (first + index));
}

/** One line chart with its legend. */
class Chart {
  constructor(form) {
    this.form = form;
    this.values = form.series.map(() => el("span", { class: "value" }, "–"));
    this.plotted = el("div", { class: "plot", "aria-hidden": "true" });
    this.whole = el("figure", { class: "card" },
      el("figcaption", {}, el("h2", {}, form.title),
        el("p", { class: "legend" }, form.series.map((one, index) => el("span", {},
          el("span", { class: "key", "aria-hidden": "true", "data-ink": one.ink }), `${one.text} `, this.values[index])))),
      this.plotted);
    this.watch = new ResizeObserver(() => this.#fit());
    this.watch.observe(this.plotted);
  }

  show(history) {
    this.data = [history.moments, ...this.form.series.map((one) => this.#fitting(history.column(one.name)))];
    this.form.series.forEach((one, index) => {
      write(this.values[index], one.say(history.samples.at(-1)?.rates?.[one.name]));
    });
    if (this.plot) this.plot.setData(this.data);
    else this.draw();
  }

  draw() {
    if (!this.data || !this.plotted.clientWidth) return;
    this.plot?.destroy();
    const { form } = this;
    const [muted, line] = [colour("--muted"), colour("--line")];
    const axis = { stroke: muted, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    this.plot = new globalThis.uPlot({
      width: this.plotted.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      hooks: { setCursor: [(plot) => this.#point(plot.cursor.idx)] },
      scales: {
        x: { time: true, range: (_, min, max) => [Math.max(max - SPAN_SECONDS, Math.min(min, max - SHORTEST_SECONDS)), max] },
        y: form.log ? { distr: 3, range: inDecades } : { range: form.range ?? ((_, __, max) => [0, Math.max(1, max * 1.1)]) },
      },
      axes: [
        { ...axis, size: 26, grid: { show: false }, values: (_, ticks) => ticks.map(onTheHour) },
        { ...axis, size: 62, ...(form.log ? { splits: decades } : {}), values: (_, ticks) => ticks.map((tick) => (tick === null ? null : form.axis(tick))) },
      ],
      series: [{}, ...form.series.map((one) => ({
        stroke: colour(one.ink), width: 1.5, points: { show: false },
      }))],
    }, this.data, this.plotted);
  }

  #fitting(column) {
    return this.form.log ? column.map((value) => value || null) : column;
  }

  #point(index) {
    const at = index ?? this.data[0].length - 1;
    this.form.series.forEach((one, number) => write(this.values[number], one.say(this.data[number + 1][at])));
  }

  #fit() {
    if (!this.plot) this.draw();
    else this.plot.setSize({ width: this.plotted.clientWidth, height: HEIGHT });
  }
}

export function charts() {
  return CHARTS.map((form) => new Chart(form));
}
