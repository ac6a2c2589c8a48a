// Small charts over the last 15 minutes, one cursor for all of them.

import { SPAN } from "./service.js";
import { clock, coloured, html, svg } from "./drawing.js";

const [HEIGHT, LEFT, BOTTOM, TOP] = [144, 46, 16, 8];
const MINUTE = 60;

// The first of 1, 2, 5, 10, ... that is not below.
function round(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 5, 10].map((m) => m * power).find((candidate) => candidate >= number * 0.999);
}

// The point of `points` that is nearest to `time`.
function near(points, time) {
  let best = null;
  for (const point of points) if (!best || Math.abs(point[0] - time) < Math.abs(best[0] - time)) best = point;
  return best;
}

class Chart {
  constructor({ title, say, series }) {
    this.say = say;
    this.series = series;
    this.output = html("output");
    this.drawing = svg("svg", { role: "img", "aria-label": title });
    this.names = html("div", { class: "series" });
    this.figure = html("figure", {}, html("figcaption", {}, html("b", {}, title), this.output), this.drawing, this.names);
  }

  draw(history, events, end, cursor) {
    const lines = this.series(history);
    const width = Math.max(220, this.drawing.clientWidth);
    const most = round(Math.max(0, ...lines.flatMap(({ points }) => points.map(([, y]) => y ?? 0))) || 1);
    const x = (time) => LEFT + ((time - end + SPAN) / SPAN) * (width - LEFT);
    const y = (number) => HEIGHT - BOTTOM - (number / most) * (HEIGHT - BOTTOM - TOP);
    const parts = [];
    for (const part of [0, 0.5, 1]) {
      const at = y(most * part);
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: width, y1: at, y2: at }));
      parts.push(svg("text", { x: LEFT - 5, y: at + 4, "text-anchor": "end" }, this.say(most * part)));
    }
    for (let ago = SPAN; ago >= 0; ago -= 5 * MINUTE) {
      const anchor = ago === SPAN ? "start" : ago ? "middle" : "end";
      parts.push(svg("text", { x: x(end - ago), y: HEIGHT - 2, "text-anchor": anchor }, ago ? `-${ago / MINUTE} min` : "now"));
    }
    for (const event of events) {
      if (event.time < end - SPAN) continue;
      const at = x(event.time);
      parts.push(svg("line", { class: `event ${event.tone}`, x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM },
        svg("title", {}, `${clock(event.time)} ${event.text}`)));
    }
    for (const { number, points } of lines) parts.push(coloured(svg("path", { class: "line", d: path(points, x, y) }), number));
    if (cursor != null) parts.push(svg("line", { class: "cursor", x1: x(cursor), x2: x(cursor), y1: TOP, y2: HEIGHT - BOTTOM }));
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.drawing.replaceChildren(...parts);
    this.#read(lines, cursor ?? end);
  }

  #read(lines, time) {
    const read = lines.map(({ number, name, points }) => ({ number, name, value: near(points, time)?.[1] ?? null }));
    this.names.replaceChildren(...read.map(({ number, name, value }) =>
      html("span", {}, coloured(html("i", { class: "swatch" }), number), `${name} ${this.say(value)}`)));
    const known = read.map(({ value }) => value).filter((value) => value != null);
    this.output.value = known.length ? `most ${this.say(Math.max(...known))}` : "";
  }
}

function path(points, x, y) {
  let [text, isDrawing] = ["", false];
  for (const [time, number] of points) {
    if (number != null) text += `${isDrawing ? "L" : "M"}${x(time).toFixed(1)} ${y(number).toFixed(1)}`;
    isDrawing = number != null;
  }
  return text;
}

export class Charts {
  #cursor = null;

  constructor(place, moment, kinds) {
    this.place = place;
    this.moment = moment;
    this.all = kinds.map((kind) => new Chart(kind));
    place.append(...this.all.map(({ figure }) => figure));
    place.addEventListener("pointermove", (event) => this.#point(event));
    place.addEventListener("pointerleave", () => this.now());
    addEventListener("resize", () => this.#draw());
  }

  show(history, events) {
    Object.assign(this, { history, events });
    this.#draw();
  }

  // Read the charts `steps` samples later, or earlier.
  step(steps) {
    const times = this.history.samples.map(({ time }) => time);
    if (!times.length) return;
    const at = this.#cursor == null ? times.length - 1 : times.findLastIndex((time) => time <= this.#cursor);
    this.#cursor = times[Math.min(times.length - 1, Math.max(0, at + steps))];
    this.#draw();
  }

  now() {
    this.#cursor = null;
    this.#draw();
  }

  #point(event) {
    const box = event.target.closest("svg")?.getBoundingClientRect();
    if (!box || !this.history) return;
    const part = (event.clientX - box.left - LEFT) / (box.width - LEFT);
    this.#cursor = this.history.last - SPAN * (1 - Math.min(1, Math.max(0, part)));
    this.#draw();
  }

  #draw() {
    if (!this.history) return;
    for (const chart of this.all) chart.draw(this.history, this.events, this.history.last, this.#cursor);
    this.moment.textContent = this.#cursor == null ? "" : `at ${clock(this.#cursor)}`;
  }
}
