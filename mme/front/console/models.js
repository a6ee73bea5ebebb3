// All models that the server knows: a search, and a list of which only what is seen exists.

import { ask } from "./live.js";
import { card, el, modelPath, write } from "./dom.js";
import { inBytes, inCount, inRate, inSeconds, NOTHING } from "./words.js";

const ROW = 36;  // pixels, as in the style sheet
const PAGE = 100;
const AHEAD = 8;
const REFRESH = 2000;
const SORTS = [["rate", "hottest first"], ["bytes", "largest first"], ["hits", "most hits first"], ["idle", "latest used first"], ["model", "by name"]];
const COLUMNS = [["Model"], ["State"], ["Memory", "number"], ["Requests", "number"], ["Hits", "number optional"], ["Idle", "number optional"], ["Where", "number optional"]];

export class Models {
  title = "Models";

  constructor() {
    this.pages = new Map();
    this.asked = 0;
    this.total = 0;
    this.search = el("input", { type: "search", id: "search", autocomplete: "off", spellcheck: "false", oninput: () => this.#begin() });
    this.sort = el("select", { id: "sort", onchange: () => this.#begin() }, SORTS.map(([value, text]) => el("option", { value }, text)));
    this.resident = el("input", { type: "checkbox", id: "resident", onchange: () => this.#begin() });
    this.count = el("p", { role: "status", class: "muted" });
    this.exact = el("a", { hidden: true });
    this.body = el("tbody");
    this.before = el("tr", { class: "spacer", "aria-hidden": "true" }, el("td"));
    this.after = el("tr", { class: "spacer", "aria-hidden": "true" }, el("td"));
    this.table = el("table", { class: "list" }, el("caption", { class: "unseen" }, "Models"),
      el("thead", {}, el("tr", {}, COLUMNS.map(([text, kind]) => el("th", { scope: "col", class: kind }, text)))), this.body);
    this.scroller = el("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "List of models", onscroll: () => this.#draw() }, this.table);
    this.shown = [];
    this.whole = el("div", {}, el("h1", {}, "Models"),
      el("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
        el("p", { class: "grow" }, el("label", { for: "search" }, "Search"), this.search),
        el("p", {}, el("label", { for: "sort" }, "Order"), this.sort),
        el("p", { class: "check" }, this.resident, el("label", { for: "resident" }, "In memory only"))),
      el("div", { class: "found" }, this.count, this.exact),
      this.found = card("Found", this.scroller));
    this.found.hidden = true;
    this.timer = setInterval(() => this.#refresh(), REFRESH);
    this.#begin();
  }

  close() {
    clearInterval(this.timer);
  }

  #begin() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => {
      this.asked += 1;
      this.pages.clear();
      this.scroller.scrollTop = 0;
      this.#fetch(0);
    }, this.asked ? 150 : 0);
  }

  async #fetch(page) {
    const { asked } = this;
    this.pages.set(page, this.pages.get(page) ?? null);
    const query = new URLSearchParams({
      search: this.search.value, sort: this.sort.value, offset: page * PAGE, limit: PAGE, resident: this.resident.checked ? 1 : 0,
    });
    try {
      const told = await ask(`console/models?${query}`);
      if (asked !== this.asked) return;
      this.pages.set(page, told.models);
      this.#tell(told);
      this.#draw();
    } catch (error) {
      this.pages.delete(page);
      write(this.count, `The server did not answer: ${error.message}`);
    }
  }

  #tell(told) {
    this.total = told.total;
    this.table.setAttribute("aria-rowcount", told.total + 1);
    const name = this.search.value.trim();
    write(this.count, found(told, name));
    this.found.hidden = !told.total;
    this.exact.hidden = !name;
    this.exact.setAttribute("href", modelPath(name));
    write(this.exact, `Open ${name}`);
  }

  #refresh() {
    const first = Math.floor(this.scroller.scrollTop / ROW / PAGE);
    const last = Math.floor((this.scroller.scrollTop + this.scroller.clientHeight) / ROW / PAGE);
    for (const page of this.pages.keys()) if (page < first || page > last) this.pages.delete(page);
    for (let page = first; page <= last; page += 1) this.#fetch(page);
  }

  #draw() {
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - AHEAD);
    const last = Math.min(this.total, first + Math.ceil(this.scroller.clientHeight / ROW) + 2 * AHEAD);
    while (this.shown.length < last - first) this.shown.push(new Row());
    this.shown.length = Math.max(0, last - first);
    this.before.firstChild.style.height = `${first * ROW}px`;
    this.after.firstChild.style.height = `${(this.total - last) * ROW}px`;
    this.shown.forEach((row, index) => row.show(first + index, this.#model(first + index)));
    const wanted = [this.before, ...this.shown.map((row) => row.whole), this.after];
    if (wanted.length !== this.body.children.length) this.body.replaceChildren(...wanted);
  }

  #model(index) {
    const page = Math.floor(index / PAGE);
    if (!this.pages.has(page)) this.#fetch(page);
    return this.pages.get(page)?.[index % PAGE];
  }
}

function found({ total, in_memory: inMemory }, name) {
  if (total) return `${inCount(total)} found; ${inCount(inMemory)} in memory`;
  const open = "A store is not listed: search for a model's whole name to open it.";
  return name ? `None that is known has this in its name. ${open}` : `No model is known yet: one is once it is asked for. ${open}`;
}

/** One line of the list; which model it shows changes as one scrolls. */
class Row {
  constructor() {
    this.link = el("a");
    this.cells = COLUMNS.map(([, kind], index) => el("td", { class: kind }, index ? "" : this.link));
    this.whole = el("tr", {}, this.cells);
  }

  show(index, model) {
    this.whole.setAttribute("aria-rowindex", index + 2);
    if (model) this.link.setAttribute("href", modelPath(model.model));
    else this.link.removeAttribute("href");
    write(this.link, model?.model ?? "…");
    const texts = model ? told(model) : COLUMNS.map(() => "").slice(1);
    texts.forEach((text, at) => write(this.cells[at + 1], text));
  }
}

function told(model) {
  if (model.container) return elsewhere(model);
  if (model.state !== "resident") return [model.state, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING];
  const where = model.copies > 1 ? `${model.copies} copies` : `worker ${model.worker}`;
  const state = model.pinned ? "pinned" : "resident";
  return [state, inBytes(model.bytes), inRate(model.rate), inCount(model.hits), inSeconds(model.idle_seconds), where];
}

/** In another container, of whose memory nothing is known. */
function elsewhere(model) {
  const asked = model.state === "loaded" ? inRate(model.rate) : NOTHING;
  return [`${model.state} in ${model.container}`, NOTHING, asked, inCount(model.hits), NOTHING, model.container];
}
