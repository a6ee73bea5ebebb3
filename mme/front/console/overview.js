// The first page: how it goes now, what is in memory, the last minutes, workers, what happened.

import { charts } from "./charts.js";
import { card, el, modelLink, rows, table, write } from "./dom.js";
import { Bar, Blocks, HEAT_WORDS } from "./picture.js";
import { atTime, eventReason, inBytes, inCount, inPercent, inRate, inSeconds, NOTHING } from "./words.js";

const EVENTS_SHOWN = 12;

const FIGURES = [
  ["Requests", (glance) => inRate(glance.rates?.requests)],
  ["Errors", (glance) => (glance.rates?.errors ? inRate(glance.rates.errors) : glance.rates ? "none" : NOTHING)],
  ["Latency p50", (glance) => inSeconds(glance.rates?.p50_seconds)],
  ["Latency p99", (glance) => inSeconds(glance.rates?.p99_seconds)],
  ["Hit ratio", (glance) => inPercent(glance.rates?.hit_ratio)],
  ["Models in memory", (glance) => inCount(inMemory(glance))],
];

export class Overview {
  title = "Overview";

  constructor({ glance, history }) {
    this.history = history;
    this.figures = FIGURES.map(([name, say]) => ({ say, told: el("dd"), name }));
    this.bar = new Bar();
    this.blocks = new Blocks();
    this.charts = charts();
    this.largest = table("Models in memory, the largest first", [["Model"], ["Memory", "number"], ["Requests", "number"], ["Worker", "number"]]);
    this.details = el("details", { ontoggle: () => this.#list() }, el("summary", {}, "The same as a table"),
      el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Models in memory" }, this.largest.whole));
    this.workers = table("Workers", [["Worker"], ["State"], ["Models", "number"], ["Memory", "number"], ["Queued", "number"], ["Running", "number"], ["Restarts", "number optional"]]);
    this.containers = table("Containers", [["Container"], ["Kind"], ["Health"], ["Models", "number"]]);
    this.events = table("Latest events", [["Time"], ["What"], ["Model"], ["Why", "optional"]]);
    this.workersCard = card("Workers", el("div", { class: "wide" }, this.workers.whole));
    this.quiet = el("p", { class: "nothing" }, "Nothing has come into memory or left it yet.");
    this.happened = el("div", { class: "wide" }, this.events.whole);
    this.eventsCard = card("Latest events", this.quiet, this.happened,
      el("p", {}, el("a", { href: "#/events" }, "All events")));
    this.picture = [this.blocks.whole, heatLegend(), this.details];
    this.nothing = el("p", { class: "nothing" }, "No model is in memory yet. One is loaded when it is first asked for; ",
      el("a", { href: "#/models" }, "look one up by its name"), " to load it or to try it.");
    this.memoryCard = card("Memory", this.bar.whole, this.nothing, ...this.picture);
    this.whole = el("div", { class: "overview" },
      el("h1", { class: "unseen" }, "Overview"),
      el("dl", { class: "figures" }, this.figures.map((one) => el("div", {}, el("dt", {}, one.name), one.told))),
      this.memoryCard,
      el("div", { class: "charts" }, this.charts.map((chart) => chart.whole)),
      el("div", { class: "pair" }, this.workersCard,
        card("Containers", el("div", { class: "wide" }, this.containers.whole))),
      this.eventsCard);
    if (glance) this.show(glance);
  }

  show(glance) {
    this.glance = glance;
    for (const { say, told } of this.figures) write(told, say(glance));
    for (const part of [this.memoryCard, this.workersCard, this.eventsCard]) part.hidden = !glance.memory;
    if (glance.memory) {
      const isEmpty = !glance.blocks.length && !glance.memory.reserved_bytes && !glance.memory.leaving_bytes;
      this.nothing.hidden = !isEmpty;
      for (const part of this.picture) part.hidden = isEmpty;
      this.quiet.hidden = glance.events.length > 0;
      this.happened.hidden = !glance.events.length;
      this.bar.show(glance.memory);
      this.blocks.show(glance);
      this.#list();
      rows(this.workers.body, glance.workers.map(worker));
      rows(this.events.body, glance.events.slice(0, EVENTS_SHOWN).map(event));
    }
    rows(this.containers.body, glance.containers.map(container));
    for (const chart of this.charts) chart.show(this.history);
  }

  repaint() {
    this.blocks.paint();
    for (const chart of this.charts) chart.draw();
  }

  #list() {
    if (!this.details.open || !this.glance?.blocks) return;
    const { blocks, others } = this.glance;
    const largest = [...blocks].sort((one, other) => other.bytes - one.bytes);
    rows(this.largest.body, [
      ...largest.map((block) => [modelLink(block.model), [inBytes(block.bytes), "number"], [inRate(block.rate), "number"], [String(block.worker), "number"]]),
      ...others.map((group) => [`${inCount(group.models)} others`, [inBytes(group.bytes), "number"], [`${inRate(group.rate)} each`, "number"], ""]),
    ]);
  }
}

export function event(one) {
  return [atTime(one.at), el("span", { class: `kind ${one.kind}` }, one.kind), modelLink(one.model), [eventReason(one), "optional"]];
}

function worker(one) {
  const numbers = [inCount(one.models), inBytes(one.private_bytes), inCount(one.queued), inCount(one.running)];
  return [String(one.worker), state(one.state === "ready", one.state), ...numbers.map((text) => [text, "number"]), [inCount(one.restarts), "number optional"]];
}

function container(one) {
  return [one.hostname, String(one.kind), state(!one.problem, one.problem ?? "ready"), [models(one), "number"]];
}

/** Here and in other containers; nothing where none tells. */
function inMemory({ memory, containers }) {
  const told = [memory?.models, ...containers.map((one) => one.models)].filter((count) => count !== undefined);
  return told.length ? told.reduce((sum, count) => sum + count, 0) : undefined;
}

function models({ models: count, models_limit: limit }) {
  return limit === undefined ? inCount(count) : `${inCount(count)} of ${inCount(limit)}`;
}

function state(isGood, text) {
  return el("span", { class: isGood ? "good" : "bad" }, text);
}

function heatLegend() {
  return el("p", { class: "heats" }, "Colour is requests a second: ",
    HEAT_WORDS.map((text, index) => el("span", {}, el("span", { class: `key heat-${index}`, "aria-hidden": "true" }), text)),
    el("span", {}, el("span", { class: "key ringed", "aria-hidden": "true" }), "pinned"));
}
