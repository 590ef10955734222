"use strict";
// The page: what is open, what is selected, what is searched for. All text goes in as text, never as markup.

const graph = JSON.parse(document.getElementById("graph-data").textContent);
const nodes = graph.nodes;
const SVG = "http://www.w3.org/2000/svg";
const stage = document.getElementById("stage"), scene = document.getElementById("scene");
const panel = document.getElementById("panel"), search = document.getElementById("search"), found = document.getElementById("found");
const childrenOf = nodes.map(() => []);
nodes.forEach((node, id) => node.parent >= 0 && childrenOf[node.parent].push(id));
const depthOf = nodes.map((node) => { let depth = 0; for (let at = node.parent; at >= 0; at = nodes[at].parent) depth++; return depth; });
const isBlock = (id) => childrenOf[id].length > 0;
const opened = new Set([...nodes.keys()].filter((id) => isBlock(id) && depthOf[id] + 1 < graph.depth));
let view = { x: 0, y: 0, k: 1 }, placed = null, selected = -1, focused = -1, matches = [], match = -1;

// -- drawing ----------------------------------------------------------------------------------------------------------

const ruler = document.createElement("canvas").getContext("2d");
const FONTS = { name: "600 13px ", text: "12px ", small: "11px " };
const widths = new Map();
function widthOf(text, font) {
  const key = font + text;
  if (!widths.has(key)) {
    ruler.font = FONTS[font] + getComputedStyle(document.body).fontFamily;
    widths.set(key, ruler.measureText(text).width);
  }
  return widths.get(key);
}

function size(id) {
  const node = nodes[id], block = isBlock(id);
  const head = widthOf(node.name, "name") + 8 + widthOf(node.type, "text") + (block ? 20 : 0);
  const lines = [node.brief, node.cost].filter(Boolean);
  const w = Math.max(72, head, ...lines.map((line) => widthOf(line, "small") + (block ? 20 : 0))) + 28;
  if (opened.has(id)) return { w: Math.max(head + 28 + widthOf(node.cost, "small") + 24, 120) };
  return { w, h: 30 + 16 * lines.length };
}

function make(tag, attributes, parent, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function draw() {
  placed = layOut(nodes, graph.edges, (id) => opened.has(id), size);
  scene.replaceChildren();
  const frames = make("g", {}, scene), wires = make("g", {}, scene), boxes = make("g", {}, scene), labels = make("g", {}, scene);
  const order = Object.keys(placed.items).map(Number);
  for (const id of order.filter((one) => placed.items[one].open)) drawNode(id, placed.items[id], frames);
  for (const line of placed.lines) {
    const move = `translate(${line.dx} ${line.dy})`;
    const wire = make("path", { d: line.path, class: "wire", transform: move }, wires);
    if (line.arrow) wire.setAttribute("marker-end", "url(#arrow)");
    line.element = wire;
    if (line.label) make("text", { x: line.x + (line.left ? -7 : 7), y: line.y, transform: move, class: line.left ? "shape end" : "shape" }, labels, line.label);
  }
  for (const id of order.filter((one) => !placed.items[one].open)) drawNode(id, placed.items[id], boxes);
  mark();
}

function drawNode(id, at, parent) {
  const node = nodes[id], block = isBlock(id);
  const group = make("g", {
    transform: `translate(${at.x} ${at.y})`, id: `node-${id}`, tabindex: -1, role: "treeitem", "data-path": node.path,
    class: `node ${node.kind}${block ? (at.open ? " open" : " closed") : ""}${node.frozen ? " frozen" : ""}${node.shares >= 0 ? " shared" : ""}`,
    "aria-label": [node.name, node.type, node.brief, node.shape, node.cost].filter(Boolean).join(", "), "aria-level": depthOf[id] + 1,
  }, parent);
  if (block) group.setAttribute("aria-expanded", at.open);
  if (block && !at.open) make("rect", { x: 5, y: 5, width: at.w, height: at.h, rx: 8, class: "under" }, group);
  make("rect", { width: at.w, height: at.h, rx: 8, class: "box" }, group);
  if (at.open) make("path", { d: `M1 ${HEADER}V9a8 8 0 0 1 8-8H${at.w - 9}a8 8 0 0 1 8 8V${HEADER}z`, class: "header" }, group);
  let x = 14;
  const base = 20;
  if (block) {
    const fold = make("g", { class: "fold", transform: `translate(${x + 4} ${base - 4.5})` }, group);
    make("rect", { x: -14, y: -14, width: 28, height: 28, class: "hit" }, fold);
    make("path", { d: at.open ? "M-4.5-2.5 0 2.5 4.5-2.5" : "M-2.5-4.5 2.5 0-2.5 4.5" }, fold);
    x += 20;
  }
  if (!at.open && !block) make("rect", { x: 0, y: 0, width: 5, height: at.h, class: "stripe", "clip-path": "inset(0 0 0 0 round 8px 0 0 8px)" }, group);
  make("text", { x, y: base, class: "name" }, group, node.name);
  make("text", { x: x + widthOf(node.name, "name") + 8, y: base, class: "type" }, group, node.type);
  if (at.open) {
    make("text", { x: at.w - 14, y: base, class: "small end" }, group, node.cost);
    return;
  }
  [node.brief, node.cost].filter(Boolean).forEach((line, place) => make("text", { x: block ? 34 : 14, y: base + 17 + 16 * place, class: "small" }, group, line));
}

// Classes that change without a new layout.
function mark() {
  const hits = new Set(matches), lent = selected >= 0 ? nodes[selected].shares : -1;
  const near = new Set();
  for (const line of placed.lines) {
    const lit = selected >= 0 && (line.to.includes(selected) || within(line.source, selected));
    line.element.classList.toggle("lit", lit);
    if (lit) line.element.setAttribute("marker-end", line.arrow ? "url(#arrow-lit)" : "");
    else if (line.arrow) line.element.setAttribute("marker-end", "url(#arrow)");
  }
  if (lent >= 0) near.add(visible(lent));
  if (selected >= 0) nodes.forEach((node, id) => node.shares === selected && near.add(visible(id)));
  for (const id of Object.keys(placed.items).map(Number)) {
    const element = document.getElementById(`node-${id}`);
    element.classList.toggle("selected", id === selected);
    element.classList.toggle("match", hits.has(id));
    element.classList.toggle("current", match >= 0 && matches[match] === id);
    element.classList.toggle("lender", near.has(id));
    element.setAttribute("tabindex", id === (focused >= 0 && placed.items[focused] ? focused : Number(Object.keys(placed.items)[0])) ? 0 : -1);
  }
}

const within = (id, block) => { for (let at = id; at >= 0; at = nodes[at].parent) if (at === block) return true; return false; };
// The node itself, or the outermost closed block around it.
function visible(id) {
  let seen = id;
  for (let at = nodes[id].parent; at >= 0; at = nodes[at].parent) if (!opened.has(at)) seen = at;
  return seen;
}

// -- pan and zoom -----------------------------------------------------------------------------------------------------

function show() { scene.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`); }

function zoom(factor, cx = stage.clientWidth / 2, cy = stage.clientHeight / 2) {
  const k = Math.min(4, Math.max(0.02, view.k * factor)), real = k / view.k;
  view = { k, x: cx - (cx - view.x) * real, y: cy - (cy - view.y) * real };
  show();
}

// All of it where that stays legible, else its width from the top.
function fit(whole) {
  const { clientWidth: width, clientHeight: height } = stage, edge = 24;
  const both = Math.min((width - 2 * edge) / placed.w, (height - 2 * edge) / placed.h, 1.25);
  const k = whole || both > 0.55 ? both : Math.min(1, Math.max(0.3, (width - 2 * edge) / placed.w));
  view = { k, x: (width - placed.w * k) / 2, y: Math.max(edge, (height - placed.h * k) / 2) };
  const first = placed.items[0];
  if (view.x < edge || view.y < edge + 1) if (first && k !== both) view.x = width / 2 - (first.x + first.w / 2) * k;
  show();
}

function reveal(id, centre) {
  const at = placed.items[id], k = view.k;
  const left = at.x * k + view.x, top = at.y * k + view.y;
  const right = left + at.w * k, bottom = top + Math.min(at.h * k, 200);
  const { clientWidth: width, clientHeight: height } = stage, edge = 40;
  if (!centre && left >= edge && top >= edge && right <= width - edge && bottom <= height - edge) return;
  view.x += width / 2 - (left + right) / 2;
  view.y += height / 2 - (top + bottom) / 2;
  show();
}

// -- opening and closing ----------------------------------------------------------------------------------------------

// Draw again, with the given node where it is on the screen.
function redraw(anchor) {
  const before = anchor >= 0 && placed.items[anchor];
  draw();
  const after = anchor >= 0 && placed.items[anchor];
  if (before && after) {
    view.x += (before.x + before.w / 2 - after.x - after.w / 2) * view.k;
    view.y += (before.y - after.y) * view.k;
  }
  show();
}

function toggle(id, to = !opened.has(id)) {
  if (!isBlock(id)) return;
  to ? opened.add(id) : opened.delete(id);
  redraw(id);
  focus(id);
}

function setAll(to) {
  const anchor = selected >= 0 ? visible(selected) : -1;
  opened.clear();
  if (to) nodes.forEach((_, id) => isBlock(id) && opened.add(id));
  redraw(anchor);
  if (anchor < 0) fit(false);
}

function focus(id) {
  focused = id;
  mark();
  const element = document.getElementById(`node-${id}`);
  if (element) element.focus({ preventScroll: true });
}

// -- the panel --------------------------------------------------------------------------------------------------------

function select(id) {
  selected = id;
  panel.hidden = id < 0;
  document.body.classList.toggle("with-panel", id >= 0);
  if (id >= 0) fill(nodes[id]);
  mark();
}

function html(tag, text, parent, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  if (parent) parent.append(element);
  return element;
}

function link(id, parent) {
  const button = html("button", nodes[id].path, parent, "link");
  button.addEventListener("click", () => go(id));
}

function fill(node) {
  const body = document.getElementById("details");
  body.replaceChildren();
  html("h2", node.name, body);
  html("p", node.type, body, "kind");
  if (node.doc) html("p", node.doc, body, "doc");
  const list = html("dl", undefined, body);
  const row = (term, value) => { if (value) { html("dt", term, list); html("dd", value, list); } };
  row("path", node.path);
  for (const [port, shape] of node.outputs) row(port ? `output ${port}` : "output", shape);
  row("parameters", node.parameters ? node.parameters.toLocaleString("en") : "");
  row("FLOPs", node.flops === null ? "not known" : node.flops ? node.flops.toLocaleString("en") : "");
  row("frozen", node.frozen ? "yes: no gradient" : "");
  row("runs", node.when ? `in ${node.when} only` : "");
  row("spec", node.place);
  if (node.shares >= 0) { html("dt", "weights of", list); link(node.shares, html("dd", undefined, list)); }
  if (node.arguments.length) {
    html("h3", "Arguments", body);
    const table = html("table", undefined, body);
    for (const [name, value, note] of node.arguments) {
      const line = html("tr", undefined, table);
      html("th", name, line);
      const cell = html("td", value, line);
      if (note) html("span", note, cell, "note");
    }
  }
  const id = nodes.indexOf(node);
  const ends = (title, ids) => {
    if (!ids.length) return;
    html("h3", title, body);
    const all = html("ul", undefined, body);
    for (const one of [...new Set(ids)]) link(one, html("li", undefined, all));
  };
  ends("Reads", graph.edges.filter((edge) => within(edge.to, id) && !within(edge.from, id)).map((edge) => edge.from));
  ends("Read by", graph.edges.filter((edge) => within(edge.from, id) && !within(edge.to, id)).map((edge) => edge.to));
}

function go(id) {
  for (let at = nodes[id].parent; at >= 0; at = nodes[at].parent) opened.add(at);
  redraw(-1);
  select(id);
  focus(id);
  reveal(id, true);
}

// -- search -----------------------------------------------------------------------------------------------------------

function look() {
  const text = search.value.trim().toLowerCase();
  const says = (one) => one.toLowerCase().includes(text);
  // A path in full finds what lies there; else the name or the type has to bear the text, not a block around it.
  matches = !text ? [] : [...nodes.keys()].filter((id) => says(nodes[id].name) || (nodes[id].kind !== "compute" && says(nodes[id].type)) ||
    (text.includes(".") && says(nodes[id].path)));
  match = matches.length ? 0 : -1;
  for (const id of matches) for (let at = nodes[id].parent; at >= 0; at = nodes[at].parent) opened.add(at);
  redraw(-1);
  arrive();
}

function arrive() {
  found.textContent = search.value.trim() ? (matches.length ? `${match + 1} of ${matches.length}` : "nothing") : "";
  mark();
  if (match >= 0) reveal(matches[match], true);
}

function step(by) {
  if (!matches.length) return;
  match = (match + by + matches.length) % matches.length;
  arrive();
}

// -- what the person does ---------------------------------------------------------------------------------------------

let drag = null, later = 0;
stage.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY, moved: false }; });
window.addEventListener("pointermove", (event) => {
  if (!drag || !(event.buttons & 1)) return;
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  if (!drag.moved && Math.hypot(dx, dy) < 4) return;
  drag = { x: event.clientX, y: event.clientY, moved: true };
  stage.classList.add("moving");
  view.x += dx; view.y += dy;
  show();
});
window.addEventListener("pointerup", () => stage.classList.remove("moving"));
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const unit = event.deltaMode === 1 ? 16 : 1;
  if (event.ctrlKey || event.metaKey) {
    const area = stage.getBoundingClientRect();
    return zoom(Math.exp(-event.deltaY * unit * (Math.abs(event.deltaY) < 50 ? 0.01 : 0.002)), event.clientX - area.left, event.clientY - area.top);
  }
  view.x -= (event.shiftKey ? event.deltaY : event.deltaX) * unit;
  view.y -= (event.shiftKey ? 0 : event.deltaY) * unit;
  show();
}, { passive: false });

const nodeOf = (target) => { const element = target.closest && target.closest(".node"); return element ? Number(element.id.slice(5)) : -1; };
stage.addEventListener("click", (event) => {
  if (drag && drag.moved) return;
  const id = nodeOf(event.target);
  if (id < 0) return select(-1);
  const header = opened.has(id) && event.target.closest(".header, .name, .type");
  if (event.target.closest(".fold") || (isBlock(id) && !opened.has(id)) || header) toggle(id);
  select(id);
  focus(id);
});

document.getElementById("open-all").addEventListener("click", () => setAll(true));
document.getElementById("close-all").addEventListener("click", () => setAll(false));
document.getElementById("fit").addEventListener("click", () => fit(true));
document.getElementById("nearer").addEventListener("click", () => zoom(1.25));
document.getElementById("farther").addEventListener("click", () => zoom(0.8));
document.getElementById("close-panel").addEventListener("click", () => select(-1));
search.addEventListener("input", () => { clearTimeout(later); later = setTimeout(look, 120); });
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter") { event.preventDefault(); step(event.shiftKey ? -1 : 1); }
  if (event.key === "Escape") { search.value = ""; look(); search.blur(); }
  event.stopPropagation();
});

// Up and down follow the tensors, left and right the row.
function neighbour(id, key) {
  const at = placed.items[id];
  if (key === "ArrowDown" || key === "ArrowUp") {
    const ends = key === "ArrowDown"
      ? graph.edges.filter((edge) => within(edge.from, id) && !within(edge.to, id)).map((edge) => edge.to)
      : graph.edges.filter((edge) => within(edge.to, id) && !within(edge.from, id)).map((edge) => edge.from);
    return ends.length ? visible(ends[0]) : -1;
  }
  const middle = at.x + at.w / 2;
  const beside = Object.keys(placed.items).map(Number).filter((one) => {
    const other = placed.items[one];
    return nodes[one].parent === nodes[id].parent && one !== id && other.y < at.y + at.h && at.y < other.y + other.h &&
      (key === "ArrowRight") === (other.x + other.w / 2 > middle);
  });
  return beside.sort((a, b) => Math.abs(placed.items[a].x - at.x) - Math.abs(placed.items[b].x - at.x))[0] ?? -1;
}

window.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const id = nodeOf(event.target), inPicture = id >= 0;
  const keys = {
    "/": () => search.focus(), "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), "0": () => fit(true),
    o: () => setAll(true), c: () => setAll(false), n: () => step(1), N: () => step(-1), Escape: () => select(-1),
  };
  if (inPicture && (event.key === "Enter" || event.key === " ")) { isBlock(id) && event.key === " " ? toggle(id) : select(id); }
  else if (inPicture && event.key.startsWith("Arrow")) {
    const next = neighbour(id, event.key);
    if (next >= 0) { if (selected >= 0) select(next); focus(next); reveal(next, false); }
  } else if (inPicture && event.key === "PageDown" && isBlock(id) && opened.has(id)) { focus(childrenOf[id][0]); reveal(focused, false); }
  else if (inPicture && event.key === "PageUp" && nodes[id].parent >= 0) { focus(nodes[id].parent); reveal(focused, false); }
  else if (keys[event.key] && !(event.target.closest && event.target.closest("button") && event.key === "Enter")) keys[event.key]();
  else return;
  event.preventDefault();
});
window.addEventListener("resize", show);

draw();
fit(false);
