// The picture of this moment: listeners, acceptors, workers, and what flows between them.

import { bytes, coloured, count, rate, seconds, svg } from "./drawing.js";

const [WIDTH, BOX, ROW, GAP] = [900, 200, 46, 10];
const COLUMNS = [0, (WIDTH - BOX) / 2, WIDTH - BOX];
export const TONES = { ready: "good", draining: "warn", starting: "warn", retired: "warn", stopping: "warn" };
const DASH = 16; // as the style sheet has it

function box(column, y, tone, lines, number) {
  const x = COLUMNS[column];
  const parts = [svg("rect", { class: tone, x: x + 0.5, y: y + 0.5, width: BOX - 1, height: ROW - 1, rx: 7 })];
  if (number != null) parts.push(coloured(svg("rect", { class: "swatch", x: x + BOX - 14, y: y + 8, width: 7, height: ROW - 16, rx: 2 }), number));
  lines.forEach((line, i) => parts.push(svg("text", { class: i ? "quiet" : "", x: x + 10, y: y + 19 + i * 17 }, line)));
  return svg("g", {}, ...parts);
}

// A curve from the middle of one row to that of another, one column on.
function curve(column, from, to, shift = 0) {
  const [x1, x2] = [COLUMNS[column] + BOX, COLUMNS[column + 1]];
  const [y1, y2, bend] = [from + ROW / 2 + shift, to + ROW / 2 + shift, (x2 - x1) / 2];
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}

function flow(d, perSecond, kind = "") {
  if (!perSecond) return null;
  const width = Math.min(9, 1.5 + 1.5 * Math.log10(1 + perSecond));
  const speed = Math.min(12, 1 + 2 * Math.log10(1 + perSecond)); // dashes in a second
  const line = svg("path", { class: `flow ${kind}`, d, "stroke-width": width.toFixed(1) });
  line.style.animationDuration = `${(DASH / 16 / speed).toFixed(2)}s`;
  return line;
}

// Where each of `number` rows begins, in the middle of `height`.
function rows(number, height) {
  const all = number * (ROW + GAP) - GAP;
  return Array.from({ length: number }, (_, i) => (height - all) / 2 + i * (ROW + GAP));
}

export function draw(place, snapshot, rates) {
  const { listeners, acceptors, slots } = snapshot;
  const height = Math.max(listeners.length, acceptors.length, slots.length, 2) * (ROW + GAP) - GAP;
  const [left, middle, right] = [listeners, acceptors, slots].map((each) => rows(each.length, height));
  const [links, flows, boxes] = [[], [], []];
  const link = (d) => links.push(svg("path", { class: "link", d }));

  listeners.forEach((listener, i) => {
    const perSecond = rates.of((s) => s.listeners[i]?.accepted);
    boxes.push(box(0, left[i], "", [shortened(listener.name), `${rate(perSecond)} accepted`]));
    acceptors.forEach((_, k) => {
      link(curve(0, left[i], middle[k]));
      flows.push(flow(curve(0, left[i], middle[k]), perSecond / acceptors.length));
    });
  });
  acceptors.forEach((acceptor, k) => {
    const perSecond = rates.of((s) => s.acceptors[k]?.accepted);
    const name = k ? `acceptor ${acceptor.number}` : "master";
    const waits = k ? "" : `, ${count(snapshot.peeking)} peeking, ${count(snapshot.waiting)} waiting`;
    boxes.push(box(1, middle[k], TONES[acceptor.state] ?? "bad", [`${name} · pid ${acceptor.pid}`, `${rate(perSecond)}${waits}`]));
  });
  slots.forEach((slot, i) => {
    const read = (name) => rates.of((s) => (s.slots[i]?.pid === slot.pid ? s.slots[i]?.[name] : null));
    const [handed, back, requests] = [read("handed_over"), read("hops_out"), read("requests")];
    const tone = slot.drained || slot.late ? "warn" : (TONES[slot.state] ?? "bad");
    const state = slot.drained ? "drained" : slot.late ? "late" : slot.state;
    boxes.push(box(2, right[i], tone, [
      `slot ${slot.slot} · ${state}`,
      slot.pid ? `${count(slot.open)} open · ${rate(requests)} · ${seconds(slot.lag)} lag` : slot.why || "no worker",
    ], slot.slot));
    acceptors.forEach((_, k) => {
      link(curve(1, middle[k], right[i]));
      flows.push(flow(curve(1, middle[k], right[i], -4), handed / acceptors.length));
      flows.push(flow(curve(1, middle[k], right[i], 5), back / acceptors.length, "back"));
    });
  });
  place.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  const text = place.querySelector("desc");
  text.textContent = `${listeners.length} listeners, ${acceptors.length} acceptors, ${slots.length} workers; ` +
    slots.map((s) => `slot ${s.slot} ${s.state}, ${s.open ?? 0} open, ${bytes(s.memory)}`).join("; ");
  place.replaceChildren(text, ...links, ...flows.filter(Boolean), ...boxes);
}

const shortened = (name) => (name.length > 27 ? `${name.slice(0, 12)}…${name.slice(-14)}` : name);
