// What the canvases share: colours that are readable on both grounds, shapes beside colours, sharp
// pixels, and drawing again when the ground or the width changes.
import { useEffect, useLayoutEffect, useRef, useState } from "/vendor/htm-preact-3.1.1.js";

const night = matchMedia("(prefers-color-scheme: dark)");

// Status colours have at least 6:1 to their ground.
const palette = {
  light: { waiting: "#5b6470", held: "#5b6470", running: "#00558a", copying: "#7a3b8f", done: "#00674a", failed: "#a33c00", canceled: "#6b5200", lost: "#8f1d4f", ground: "#e8ebef", ink: "#111820", idle: "#f0f2f5", line: "#d4d9df" },
  dark: { waiting: "#a3adb8", held: "#a3adb8", running: "#7cc4f5", copying: "#d7a3e8", done: "#3fcf9c", failed: "#ff9b5e", canceled: "#e0bd4a", lost: "#ff8fbd", ground: "#2a3038", ink: "#f2f5f8", idle: "#20262d", line: "#3a424c" },
};

export function colours(dark) {
  const p = palette[dark ? "dark" : "light"];
  return {
    ...p,
    // fill is a status's: what isn't as it should be has a pattern, too.
    fill: (g, status, side = 20) => {
      if (!status) return p.idle;
      if (status === "waiting") return p.ground;
      if (side < 4 || !["failed", "lost", "held", "canceled"].includes(status)) return p[status];
      return pattern(g, p[status], dark ? "#1b2026" : "#ffffff", status);
    },
  };
}

const patterns = new Map();

// pattern is stripes for what failed, dots for what is lost, bars for what is held or canceled.
function pattern(g, colour, ground, status) {
  const key = colour + status;
  if (!patterns.has(key)) {
    const tile = new OffscreenCanvas(6, 6), t = tile.getContext("2d");
    t.fillStyle = colour;
    t.fillRect(0, 0, 6, 6);
    t.fillStyle = t.strokeStyle = ground;
    if (status === "failed") {
      t.lineWidth = 1.2;
      for (const d of [-6, 0, 6]) { t.beginPath(); t.moveTo(d, 6); t.lineTo(d + 6, 0); t.stroke(); }
    } else if (status === "lost") { t.fillRect(1, 1, 2, 2); t.fillRect(4, 4, 2, 2); }
    else t.fillRect(0, 2, 6, 1.2);
    patterns.set(key, tile);
  }
  return g.createPattern(patterns.get(key), "repeat");
}

const ramps = {
  light: [[240, 246, 220], [172, 218, 170], [82, 178, 160], [30, 128, 150], [32, 76, 130], [38, 24, 84]],
  dark: [[40, 36, 78], [44, 78, 140], [32, 126, 152], [62, 176, 152], [150, 214, 140], [240, 240, 170]],
};

// ramp is the colour of a share, from 0 to 1: its brightness goes one way only.
export function ramp(share, dark) {
  const stops = ramps[dark ? "dark" : "light"];
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2), k = at - i;
  return `rgb(${stops[i].map((v, c) => Math.round(v + k * (stops[i + 1][c] - v))).join(" ")})`;
}

export function useDark() {
  const [dark, set] = useState(night.matches);
  useEffect(() => {
    const changed = () => set(night.matches);
    night.addEventListener("change", changed);
    return () => night.removeEventListener("change", changed);
  }, []);
  return dark;
}

// drawn draws on a canvas of a size in CSS pixels, as sharp as the screen is.
export function drawn(canvas, width, height, draw, depends) {
  const dark = useDark();
  useLayoutEffect(() => {
    const c = canvas.current;
    if (!c || !width || !height) return;
    const scale = Math.max(1, Math.min(devicePixelRatio || 1, 16000 / Math.max(width, height)));
    c.width = Math.round(width * scale);
    c.height = Math.round(height * scale);
    c.style.width = `${width}px`;
    c.style.height = `${height}px`;
    const g = c.getContext("2d");
    g.setTransform(scale, 0, 0, scale, 0, 0);
    draw(g, dark);
  }, [...depends, width, height, dark]);
}

// useWidth is the width of an element, as it changes.
export function useWidth() {
  const element = useRef();
  const [width, set] = useState(0);
  useLayoutEffect(() => {
    if (!element.current) return;
    set(Math.floor(element.current.clientWidth));
    const observer = new ResizeObserver(([entry]) => set(Math.floor(entry.contentRect.width)));
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return [element, width];
}
