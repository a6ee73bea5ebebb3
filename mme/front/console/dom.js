// Elements out of names and texts. Texts only: a model's name is whatever its owner wrote.

/** An element; `on…` members listen, the others are attributes, null ones are left out. */
export function el(tag, members = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(members)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Writes a text where it is another one, so that what is looked at stays as it is. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A table with a caption for those who hear it; `headings` are [text, class]. */
export function table(caption, headings, hidden = true) {
  const body = el("tbody");
  const head = headings.map(([text, kind]) => el("th", { scope: "col", class: kind }, text));
  return {
    body,
    whole: el("table", {},
      el("caption", { class: hidden ? "unseen" : null }, caption),
      el("thead", {}, el("tr", {}, head)), body),
  };
}

/** Rows out of arrays of cells; a cell is a text, an element or [either, class]. */
export function rows(body, cells) {
  const made = cells.map((row) => el("tr", {}, row.map((cell) => {
    const [content, kind] = Array.isArray(cell) ? cell : [cell, null];
    return el("td", { class: kind }, content);
  })));
  if (!body.contains(document.activeElement)) body.replaceChildren(...made);
}

/** A section with a heading. */
export function card(title, ...children) {
  const id = `card-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return el("section", { class: "card", "aria-labelledby": id }, el("h2", { id }, title), children);
}

/** A link to a model's page. */
export function modelLink(name, kind = null) {
  return el("a", { href: modelPath(name), class: kind }, name);
}

/** Where a model's page is. */
export function modelPath(name) {
  return `#/models/${encodeURIComponent(name)}`;
}

/** A colour of the style sheet, as a canvas wants it. */
export function colour(name) {
  const probe = document.getElementById("announcer");
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}
