// A plot of means over a variable, with their 95 % confidence intervals, as SVG elements.
import { html } from "/vendor/htm-preact-3.1.1.js";
import { useState } from "/core.js";
import { useWidth } from "/canvas.js";
import { number } from "/matrices.js";

const marks = [
  (x, y) => html`<circle cx=${x} cy=${y} r="4" />`, (x, y) => html`<rect x=${x - 3.6} y=${y - 3.6} width="7.2" height="7.2" />`,
  (x, y) => html`<path d=${`M${x},${y - 5}L${x + 4.6},${y + 3.6}H${x - 4.6}Z`} />`, (x, y) => html`<path d=${`M${x},${y - 5}L${x + 5},${y}L${x},${y + 5}L${x - 5},${y}Z`} />`,
];

// ticks are round numbers, about n of them.
function ticks(low, high, n) {
  const raw = (high - low) / n || 1, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * size).find((s) => s >= raw);
  const out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) out.push(Math.abs(v) < step / 1e6 ? 0 : v);
  return out;
}

export function Plot({ lines, x, y, series, caption }) {
  const [frame, full] = useWidth();
  const [hot, setHot] = useState(null);
  const width = Math.max(Math.min(full, 860), 260), height = Math.round(Math.min(width * 0.58, 460));
  const [left, right, top, bottom] = [64, 16, 14, 46];
  const points = lines.filter((l) => l.metrics[y]?.mean != null).map((l) => ({ x: l.vars[x], s: series ? l.vars[series] : "", mean: l.metrics[y].mean, ci: l.metrics[y].ci95 || 0, n: l.metrics[y].n, unit: l.units?.[y] || "" }));
  if (!points.length) return html`<div ref=${frame}><p class="empty">No cell that is done has given ${y} yet.</p></div>`;
  const numeric = points.every((p) => p.x !== "" && isFinite(Number(p.x)));
  const values = numeric ? [...new Set(points.map((p) => Number(p.x)))].sort((a, b) => a - b) : [...new Set(points.map((p) => p.x))];
  const log = numeric && values.length > 2 && values[0] > 0 && values[values.length - 1] / values[0] >= 100;
  const f = (v) => (numeric ? (log ? Math.log10(Number(v)) : Number(v)) : values.indexOf(v));
  const [x0, x1] = [f(values[0]), f(values[values.length - 1])], xr = x1 - x0 || 1;
  const lows = points.map((p) => p.mean - p.ci), highs = points.map((p) => p.mean + p.ci);
  let [y0, y1] = [Math.min(...lows), Math.max(...highs)];
  const room = (y1 - y0 || Math.abs(y1) || 1) * 0.06;
  y0 -= room; y1 += room;
  const px = (v) => left + 12 + ((f(v) - x0) / xr) * (width - left - right - 24), py = (v) => top + (1 - (v - y0) / (y1 - y0)) * (height - top - bottom);
  const names = series ? [...new Set(points.map((p) => p.s))] : [""];
  const xticks = values.length <= 9 ? values : numeric && !log ? ticks(x0, x1, 6) : values.filter((_, i) => i % Math.ceil(values.length / 8) === 0);
  const groups = names.map((s) => points.filter((p) => p.s === s).sort((a, b) => f(a.x) - f(b.x)));
  const id = (p) => `${p.s} ${p.x}`;
  return html`<div ref=${frame} class="plot"><figure><svg width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} role="group" aria-label=${caption}>
      ${ticks(y0, y1, 6).map((v) => html`<g key=${v}><line class="grid" x1=${left} x2=${width - right} y1=${py(v)} y2=${py(v)} /><text class="tick" x=${left - 8} y=${py(v) + 4} text-anchor="end">${number(v)}</text></g>`)}
      ${xticks.map((v) => html`<text class="tick" key=${v} x=${px(v)} y=${height - bottom + 18} text-anchor="middle">${numeric ? number(Number(v)) : String(v).slice(0, 12)}</text>`)}
      <line class="axis" x1=${left} x2=${width - right} y1=${height - bottom} y2=${height - bottom} />
      <text class="label" x=${(left + width - right) / 2} y=${height - 8} text-anchor="middle">${x}${log ? " (logarithmic)" : ""}</text>
      <text class="label" transform=${`translate(14 ${(top + height - bottom) / 2}) rotate(-90)`} text-anchor="middle">${y}${points[0].unit ? ` [${points[0].unit}]` : ""}</text>
      ${groups.map((group, i) => html`<g key=${i} class="series s${i % 8}">
        <polyline points=${group.map((p) => `${px(p.x)},${py(p.mean)}`).join(" ")} stroke-dasharray=${["none", "6 3", "2 3", "8 3 2 3"][Math.floor(i / 2) % 4]} />
        ${group.map((p) => html`<g key=${p.x} class=${hot === id(p) ? "point hot" : "point"} tabindex="0" role="img" aria-label=${`${series ? `${series} ${p.s}, ` : ""}${x} ${p.x}: ${number(p.mean)} ± ${number(Number(p.ci.toPrecision(2)))} ${p.unit}, ${p.n} runs`}
            onMouseEnter=${() => setHot(id(p))} onMouseLeave=${() => setHot(null)} onFocus=${() => setHot(id(p))} onBlur=${() => setHot(null)}>
          <line class="ci" x1=${px(p.x)} x2=${px(p.x)} y1=${py(p.mean - p.ci)} y2=${py(p.mean + p.ci)} />${marks[i % 4](px(p.x), py(p.mean))}</g>`)}</g>`)}</svg>
      <figcaption>${caption}: means with 95 % confidence intervals.</figcaption>
      ${series ? html`<p class="legend">${names.map((s, i) => html`<span key=${s} class="series s${i % 8}"><svg width="26" height="12" aria-hidden="true"><line x1="0" x2="26" y1="6" y2="6" stroke-dasharray=${["none", "6 3", "2 3", "8 3 2 3"][Math.floor(i / 2) % 4]} />${marks[i % 4](13, 6)}</svg>${series}=${s}</span>`)}</p>` : null}</figure>
    <div class="scroll" tabindex="0" aria-label="The same numbers"><table><thead><tr>${series ? html`<th>${series}</th>` : null}<th class="num">${x}</th><th class="num">${y}</th><th class="num">±</th><th class="num">n</th></tr></thead><tbody>${groups.flat().map((p) => html`
      <tr key=${id(p)} class=${hot === id(p) ? "marked" : ""} onMouseEnter=${() => setHot(id(p))} onMouseLeave=${() => setHot(null)}>${series ? html`<td>${p.s}</td>` : null}<td class="num">${p.x}</td><td class="num">${number(p.mean)}</td><td class="num">${p.ci ? number(Number(p.ci.toPrecision(2))) : "–"}</td><td class="num">${p.n}</td></tr>`)}</tbody></table></div></div>`;
}
