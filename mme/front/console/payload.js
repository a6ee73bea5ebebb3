// A form that asks a model something, and shows what it says.

import { headers } from "./live.js";
import { el, write } from "./dom.js";
import { inBytes, inSeconds } from "./words.js";

const TYPES = ["text/csv", "application/json", "application/jsonlines", "text/libsvm", "application/octet-stream"];
const SHOWN = 20_000;
const READABLE = /^(text\/|application\/(json|jsonlines|xml))/;

export function payload(name) {
  const type = el("input", { id: "type", list: "types", value: TYPES[0], spellcheck: "false" });
  const accept = el("input", { id: "accept", list: "types", placeholder: "as the model likes", spellcheck: "false" });
  const body = el("textarea", { id: "payload", rows: "4", spellcheck: "false", placeholder: "0.1,0.2,0.3,0.4" });
  const file = el("input", { id: "file", type: "file" });
  const send = el("button", { type: "submit", class: "main" }, "Send");
  const said = el("p", { role: "status", class: "said" });
  const answer = el("pre", { tabindex: "0", role: "region", "aria-label": "Answer", hidden: true });
  const submit = async (event) => {
    event.preventDefault();
    send.disabled = true;
    write(said, "Sent…");
    try {
      const told = await invoke(name, file.files[0] ?? body.value, type.value, accept.value);
      write(said, told.line);
      write(answer, told.text);
      answer.hidden = false;
    } catch (error) {
      write(said, `No answer: ${error.message}`);
    }
    send.disabled = false;
  };
  return el("form", { class: "try", onsubmit: submit },
    el("datalist", { id: "types" }, TYPES.map((value) => el("option", { value }))),
    el("p", {}, el("label", { for: "type" }, "Content type"), type),
    el("p", {}, el("label", { for: "accept" }, "Accept"), accept),
    el("p", { class: "whole" }, el("label", { for: "payload" }, "Payload"), body),
    el("p", { class: "whole" }, el("label", { for: "file" }, "or a file"), file),
    el("p", { class: "actions" }, send), said, answer);
}

async function invoke(name, body, type, accept) {
  const wanted = { "X-Amzn-SageMaker-Target-Model": inLatin(name), "Content-Type": type };
  if (accept) wanted.Accept = accept;
  const began = performance.now();
  const response = await fetch("invocations", { method: "POST", body, headers: headers(wanted) });
  const bytes = await response.arrayBuffer();
  const seconds = (performance.now() - began) / 1000;
  const kind = response.headers.get("Content-Type") ?? "";
  const line = `${response.status} in ${inSeconds(seconds)}: ${inBytes(bytes.byteLength)} of ${kind}`;
  return { line, text: READABLE.test(kind) ? readable(bytes, kind) : "(not text)" };
}

/** A header's value is bytes, one a character. */
function inLatin(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

function readable(bytes, kind) {
  const text = new TextDecoder().decode(bytes);
  if (text.length > SHOWN) return `${text.slice(0, SHOWN)}…`;
  if (!kind.startsWith("application/json") || text.includes("\n")) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
