"use strict";
// Where everything lies. Each open block is laid out by itself, from the inside out: rows by the longest way from what
// comes in, few crossings, straight chains. A tensor that passes several rows goes through one bend on each of them,
// which all its readers share. A tensor enters an open block at a port under its header, and leaves at its bottom.

const GAP_X = 26, BEND_GAP = 16, GAP_Y = 40, PLAIN_GAP_Y = 26, PAD = 18, HEADER = 30, SWEEPS = 14, BEND = 6;

// nodes: [{parent}], parent −1 at the top; edges: [{from, to, shape}] between layers. `open(id)` says whether a block is
// open, `size(id)` gives {w, h} of what is drawn closed, and {w} of an open block's header.
// Answers {w, h, items: {id: {x, y, w, h, open}}, lines: [{path, label, x, y, arrow, from, to}]}, all from the top left.
function layOut(nodes, edges, open, size) {
  const children = new Map([[-1, []]]);
  nodes.forEach((node, id) => {
    if (!children.has(node.parent)) children.set(node.parent, []);
    children.get(node.parent).push(id);
  });
  const levels = levelEdges(nodes, edges, open);
  const items = {}, lines = [];

  function level(container) {
    const parts = new Map();
    for (const id of children.get(container) || []) {
      parts.set(id, open(id) ? Object.assign(level(id), { open: true }) : Object.assign({ open: false }, size(id)));
    }
    const placed = placeLevel(parts, levels.get(container) || []);
    const minimum = container < 0 ? 0 : size(container).w;
    const w = Math.max(placed.w + 2 * PAD, minimum), top = container < 0 ? PAD : HEADER;
    return { ...placed, parts, w, h: placed.h + top + PAD, dx: (w - placed.w) / 2, top };
  }

  function settle(made, x, y) {
    for (const [id, part] of made.parts) {
      const at = made.at.get(id);
      const left = x + made.dx + at.x - part.w / 2, over = y + made.top + at.y;
      items[id] = { x: left, y: over, w: part.w, h: part.h, open: part.open };
      if (part.open) settle(part, left, over);
    }
    for (const line of made.lines) lines.push({ ...line, dx: x + made.dx, dy: y + made.top });
  }
  const root = level(-1);
  settle(root, 0, 0);
  return { w: root.w, h: root.h, items, lines };
}

// The edges inside every open block: between its own members, and between them and its ports (`in:…`, `out:…`).
function levelEdges(nodes, edges, open) {
  const chains = new Map();
  function chain(id) {
    if (chains.has(id)) return chains.get(id);
    const all = [];
    for (let at = id; at >= 0; at = nodes[at].parent) all.unshift(at);
    const end = all.findIndex((one, place) => place < all.length - 1 && !open(one));
    const seen = end < 0 ? all : all.slice(0, end + 1);
    chains.set(id, seen);
    return seen;
  }
  const levels = new Map();
  function add(container, from, to, tensor, shape) {
    if (!levels.has(container)) levels.set(container, new Map());
    levels.get(container).set(`${from}|${to}|${tensor}`, { from, to, tensor, shape });
  }
  for (const { from, to, shape } of edges) {
    const a = chain(from), b = chain(to), tensor = `${from}:${shape}`;
    let same = 0;
    while (same < a.length && same < b.length && a[same] === b[same]) same++;
    if (same >= a.length || same >= b.length) continue; // inside one closed block
    add(same ? a[same - 1] : -1, a[same], b[same], tensor, shape);
    for (let j = same; j < a.length - 1; j++) add(a[j], a[j + 1], `out:${tensor}`, tensor, shape);
    for (let j = same; j < b.length - 1; j++) add(b[j], `in:${tensor}`, b[j + 1], tensor, shape);
  }
  return new Map([...levels].map(([container, found]) => [container, [...found.values()]]));
}

function placeLevel(parts, edges) {
  const { row, rows } = assignRows(parts, edges);
  // Members of rows: items, ports, and bends `from|tensor|row`.
  const box = new Map(); // key -> {w, h, bend}
  for (const [id, part] of parts) box.set(id, part);
  for (const key of row.keys()) if (!box.has(key)) box.set(key, { w: BEND, h: 0, bend: true, port: key.slice(0, key.indexOf(":")) });
  const order = Array.from({ length: rows }, () => []);
  for (const [key, at] of row) order[at].push(key);
  const segments = new Map(); // from here to there -> {a, b, ...}
  for (const edge of edges) {
    let before = edge.from;
    for (let r = row.get(edge.from) + 1; r <= row.get(edge.to); r++) {
      const here = r === row.get(edge.to) ? edge.to : `${edge.from}|${edge.tensor}|${r}`;
      if (!box.has(here)) {
        box.set(here, { w: BEND, h: 0, bend: true });
        order[r].push(here);
      }
      const key = `${before}>${here}>${edge.tensor}`;
      if (!segments.has(key)) segments.set(key, { a: before, b: here, tensor: edge.tensor, shape: edge.shape, from: edge.from, to: new Set(), row: r });
      segments.get(key).to.add(edge.to);
      before = here;
    }
  }
  const above = new Map(), below = new Map();
  const join = (map, key, value) => (map.has(key) ? map.get(key).push(value) : map.set(key, [value]));
  for (const seg of segments.values()) { join(above, seg.b, seg); join(below, seg.a, seg); }
  uncross(order, above, below);

  // Where a tensor touches a part, measured from the part's middle.
  function port(key, seg, out) {
    const part = box.get(key);
    if (!part.open) return 0;
    const at = part.at.get((out ? "out:" : "in:") + seg.tensor);
    return at ? at.x + part.dx - part.w / 2 : 0;
  }
  const x = straighten(order, box, above, below, port, spine(row, edges));
  let left = Infinity, right = -Infinity;
  for (const [key, part] of box) {
    left = Math.min(left, x.get(key) - part.w / 2);
    right = Math.max(right, x.get(key) + part.w / 2);
  }
  if (!box.size) left = right = 0;

  const heights = order.map((line) => Math.max(0, ...line.map((key) => box.get(key).h)));
  const tops = [];
  let y = 0;
  heights.forEach((h, r) => {
    if (r) {
      const between = [...segments.values()].filter((seg) => seg.row === r);
      const ports = order[r - 1].every((key) => box.get(key).port) || order[r].every((key) => box.get(key).port);
      const spread = Math.max(0, ...between.map((seg) => Math.abs(x.get(seg.a) - x.get(seg.b))));
      y += (ports ? PLAIN_GAP_Y : GAP_Y) + Math.min(60, spread / 14);
    }
    tops.push(y);
    y += h;
  });
  const at = new Map();
  order.forEach((line, r) => line.forEach((key) => {
    at.set(key, { x: x.get(key) - left, y: tops[r] + (heights[r] - box.get(key).h) / 2 });
  }));
  return { w: right - left, h: y, at, lines: route([...segments.values()], at, box, row, tops, heights, port) };
}

function assignRows(parts, edges) {
  const after = new Map(), before = new Map(), row = new Map();
  const keys = [...parts.keys()];
  for (const { from, to } of edges) for (const key of [from, to]) if (!parts.has(key) && !keys.includes(key)) keys.push(key);
  for (const key of keys) { after.set(key, []); before.set(key, 0); }
  for (const { from, to } of edges) { after.get(from).push(to); before.set(to, before.get(to) + 1); }
  const isIn = (key) => String(key).startsWith("in:"), isOut = (key) => String(key).startsWith("out:");
  const first = keys.some(isIn) ? 1 : 0;
  const waiting = keys.filter((key) => !before.get(key));
  const sources = new Set(waiting);
  for (const key of waiting) row.set(key, isIn(key) ? 0 : first);
  while (waiting.length) {
    const key = waiting.shift();
    for (const next of after.get(key)) {
      row.set(next, Math.max(row.get(next) || 0, row.get(key) + 1));
      before.set(next, before.get(next) - 1);
      if (!before.get(next)) waiting.push(next);
    }
  }
  // What reads nothing stands just above what reads it.
  for (const key of sources) {
    if (!isIn(key) && after.get(key).length) row.set(key, Math.max(first, Math.min(...after.get(key).map((next) => row.get(next))) - 1));
  }
  let last = 0;
  for (const key of keys) if (!isOut(key)) last = Math.max(last, row.get(key) ?? 0);
  for (const key of keys) if (isOut(key)) row.set(key, last + 1);
  return { row, rows: keys.length ? Math.max(...row.values()) + 1 : 0 };
}

function uncross(order, above, below) {
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const down = sweep % 2 === 0;
    for (let step = 1; step < order.length; step++) {
      const r = down ? step : order.length - 1 - step;
      const place = new Map(order[down ? r - 1 : r + 1].map((key, index) => [key, index]));
      const wanted = new Map(order[r].map((key, index) => {
        const near = ((down ? above : below).get(key) || []).map((seg) => place.get(down ? seg.a : seg.b));
        return [key, near.length ? near.reduce((sum, one) => sum + one, 0) / near.length : index];
      }));
      order[r].sort((one, other) => wanted.get(one) - wanted.get(other));
    }
  }
}

// The members that all of the longest ways through a block pass: these stay in one line.
function spine(row, edges) {
  const down = new Map(), up = new Map(), keys = [...row.keys()];
  const longest = (key, map, next) => {
    if (!map.has(key)) map.set(key, 1 + Math.max(0, ...(next.get(key) || []).map((one) => longest(one, map, next))));
    return map.get(key);
  };
  const after = new Map(), before = new Map();
  for (const { from, to } of edges) {
    after.set(from, [...(after.get(from) || []), to]);
    before.set(to, [...(before.get(to) || []), from]);
  }
  const sum = new Map(keys.sort((a, b) => row.get(a) - row.get(b)).map((key) => [key, longest(key, up, before)]));
  for (const key of keys.reverse()) sum.set(key, sum.get(key) + longest(key, down, after));
  const most = Math.max(0, ...sum.values()), count = new Map();
  const on = keys.filter((key) => sum.get(key) === most);
  for (const key of on) count.set(row.get(key), (count.get(row.get(key)) || 0) + 1);
  return new Set(on.filter((key) => count.get(row.get(key)) === 1));
}

function straighten(order, box, above, below, port, spine) {
  const x = new Map();
  const kind = (key) => (spine.has(key) ? 2 : box.get(key).bend && !box.get(key).port ? 0 : 1);
  const weight = (key) => [1, 12, 400][kind(key)];
  const settle = (line, wanted) => spread(wanted, line, box, weight).forEach((centre, place) => x.set(line[place], centre));
  for (const line of order) settle(line, line.map(() => 0));
  for (let sweep = 0; sweep < 2 * SWEEPS; sweep++) {
    const down = sweep % 2 === 0;
    for (const line of down ? order : [...order].reverse()) {
      settle(line, line.map((key) => {
        let near = (down ? above : below).get(key) || [];
        // Layers follow layers, the spine itself, and bends their own line: what is long stays straight.
        const other = (seg) => (down ? seg.a : seg.b), own = kind(key);
        for (const like of [near.filter((seg) => kind(other(seg)) === own), near.filter((seg) => kind(other(seg)))]) {
          if (like.length) { near = like; break; }
        }
        if (!near.length) return x.get(key);
        const goals = near.map((seg) => x.get(other(seg)) + port(other(seg), seg, down) - port(key, seg, !down)).sort((a, b) => a - b);
        const middle = goals.length >> 1;
        return goals.length % 2 ? goals[middle] : (goals[middle - 1] + goals[middle]) / 2;
      }));
    }
  }
  // Last, each long line goes straight, between what stands left and right of it: shapes beside layers included.
  const chains = new Map();
  for (const line of order) {
    line.forEach((key, place) => {
      if (kind(key)) return;
      const chain = String(key).slice(0, String(key).lastIndexOf("|"));
      if (!chains.has(chain)) chains.set(chain, []);
      chains.get(chain).push({ key, line, place });
    });
  }
  const step = BEND_GAP + BEND;
  function room({ line, place }) {
    let low = -Infinity, high = Infinity;
    for (let i = place - 1, bends = 0; i >= 0 && low === -Infinity; i--) {
      if (!kind(line[i])) { bends++; continue; }
      const label = Math.max(0, ...(below.get(line[i]) || []).map((seg) => 16 + 6.4 * seg.shape.length));
      low = x.get(line[i]) + Math.max(box.get(line[i]).w / 2 + BEND_GAP, label) + BEND / 2 + bends * step;
    }
    for (let i = place + 1, bends = 0; i < line.length && high === Infinity; i++) {
      if (kind(line[i])) high = x.get(line[i]) - box.get(line[i]).w / 2 - BEND_GAP - BEND / 2 - bends * step;
      else bends++;
    }
    return [low, high];
  }
  for (let pass = 0; pass < 3; pass++) {
    const goal = new Map();
    for (const chain of chains.values()) {
      const rooms = chain.map(room), low = Math.max(...rooms.map((one) => one[0])), high = Math.min(...rooms.map((one) => one[1]));
      const own = chain.map(({ key }) => x.get(key)).sort((a, b) => a - b)[chain.length >> 1];
      for (const { key } of chain) goal.set(key, low > high ? x.get(key) : Math.min(high, Math.max(low, own)));
    }
    for (const line of order) settle(line, line.map((key) => goal.get(key) ?? x.get(key)));
  }
  return x;
}

// The centres nearest to those wanted (least squares, layers weigh more than bends) that keep the order and the gaps.
function spread(wanted, line, box, weight) {
  const offsets = [0], pools = [];
  for (let i = 1; i < line.length; i++) {
    const a = box.get(line[i - 1]), b = box.get(line[i]);
    offsets.push(offsets[i - 1] + (a.w + b.w) / 2 + (a.bend || b.bend ? BEND_GAP : GAP_X));
  }
  line.forEach((key, i) => {
    let pool = { mean: wanted[i] - offsets[i], weight: weight(key), count: 1 };
    while (pools.length && pools[pools.length - 1].mean > pool.mean) {
      const other = pools.pop(), both = other.weight + pool.weight;
      pool = { mean: (other.mean * other.weight + pool.mean * pool.weight) / both, weight: both, count: other.count + pool.count };
    }
    pools.push(pool);
  });
  return pools.flatMap((pool) => Array(pool.count).fill(pool.mean)).map((mean, i) => mean + offsets[i]);
}

function route(segments, at, box, row, tops, heights, port) {
  const n = (value) => Math.round(value * 10) / 10;
  const lines = [], labelled = new Map(), arrivals = new Map();
  for (const seg of segments) arrivals.set(seg.b, (arrivals.get(seg.b) || 0) + 1);
  for (const seg of segments) {
    const a = box.get(seg.a), b = box.get(seg.b);
    const middleOf = (key, part, out) => at.get(key).x + (part.open ? port(key, seg, out) : 0);
    const lean = (key, part, towards) => {
      const room = Math.max(0, part.w / 2 - 16), middle = at.get(key).x;
      return Math.min(middle + room, Math.max(middle - room, towards));
    };
    // From the middle, but to the side for what goes around; straight down where the reader is wide enough.
    let x1 = middleOf(seg.a, a, true), x2 = middleOf(seg.b, b, false);
    if (!a.bend && !a.open && b.bend && !b.port) x1 = lean(seg.a, a, x2);
    if (!b.bend && !b.open) {
      const landing = lean(seg.b, b, x1);
      if (arrivals.get(seg.b) > 1 || Math.abs(landing - x1) < 0.5) x2 = landing;
    }
    const start = at.get(seg.a).y + a.h, from = tops[seg.row - 1] + heights[seg.row - 1];
    const to = tops[seg.row], inner = b.port === "out";
    // Into a layer the last bit goes straight down, so that the arrow does; a port lies on the frame, below the margin.
    const end = inner ? to + PAD : b.bend ? to : at.get(seg.b).y, bent = b.bend ? to : to - 7, middle = (from + bent) / 2;
    const outlet = a.bend && !a.port ? tops[seg.row - 1] : start;
    let path = `M${n(x1)} ${n(outlet)}V${n(from)}`;
    path += Math.abs(x1 - x2) < 0.5 ? "" : `C${n(x1)} ${n(middle)} ${n(x2)} ${n(middle)} ${n(x2)} ${n(bent)}`;
    path += `V${n(end)}`;
    const line = { path, from: seg.from, to: [...seg.to], source: parseInt(seg.tensor, 10), arrow: !b.bend, label: "", x: x1, y: middle, left: !b.bend && x2 > x1 + 12 };
    lines.push(line);
    // A tensor bears its shape once in a block, where it begins; not where it leaves at once.
    if (seg.a === seg.from && !inner && !a.port) {
      const key = `${seg.from}|${seg.tensor}`, slant = Math.abs(x1 - x2) + (b.bend ? 1000 : 0);
      const other = labelled.get(key);
      if (!other || slant < other.slant) {
        if (other) other.line.label = "";
        line.label = seg.shape;
        line.y = a.open ? (start + from) / 2 + 12 : start + 15;
        labelled.set(key, { line, slant });
      }
    }
  }
  return lines;
}
