// The console: which page is shown, what the server tells while one looks, the key, the theme.

import { History } from "./charts.js";
import { write } from "./dom.js";
import { Events } from "./events.js";
import { follow, remember } from "./live.js";
import { Model } from "./model.js";
import { Models } from "./models.js";
import { Overview } from "./overview.js";
import { inSeconds } from "./words.js";

const THEMES = ["system", "light", "dark"];
const ANNOUNCE_SECONDS = 10;
const known = { hello: null, glance: null, history: new History([]) };
const byId = (id) => document.getElementById(id);
let page = null;
let announced = { at: 0, totals: null };

function route() {
  const [, first, second] = location.hash.split("/");
  page?.close?.();
  if (first === "models" && second) page = new Model(known, decodeURIComponent(second));
  else if (first === "models") page = new Models();
  else if (first === "events") page = new Events();
  else page = new Overview(known);
  const main = byId("main");
  main.replaceChildren(page.whole);
  document.title = `${page.title} · mme`;
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.getAttribute("href") === `#/${first ?? ""}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
  page.repaint?.();
}

function heard(name, data) {
  if (name === "hello") {
    const first = known.hello === null;
    known.hello = data;
    known.history = new History(data.history);
    write(byId("endpoint"), `/ ${data.endpoint}`);
    if (first || page instanceof Overview) route();  // what may be done is known only now
    return;
  }
  known.glance = data;
  if (known.history.samples.at(-1)?.at !== data.at) known.history.add({ at: data.at, rates: data.rates });
  status(data.reasons.length ? "bad" : "good", data.reasons.length ? `not ready: ${data.reasons.join("; ")}` : "ready");
  write(byId("about"), `mme ${data.version}, up ${inSeconds(data.uptime_seconds)}, serving ${data.location}`);
  page?.show?.(data);
  announce(data);
}

function announce({ at, totals, memory }) {
  if (at - announced.at < ANNOUNCE_SECONDS) return;
  const before = announced.totals;
  announced = { at, totals };
  if (!before || !memory) return;
  const [loads, evictions] = [totals.loads - before.loads, totals.evictions - before.evictions];
  if (loads || evictions) write(byId("announcer"), `${loads} models loaded, ${evictions} left memory; ${memory.models} are in memory.`);
}

function status(state, text) {
  byId("status").dataset.state = state;
  write(byId("status"), text);
}

async function lost(error) {
  status("waiting", error.status ? error.message : "the server does not answer; trying again");
  if (error.status !== 401 && error.status !== 403) return false;
  await askKey(error.message);
  return true;
}

function askKey(message) {
  const dialog = byId("ask-key");
  const input = byId("key");
  write(byId("key-refused"), sessionStorage.length ? message : "");
  input.value = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => {
      if (input.value) remember(input.value);
      done();
    }, { once: true });
  });
}

function theme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  localStorage.setItem("mme-theme", name);
  write(byId("theme"), `Theme: ${name}`);
  page?.repaint?.();
}

byId("theme").addEventListener("click", () => {
  const now = localStorage.getItem("mme-theme") ?? THEMES[0];
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();  // the address after # says which page
  byId("main").focus();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page?.repaint?.());
window.addEventListener("hashchange", () => {
  route();
  byId("main").focus({ preventScroll: true });
});
theme(localStorage.getItem("mme-theme") ?? THEMES[0]);
route();
follow(heard, lost);
