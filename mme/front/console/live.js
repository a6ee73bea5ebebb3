// Talks to the server: a key where it asks for one, answers as JSON, and the glances as they come.
// EventSource can't send headers, so the events are read out of a fetch.

const KEY = "mme-api-key";
const LONGEST_PAUSE = 10_000;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function remember(key) {
  sessionStorage.setItem(KEY, key);
}

export function headers(others = {}) {
  const key = sessionStorage.getItem(KEY);
  return key ? { ...others, "X-API-Key": key } : others;
}

/** The JSON at a path beside the page. Throws Refused with what the server says. */
export async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers(options.headers) });
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, told.message ?? told.Message ?? response.statusText);
  return told;
}

/** Calls `heard(name, data)` for each event until the page goes, `lost(error)` between two tries.
 *  Where that says true, the next try is at once. */
export async function follow(heard, lost) {
  for (let pause = 500; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
    await shown();
    try {
      await listen((name, data) => {
        pause = 250;
        heard(name, data);
      });
    } catch (error) {
      if (await lost(error)) continue;
    }
    if (!document.hidden) await new Promise((done) => setTimeout(done, pause));
  }
}

async function listen(heard) {
  const ending = new AbortController();
  const hide = () => document.hidden && ending.abort();  // who does not look costs nothing
  document.addEventListener("visibilitychange", hide);
  try {
    const response = await fetch("console/live", { headers: headers(), signal: ending.signal });
    if (!response.ok) {
      const told = await response.json().catch(() => ({}));
      throw new Refused(response.status, told.message ?? response.statusText);
    }
    await read(response.body.pipeThrough(new TextDecoderStream()).getReader(), heard);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  } finally {
    document.removeEventListener("visibilitychange", hide);
    ending.abort();
  }
}

async function read(reader, heard) {
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the server closed the connection");
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const [, name, data] = event.match(/^event: (\w+)\ndata: (.*)$/);
      heard(name, JSON.parse(data));
    }
  }
}

function shown() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => {
    document.addEventListener("visibilitychange", done, { once: true });
  });
}
