// One model: why it is in memory or not, how it answers, what can be done to it, and a try of it.

import { ask } from "./live.js";
import { card, el, rows, table, write } from "./dom.js";
import { atMoment, atTime, eventReason, inBytes, inCount, inSeconds, NOTHING } from "./words.js";
import { payload } from "./payload.js";

const REFRESH = 2000;

const ACTIONS = [
  { text: "Load now", may: "load", when: isAbsent, path: "/load", done: "It is in memory." },
  { text: "Prewarm", may: "load", when: isAbsent, prewarm: true },
  { text: "Refresh", may: "load", when: (told) => told.copies.length, path: "/refresh", done: "It is the newest version." },
  { text: "Pin", may: "operate", when: (told) => told.copies.length && !isPinned(told), path: "/pin", done: "It will not be evicted." },
  { text: "Unpin", may: "operate", when: isPinned, path: "/unpin", done: "It may be evicted again." },
  { text: "Unload", may: "operate", when: (told) => told.copies.length, method: "DELETE", path: "", done: "It is out of memory." },
];

export class Model {
  constructor({ hello }, name) {
    this.name = name;
    this.title = name;
    this.state = el("p", { class: "why" }, "Asking the server.");
    this.facts = new Map();
    this.list = el("dl", { class: "figures" });
    this.copies = table("Copies in memory", [["Worker"], ["Memory", "number"], ["Hits", "number"], ["Idle", "number"], ["Version", "optional"], ["In memory since", "optional"], ["To go", "number"]]);
    this.elsewhere = table("In other containers", [["Container"], ["State"], ["Hits", "number"], ["Running", "number"], ["Files", "number optional"], ["Version", "optional"]]);
    this.errors = table("Last errors", [["Time"], ["Status"], ["Error"], ["Why"]]);
    this.events = table("Events", [["Time"], ["What"], ["Why"]]);
    this.said = el("p", { role: "status", class: "said" });
    this.may = hello?.may ?? {};
    this.buttons = ACTIONS.map((action) => el("button", { type: "button", hidden: true, onclick: () => this.#act(action) }, action.text));
    this.whole = el("div", {},
      el("p", { class: "back" }, el("a", { href: "#/models" }, "Models")),
      el("h1", { class: "name" }, name), this.state, this.list,
      el("div", { class: "actions", role: "group", "aria-label": "Actions" }, this.buttons), this.said,
      this.copiesCard = card("Copies", el("div", { class: "wide" }, this.copies.whole)),
      this.elsewhereCard = card("In other containers", el("div", { class: "wide" }, this.elsewhere.whole)),
      this.may.invoke ? card("Try it", payload(name)) : null,
      this.errorsCard = card("Last errors", el("div", { class: "wide" }, this.errors.whole)),
      this.eventsCard = card("Events", el("div", { class: "wide" }, this.events.whole)));
    for (const part of [this.copiesCard, this.elsewhereCard, this.errorsCard, this.eventsCard]) part.hidden = true;
    this.timer = setInterval(() => this.refresh(), REFRESH);
    this.refresh();
  }

  close() {
    clearInterval(this.timer);
  }

  async refresh() {
    try {
      this.#show(await ask(`console/models/${encodeURIComponent(this.name)}`));
    } catch (error) {
      write(this.state, `The server does not tell: ${error.message}`);
    }
  }

  #show(told) {
    write(this.state, why(told));
    for (const [name, text] of facts(told)) this.#fact(name, text);
    this.copiesCard.hidden = !told.copies.length;
    this.elsewhereCard.hidden = !told.elsewhere.length;
    this.errorsCard.hidden = !told.recent.errors.length;
    this.eventsCard.hidden = !told.events.length;
    rows(this.copies.body, told.copies.map((copy) => [
      String(copy.worker), ...[inBytes(copy.bytes), inCount(copy.hits), inSeconds(copy.idle_seconds)].map((text) => [text, "number"]),
      [copy.version, "optional"], [atMoment(copy.since), "optional"], [copy.place_to_go ? `${copy.place_to_go} of ${copy.places}` : copy.pinned ? "pinned" : "in use", "number"],
    ]));
    rows(this.elsewhere.body, told.elsewhere.map((held) => [
      held.container, held.state, ...[inCount(held.hits), inCount(held.in_flight)].map((text) => [text, "number"]),
      [inBytes(held.file_bytes), "number optional"], [held.version ?? NOTHING, "optional"],
    ]));
    rows(this.errors.body, told.recent.errors.map((error) => [atTime(error.at), String(error.status), error.kind, `${error.reason} (request ${error.request_id})`]));
    rows(this.events.body, [...told.events].reverse().map((one) => [atMoment(one.at), el("span", { class: `kind ${one.kind}` }, one.kind), eventReason(one)]));
    ACTIONS.forEach((action, index) => {
      const button = this.buttons[index];
      button.hidden = !action.when(told);
      button.disabled = this.busy || !this.may[action.may];
      button.title = this.may[action.may] ? "" : "Your key may not do this.";
    });
  }

  #fact(name, text) {
    if (!this.facts.has(name)) {
      this.facts.set(name, el("dd"));
      this.list.append(el("div", {}, el("dt", {}, name), this.facts.get(name)));
    }
    write(this.facts.get(name), text);
  }

  async #act(action) {
    this.busy = true;
    write(this.said, `${action.text}…`);
    try {
      write(this.said, await carryOut(action, this.name));
    } catch (error) {
      write(this.said, `${action.text} failed: ${error.message}`);
    }
    this.busy = false;
    await this.refresh();
  }
}

async function carryOut(action, name) {
  if (action.prewarm) {
    const told = await ask("prewarm", { method: "POST", body: JSON.stringify({ models: [name] }) });
    if (told.unknown.length) return told.unknown[0].reason;
    return told.taken ? "It is loaded as soon as nobody waits, if there is room." : "It is in memory already.";
  }
  await ask(`models/${encodeURIComponent(name)}${action.path}`, { method: action.method ?? "POST" });
  return action.done;
}

function isAbsent(told) {
  return !told.copies.length && told.state !== "elsewhere";
}

function isPinned(told) {
  return told.copies.some((copy) => copy.pinned);
}

function facts(told) {
  const [copy] = told.copies;
  const sum = (name) => told.copies.reduce((total, one) => total + one[name], 0);
  const { recent } = told;
  return [
    ["Memory", copy ? inBytes(sum("bytes")) : NOTHING],
    ["Hits", copy ? inCount(sum("hits")) : NOTHING],
    ["Latency p50", inSeconds(recent.p50_seconds)],
    ["Latency p90", inSeconds(recent.p90_seconds)],
    ["Latency p99", inSeconds(recent.p99_seconds)],
    ["Time to load", inSeconds(copy?.load_seconds)],
    ["Kind", copy?.framework ?? NOTHING],
    ["Version", shortened(copy?.version ?? told.on_disk_version ?? NOTHING)],
  ];
}

function shortened(version) {
  return version.length > 10 ? `${version.slice(0, 8)}…` : version;
}

function failed({ reason, retry_in_seconds: seconds }) {
  return `Not in memory: it failed to load: ${reason.replace(/\.$/, "")}. It is not tried again for ${inSeconds(seconds)}.`;
}

function whereElse(held) {
  if (!held.length) return "It is another container's, if it is anyone's: none has it now, as far as is known.";
  return `It is another container's: ${held.map((one) => `${one.state} in ${one.container}`).join(", ")}.`;
}

/** Why it is in memory, or is not, in a sentence. */
export function why(told) {
  const [copy] = told.copies;
  if (copy) {
    const since = `In memory since ${atMoment(copy.since)}`;
    if (copy.pinned) return `${since}, and pinned: it is not evicted.`;
    if (!copy.place_to_go) return `${since}, and in use now.`;
    return `${since}. When room is needed, it is number ${copy.place_to_go} of ${copy.places} to go.`;
  }
  const last = told.last_event;
  if (told.state === "elsewhere") return whereElse(told.elsewhere);
  if (told.state === "loading") return "It is being loaded now.";
  if (told.failure) return failed(told.failure);
  if (!last) return "Not in memory: nobody has asked for it yet, as far as is known.";
  return `Not in memory: ${last.kind} at ${atMoment(last.at)}, ${eventReason(last).replace(/\.$/, "")}.`;
}
