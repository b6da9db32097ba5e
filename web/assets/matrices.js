// Matrices: a list; one as a map of its cells, as a table, as a plot.
import { html } from "/vendor/htm-preact-3.1.1.js";
import { getJSON, go, request, useData, useEffect, useKeys, useRef, useState, withQuery, anyMatrix, matrixIn } from "/core.js";
import { Bar, count, leftText, plural, statuses, time, Ticks, Trouble } from "/format.js";
import { Buttons } from "/actions.js";
import { MatrixRows, Why } from "/pool.js";
import { colours, drawn, ramp, useWidth } from "/canvas.js";
import { Plot } from "/plot.js";

export function Matrices() {
  const { data, error, again } = useData("/api/matrices", anyMatrix, { pause: 1500 });
  const list = [...(data?.matrices || [])].reverse();
  return html`<div class="head"><h1>Matrices <small>${data ? plural(list.length, "matrix").replace("matrixes", "matrices") : ""}</small></h1></div>
    <${Trouble} error=${error} again=${again} />
    ${data && !list.length ? html`<p class="empty">No matrices yet: <code>jobserver matrix add</code> makes one.</p>` : null}
    ${list.length ? html`<div class="card"><${MatrixRows} list=${list.slice(0, 500)} /></div>` : null}
    ${list.length > 500 ? html`<p class="hint">The newest 500 of ${count(list.length)}.</p>` : null}`;
}

export function Matrix({ id, part, query, live }) {
  const { data: m, error, again } = useData(`/api/matrices/${encodeURIComponent(id)}`, (c) => anyMatrix(c), { pause: 1000 });
  const [why, setWhy] = useState(null);
  if (!m) return html`<h1>Matrix ${id}</h1>${error ? html`<${Trouble} error=${error} again=${again} />` : html`<p class="empty">Loading…</p>`}`;
  const c = m.counts, one = { matrix: String(m.id) }, what = `matrix ${m.name || m.id}`;
  const ask = async () => {
    setWhy({ asking: true });
    try { setWhy(await getJSON(`/api/why?sel=${encodeURIComponent(`%${m.id}`)}`)); } catch (failure) { setWhy({ error: failure }); }
  };
  const parts = [["heat", "Cells"], ["table", "Table"], ["plot", "Plot"]];
  return html`<div class="head"><h1>Matrix ${m.id} ${m.name ? html`<small>${m.name}</small>` : null}</h1>
      <${Buttons} kind="matrices" live=${live} list=${[c.waiting && !m.held && ["hold", one, what], (c.held || m.held) && ["unhold", one, what],
        c.failed + c.lost && ["rerun", { ...one, failed: true }, `what failed of ${what}`], c.waiting + c.held + c.running && ["cancel", one, what]]} /></div>
    ${m.held ? html`<p class="card why"><b>It is held</b>${m.held_why ? `: ${m.held_why}` : ""}.${m.trial_at ? ` It is tried with one cell at ${time(m.trial_at)}.` : ""} <span class="hint"><${Ticks} text=${`\`jobserver matrix unhold ${m.id}\` lets it go on`} /></span></p>` : null}
    <pre class="command" tabindex="0" aria-label="Command">${m.cmd}</pre>
    <div class="progress"><${Bar} counts=${c} total=${m.cells} /><p>${statuses.filter((s) => s && c[s]).map((s, i) => html`${i ? ", " : ""}<a key=${s} class="st-${s}" href=${`/jobs?sel=%25${m.id}:${s}`}>${count(c[s])} ${s}</a>`)}
      <span class="hint"> of ${plural(m.cells, "cell")}${m.left ? html`; ${leftText(m.left)} left` : ""}; class ${m.class}; submitted ${time(m.submitted_at)}${(m.after || []).map((a) => `; it runs ${a}`)}${m.at_most ? `; at most ${count(m.at_most)} at a time` : ""}${m.max_fails ? `; held when ${count(m.max_fails)} have failed` : ""}</span></p></div>
    ${c.failed + c.lost ? html`<section class="card"><h2>Failures</h2>${why ? html`<${Why} why=${why} />` : html`<button onClick=${ask}>What made ${plural(c.failed + c.lost, "cell")} fail?</button>`}</section>` : null}
    <nav class="chips parts" aria-label="Show as">${parts.map(([to, name]) => html`<a key=${to} href=${`/matrices/${encodeURIComponent(id)}/${to}`} aria-current=${part === to ? "page" : null}>${name}</a>`)}</nav>
    ${part === "table" ? html`<${Table} m=${m} query=${query} />` : part === "plot" ? html`<${PlotView} m=${m} query=${query} />` : html`<${Heat} m=${m} query=${query} />`}`;
}

// fetchMap fetches the whole map, a piece at a time.
async function fetchMap(path, options) {
  const status = [], values = [];
  let metrics = [], unit = "";
  for (let from = 0; ;) {
    const response = await request(`${path}${path.includes("?") ? "&" : "?"}from=${from}`, options);
    const header = (name) => response.headers.get(name) || "";
    const here = Number(header("X-Here"));
    const body = await response.arrayBuffer();
    status.push(new Uint8Array(body, 0, here));
    if (body.byteLength > here) values.push(new Float64Array(body.slice(here)));
    const words = decodeURIComponent(header("X-Metrics").replaceAll("+", " "));
    if (words) metrics = [...new Set([...metrics, ...words.split(",")])];
    unit = decodeURIComponent(header("X-Unit").replaceAll("+", " ")) || unit;
    from = Number(header("X-Next"));
    if (!from) break;
  }
  const join = (Kind, parts) => { const all = new Kind(parts.reduce((n, p) => n + p.length, 0)); let at = 0; for (const p of parts) { all.set(p, at); at += p.length; } return all; };
  return { status: join(Uint8Array, status), values: values.length ? join(Float64Array, values) : null, metrics, unit };
}

// oneRow is how many cells of a single axis stand beside each other; more of them are a block.
const oneRow = 30;

// layout says which cell is where: columns of the values of one axis, rows of all others.
function layout(m, across) {
  const dims = [...(m.vars || []).map((v) => ({ name: v.name, n: v.count, values: v.values })), ...(m.repeats > 1 ? [{ name: "REPEAT", n: m.repeats }] : [])];
  const product = dims.reduce((n, d) => n * d.n, 1);
  if (m.listed || product !== m.cells || !dims.some((d) => d.n > 1) || dims.filter((d) => d.n > 1).length < 2 && m.cells > oneRow) {
    const columns = Math.ceil(Math.sqrt(m.cells * 2.2)), rows = Math.ceil(m.cells / columns);
    return { columns, rows, dims, cellAt: (x, y) => (y * columns + x < m.cells ? y * columns + x : -1), across: null };
  }
  let a = dims.findIndex((d) => d.name === across);
  if (a < 0) { // the longest, so that the picture is wide
    a = dims.reduce((best, d, i) => (d.n > dims[best].n ? i : best), 0);
  }
  const strides = dims.map((_, i) => dims.slice(i + 1).reduce((n, d) => n * d.n, 1));
  const others = dims.map((_, i) => i).filter((i) => i !== a);
  return {
    columns: dims[a].n, rows: m.cells / dims[a].n, dims, across: a, others,
    cellAt: (x, y) => {
      let cell = x * strides[a], rest = y;
      for (let k = others.length - 1; k >= 0; k--) { cell += (rest % dims[others[k]].n) * strides[others[k]]; rest = Math.floor(rest / dims[others[k]].n); }
      return cell;
    },
    strides,
  };
}

const valueName = (dim, i) => (dim.values ? dim.values[i] : dim.name === "REPEAT" ? String(i) : `#${i}`);

function cellName(m, l, cell) {
  if (m.listed || !l.strides && l.dims.reduce((n, d) => n * d.n, 1) !== m.cells) return `cell ${count(cell)}`;
  const strides = l.dims.map((_, i) => l.dims.slice(i + 1).reduce((n, d) => n * d.n, 1));
  return l.dims.map((d, i) => `${d.name}=${valueName(d, Math.floor(cell / strides[i]) % d.n)}`).join(", ");
}

function Heat({ m, query }) {
  const metric = query.get("metric") || "";
  const known = useData(`/api/matrices/${m.id}/table`, matrixIn(m.id), { pause: 15000 });
  const { data: map, error, again } = useData(`/api/matrices/${m.id}/map${metric ? `?metric=${encodeURIComponent(metric)}` : ""}`, matrixIn(m.id), { pause: metric ? 3000 : 1000, fetcher: fetchMap });
  const canvas = useRef();
  const [frame, width] = useWidth();
  const [cursor, setCursor] = useState(null);
  const [asTable, setAsTable] = useState(false);
  const l = layout(m, query.get("across"));
  // Values stand beside the cells where there is room for them.
  const wide = l.rows > 1 ? Math.min(200, width * 0.3) : 24;
  const labelled = l.across !== null && Math.floor((width - wide) / l.columns) >= 12;
  const [gx, gy] = labelled ? [Math.round(wide), 22] : [0, 0];
  const side = Math.max(2, Math.min(labelled ? 34 : 24, Math.floor((width - gx) / l.columns) || 2));
  const [w, h] = [gx + l.columns * side, gy + l.rows * side];
  const finite = map?.values ? Array.from(map.values).filter(Number.isFinite) : [];
  const low = finite.length ? finite.reduce((a, b) => Math.min(a, b)) : 0, high = finite.length ? finite.reduce((a, b) => Math.max(a, b)) : 1;

  drawn(canvas, w, h, (g, dark) => {
    if (!map) return;
    const paint = colours(dark);
    const gap = side > 5 ? 1 : 0;
    for (let y = 0; y < l.rows; y++) for (let x = 0; x < l.columns; x++) {
      const cell = l.cellAt(x, y);
      if (cell < 0) continue;
      const status = statuses[map.status[cell]];
      if (map.values && Number.isFinite(map.values[cell])) g.fillStyle = ramp((map.values[cell] - low) / (high - low || 1), dark);
      else if (map.values && status === "done") g.fillStyle = paint.ground;
      else g.fillStyle = paint.fill(g, status, side);
      g.fillRect(gx + x * side, gy + y * side, side - gap, side - gap);
    }
    if (labelled) labels(g, paint, l, gx, gy, side);
    if (cursor) {
      g.strokeStyle = paint.ink; g.lineWidth = 2;
      g.strokeRect(gx + cursor.x * side - 1, gy + cursor.y * side - 1, side + 1, side + 1);
    }
  }, [map, cursor, l.columns, l.rows, side]);

  const place = (x, y) => {
    x = Math.min(Math.max(x, 0), l.columns - 1); y = Math.min(Math.max(y, 0), l.rows - 1);
    if (x >= 0 && l.cellAt(x, y) >= 0) setCursor({ x, y, cell: l.cellAt(x, y) });
  };
  const onMove = (e) => {
    const box = canvas.current.getBoundingClientRect();
    place(Math.floor((e.clientX - box.left - gx) / side), Math.floor((e.clientY - box.top - gy) / side));
  };
  const openCell = async (cell) => {
    const { jid } = await getJSON(`/api/matrices/${m.id}/cell?cell=${cell}`);
    go(`/jobs/${jid}`);
  };
  const onKey = (e) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-l.columns, 0], End: [l.columns, 0], PageUp: [0, -10], PageDown: [0, 10] }[e.key];
    if (step) { e.preventDefault(); e.stopPropagation(); place((cursor?.x ?? -step[0]) + step[0], (cursor?.y ?? -step[1]) + step[1]); }
    if (e.key === "Enter" && cursor) { e.preventDefault(); openCell(cursor.cell); }
  };
  useKeys({ "#": () => { setAsTable(!asTable); return true; } });
  const said = cursor && map ? `${cellName(m, l, cursor.cell)}: ${statuses[map.status[cursor.cell]] || "forgotten"}${map.values && Number.isFinite(map.values[cursor.cell]) ? `, ${metric} ${number(map.values[cursor.cell])} ${map.unit}` : ""}` : "";
  const names = [...new Set([...(known.data?.metrics || []), ...(map?.metrics || [])])];
  return html`<section class="card"><div class="loghead"><h2>Cells</h2>
      ${names.length ? html`<label>Colour <select value=${metric} onChange=${(e) => go(withQuery({ metric: e.target.value }), { replace: true })}>
        <option value="">status</option>${names.map((n) => html`<option key=${n} value=${n}>${n}</option>`)}</select></label>` : null}
      ${l.across !== null && l.others.some((i) => l.dims[i].n > 1) ? html`<label>Across <select value=${l.dims[l.across].name} onChange=${(e) => go(withQuery({ across: e.target.value }), { replace: true })}>
        ${l.dims.filter((d) => d.n > 1).map((d) => html`<option key=${d.name} value=${d.name}>${d.name}</option>`)}</select></label>` : null}
      <button onClick=${() => setAsTable(!asTable)} aria-pressed=${asTable}>${asTable ? "As a map" : "As a table"}</button></div>
    <${Trouble} error=${error} again=${again} />
    ${asTable && map ? html`<${HeatTable} m=${m} l=${l} map=${map} metric=${metric} />` : html`
    <div class="heat" ref=${frame}><div class="scroll" tabindex="-1"><canvas ref=${canvas} tabindex="0" role="img" aria-label=${`Map of ${plural(m.cells, "cell")}, ${l.columns} by ${l.rows}; arrow keys move, Enter opens, # shows a table`}
      aria-describedby="heatsaid" onMouseMove=${onMove} onMouseLeave=${() => setCursor(null)} onClick=${(e) => { onMove(e); if (cursor) openCell(cursor.cell); }} onKeyDown=${onKey}></canvas></div></div>`}
    <p class="said" id="heatsaid" aria-live="polite">${said || html`<span class="hint">${l.across !== null ? `Across: ${l.dims[l.across].name}. ${l.others.length ? `Down: ${l.others.map((i) => l.dims[i].name).join(", ")}.` : ""}` : "In the order of the cells."}</span>`}</p>
    ${metric && finite.length ? html`<${Ramp} low=${low} high=${high} unit=${map.unit} />` : html`<${Legend} counts=${m.counts} />`}</section>`;
}

// labels writes the values of the axes beside the cells.
function labels(g, paint, l, gx, gy, side) {
  g.font = "12px system-ui, sans-serif";
  g.fillStyle = paint.waiting;
  g.textAlign = "center";
  g.textBaseline = "middle";
  let free = 0;
  for (let x = 0; x < l.columns; x++) {
    const text = String(valueName(l.dims[l.across], x)).slice(0, 14), half = g.measureText(text).width / 2, at = gx + (x + 0.5) * side;
    if (at - half < free) continue;
    g.fillText(text, at, gy / 2);
    free = at + half + 8;
  }
  g.textAlign = "right";
  const every = Math.ceil(13 / side);
  for (let y = 0; y < l.rows && l.rows > 1; y += every) {
    let rest = y;
    const words = [], values = [];
    for (let k = l.others.length - 1; k >= 0; k--) { const d = l.dims[l.others[k]], value = valueName(d, rest % d.n); words.unshift(`${d.name}=${value}`); values.unshift(value); rest = Math.floor(rest / d.n); }
    let text = words.join(" ");
    if (g.measureText(text).width > gx - 10) text = values.join(" · "); // the names stand below
    while (text.length > 4 && g.measureText(text).width > gx - 10) text = `…${text.slice(2)}`;
    g.fillText(text, gx - 8, gy + (y + 0.5) * side);
  }
  g.textAlign = "left";
}

export const number = (v) => (v === 0 ? "0" : Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3 ? v.toExponential(3) : String(Number(v.toPrecision(5))));

function HeatTable({ m, l, map, metric }) {
  const cells = Math.min(m.cells, 500);
  return html`<div class="scroll"><table><thead><tr><th class="num">Cell</th><th>Values</th><th>Status</th>${metric ? html`<th class="num">${metric}</th>` : null}</tr></thead><tbody>${Array.from({ length: cells }, (_, i) => html`
    <tr key=${i}><td class="num">${i}</td><td>${cellName(m, l, i)}</td><td>${statuses[map.status[i]] || "forgotten"}</td>${metric ? html`<td class="num">${map.values && Number.isFinite(map.values[i]) ? number(map.values[i]) : ""}</td>` : null}</tr>`)}</tbody></table></div>
    ${m.cells > cells ? html`<p class="hint">The first ${cells} of ${count(m.cells)}; <code>jobserver stat %${m.id}</code> has all.</p>` : null}`;
}

export function Legend({ counts }) {
  return html`<p class="legend">${statuses.filter((s) => s && (!counts || counts[s])).map((s) => html`<span key=${s}><i class="swatch fill-${s}" aria-hidden="true"></i>${s}${counts ? ` ${count(counts[s])}` : ""}</span>`)}</p>`;
}

function Ramp({ low, high, unit }) {
  const canvas = useRef();
  drawn(canvas, 160, 12, (g, dark) => { for (let x = 0; x < 160; x++) { g.fillStyle = ramp(x / 159, dark); g.fillRect(x, 0, 1, 12); } }, []);
  return html`<p class="legend"><span>${number(low)}</span><canvas ref=${canvas} aria-hidden="true"></canvas><span>${number(high)} ${unit}</span></p>`;
}

function Table({ m, query }) {
  const cols = query.get("cols") || "";
  const { data: t, error, again } = useData(`/api/matrices/${m.id}/table${cols ? `?cols=${encodeURIComponent(cols)}` : ""}`, matrixIn(m.id), { pause: 5000 });
  if (!t) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<p class="empty">Loading…</p>`;
  if (!t.metrics.length) return html`<p class="empty">No cell has given a number yet: a job prints <code>METRIC: name=value</code>.</p>`;
  return html`<section class="card"><div class="loghead"><h2>Table</h2><label>Columns <select value=${cols} onChange=${(e) => go(withQuery({ cols: e.target.value }), { replace: true })}>
      <option value="">metrics</option>${t.axes.map((a) => html`<option key=${a} value=${a}>${a}</option>`)}</select></label></div><${Trouble} error=${error} />
    <p class="hint">${t.caption}</p>${(t.warnings || []).map((w) => html`<p class="hint" key=${w}>${w}</p>`)}
    <div class="scroll" tabindex="0" aria-label="Table"><table class="pivot"><thead><tr>${t.header.map((name, i) => html`<th key=${i} class=${i >= t.left ? "num" : ""}>${name}</th>`)}</tr></thead>
      <tbody>${t.rows.slice(0, 1000).map((row, k) => html`<tr key=${k}>${row.map((cell, i) => html`<td key=${i} class=${i >= t.left ? "num" : ""}>${cell}</td>`)}</tr>`)}</tbody></table></div></section>`;
}

function PlotView({ m, query }) {
  const axes = (m.vars || []).filter((v) => v.count > 1).map((v) => v.name);
  const numeric = (m.vars || []).filter((v) => v.count > 1 && (v.values || []).every((x) => x.trim() !== "" && isFinite(Number(x)))).map((v) => v.name);
  const x = query.get("x") || numeric[0] || axes[0] || "";
  const series = query.has("series") ? query.get("series") : axes.find((a) => a !== x) || "";
  const rows = [x, series].filter(Boolean).join(",");
  const { data: t, error, again } = useData(rows ? `/api/matrices/${m.id}/table?rows=${encodeURIComponent(rows)}` : `/api/matrices/${m.id}/table`, matrixIn(m.id), { pause: 5000 });
  if (!t) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<p class="empty">Loading…</p>`;
  if (!t.metrics.length) return html`<p class="empty">No cell has given a number yet: a job prints <code>METRIC: name=value</code>.</p>`;
  const y = query.get("y") || t.metrics[0];
  const pick = (name, value, list, none) => html`<label>${name} <select value=${value} onChange=${(e) => go(withQuery({ [name.toLowerCase()]: e.target.value || null }), { replace: true })}>
    ${none ? html`<option value="">${none}</option>` : null}${list.map((a) => html`<option key=${a} value=${a}>${a}</option>`)}</select></label>`;
  const save = async () => {
    const response = await request(`/api/matrices/${m.id}/plot.svg?x=${encodeURIComponent(x)}&y=${encodeURIComponent(y)}${series ? `&series=${encodeURIComponent(series)}` : ""}`);
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(await response.blob()), download: `matrix-${m.name || m.id}.svg` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  return html`<section class="card"><div class="loghead"><h2>Plot</h2>${pick("X", x, axes)}${pick("Y", y, t.metrics)}${pick("Series", series, axes.filter((a) => a !== x), "none")}
      <button onClick=${save}>Save as SVG</button></div><${Trouble} error=${error} />
    <${Plot} lines=${t.lines} x=${x} y=${y} series=${series} caption=${`${y} over ${x}${series ? ` for each ${series}` : ""}`} /></section>`;
}
