// The event record: what came into memory and what left it, when, why and for whom.

import { ask } from "./live.js";
import { card, el, rows, table, write } from "./dom.js";
import { event } from "./overview.js";

const REFRESH = 2000;

export class Events {
  title = "Events";

  constructor() {
    this.kind = el("select", { id: "kind", onchange: () => this.#draw() }, el("option", { value: "" }, "all"));
    this.name = el("input", { type: "search", id: "name", autocomplete: "off", oninput: () => this.#draw() });
    this.count = el("p", { role: "status", class: "muted" });
    this.table = table("Events, the latest first", [["Time"], ["What"], ["Model"], ["Why", "optional"]]);
    this.whole = el("div", {}, el("h1", {}, "Events"),
      el("form", { class: "filters", role: "search", onsubmit: (submitted) => submitted.preventDefault() },
        el("p", { class: "grow" }, el("label", { for: "name" }, "Model or reason"), this.name),
        el("p", {}, el("label", { for: "kind" }, "What"), this.kind)),
      this.count,
      this.latest = card("Latest", el("div", { class: "wide" }, this.table.whole)));
    this.latest.hidden = true;
    this.events = [];
    this.timer = setInterval(() => this.#fetch(), REFRESH);
    this.#fetch();
  }

  close() {
    clearInterval(this.timer);
  }

  async #fetch() {
    try {
      this.events = (await ask("console/events")).events.reverse();
    } catch (error) {
      write(this.count, `The server did not answer: ${error.message}`);
      return;
    }
    const known = new Set([...this.kind.options].map((option) => option.value));
    for (const { kind } of this.events) {
      if (!known.has(kind)) this.kind.append(el("option", { value: kind }, kind));
      known.add(kind);
    }
    this.#draw();
  }

  #draw() {
    const [kind, text] = [this.kind.value, this.name.value.trim().toLowerCase()];
    const fitting = this.events.filter((one) => (!kind || one.kind === kind)
      && `${one.model} ${one.reason} ${one.for_whom ?? ""}`.toLowerCase().includes(text));
    const nothing = "Nothing has come into memory or left it yet.";
    write(this.count, this.events.length ? `${fitting.length} of the latest ${this.events.length}` : nothing);
    this.latest.hidden = !fitting.length;
    rows(this.table.body, fitting.map(event));
  }
}
