// Machines against time: zoomed out, how busy each was and with what outcome; zoomed in, the attempts.
import { html } from "/vendor/htm-preact-3.1.1.js";
import { go, serverNow, useData, useEffect, useKeys, useRef, useState, withQuery } from "/core.js";
import { count, duration, plural, Trouble } from "/format.js";
import { colours, drawn, useWidth } from "/canvas.js";

const outcomes = ["failed", "lost", "canceled", "running", "done"]; // from the bottom of a row up
const pad = (n) => String(n).padStart(2, "0");

function clock(ms, span) {
  const d = new Date(ms);
  const hm = `${pad(d.getHours())}:${pad(d.getMinutes())}`;
  if (span < 10 * 60e3) return `${hm}:${pad(d.getSeconds())}`;
  if (span < 36 * 3600e3) return hm;
  return `${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${span < 10 * 86400e3 ? hm : ""}`.trim();
}

const steps = [1e3, 5e3, 10e3, 30e3, 60e3, 300e3, 600e3, 1800e3, 3600e3, 3 * 3600e3, 6 * 3600e3, 12 * 3600e3, 86400e3, 2 * 86400e3, 7 * 86400e3, 30 * 86400e3, 90 * 86400e3, 365 * 86400e3];

function bytes(text) {
  if (!text) return null;
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

export function Timeline({ query, live }) {
  const hours = Number(query.get("hours")) || 0;
  const from = Number(query.get("from")) || 0, to = Number(query.get("to")) || 0;
  const machine = query.get("machine") || "", cls = query.get("class") || "";
  const pick = (changes) => go(withQuery({ from: null, to: null, hours: null, ...changes }));
  const choices = [["1", "1 h"], ["6", "6 h"], ["24", "24 h"], ["168", "7 d"], ["all", "all"]];
  const now = from ? "" : query.get("hours") || "24";
  return html`<div class="head"><h1>Timeline <small>${machine ? html`<code>${machine}</code>` : cls ? html`class <code>${cls}</code>` : ""}</small></h1>
      ${machine || cls ? html`<a class="button" href=${withQuery({ machine: null, class: null })}>All machines</a>` : html`<label>Class <select value="" onChange=${(e) => e.target.value && go(withQuery({ class: e.target.value }))}><option value="">all</option>
        ${(live?.status?.classes || []).map((c) => html`<option key=${c.class} value=${c.class}>${c.class}</option>`)}</select></label>`}</div>
    <nav class="chips" aria-label="Time">${choices.map(([value, name]) => html`<a key=${value} href=${withQuery({ hours: value, from: null, to: null })} aria-current=${now === value ? "true" : null}>${name}</a>`)}
      ${from ? html`<span class="hint">${clock(from, 86400e3)} to ${clock(to, 86400e3)}</span>` : null}</nav>
    <section class="card"><${Chart} hours=${query.get("hours") === "all" ? 0 : hours || 24} all=${query.get("hours") === "all"} from=${from} to=${to} machine=${machine} cls=${cls} live=${live} zoom=${(a, b) => pick({ from: Math.round(a), to: Math.round(b) })} /></section>`;
}

// Chart draws one time; compact leaves out what only the page of its own has.
export function Chart({ hours, all, from, to, machine, cls, compact, live, zoom }) {
  const [frame, width] = useWidth();
  const canvas = useRef();
  const [cursor, setCursor] = useState(null);
  const [drag, setDrag] = useState(null);
  const [asTable, setAsTable] = useState(false);
  const [end, setEnd] = useState(() => serverNow());
  const seen = useRef({});
  Object.assign(seen.current, { live, end });
  useEffect(() => { // a time that ends now moves on
    if (from) return;
    const timer = setInterval(() => {
      const { live: now, end: last, version } = seen.current, jobs = now?.status?.jobs;
      // While nothing happens the picture stays nearly the same, and the daemon isn't asked for it.
      if (document.hidden || !now?.online || !(now.version !== version || jobs?.running + jobs?.copying || serverNow() - last > 60e3)) return;
      seen.current.version = now.version;
      setEnd(serverNow());
    }, compact ? 15000 : 5000);
    return () => clearInterval(timer);
  }, [from, live?.online]);
  const labels = machine ? 0 : Math.round(Math.min(170, Math.max(70, width * 0.18)));
  const columns = Math.max(20, Math.min(1200, Math.floor(width - labels)));
  const step = 5000; // so that viewers of the same time share an answer
  const now = Math.ceil(end / step) * step;
  const [a, b] = from ? [from, to] : all ? [0, 0] : [now - hours * 3600e3, now];
  const path = width ? `/api/timeline?columns=${columns}${a ? `&from=${a}&to=${b}` : ""}${from ? "" : "&clip=1"}&spans=${compact ? 0 : 3000}${machine ? `&machine=${encodeURIComponent(machine)}` : ""}${cls ? `&class=${encodeURIComponent(cls)}` : ""}` : null;
  const { data, error, again } = useData(path, () => false);
  useEffect(() => { if (data && data.ready < 1) { const timer = setTimeout(again, 500); return () => clearTimeout(timer); } }, [data]);
  const ready = data && data.ready === 1;
  const busiest = ready ? data.rows : [];
  const rows = compact && busiest.length > 30 ? busiest.filter((r) => outcomes.some((o) => r[o])).slice(0, 30) : busiest;
  const spans = ready && data.spans && !compact && data.spans.length ? lanes(data, rows) : null;
  const rowHeight = spans ? 0 : machine ? 40 : Math.max(3, Math.min(22, Math.floor((compact ? 240 : 640) / Math.max(rows.length, 1))));
  const heights = rows.map((r) => (spans ? Math.max(14, Math.min(10 * (spans.lanes.get(r.machine) || 1) + 4, 120)) : rowHeight));
  const tops = heights.reduce((all_, h) => [...all_, all_[all_.length - 1] + h], [0]);
  const height = (tops[tops.length - 1] || 20) + 22;
  const [t0, t1] = ready ? [data.from, data.to] : [0, 1];
  const x = (ms) => labels + ((ms - t0) / (t1 - t0)) * columns;
  const decoded = useRef({ data: null });
  if (decoded.current.data !== data) decoded.current = { data, rows: rows.map((r) => Object.fromEntries(outcomes.map((o) => [o, bytes(r[o])]))) };

  drawn(canvas, width, ready ? height : 0, (g, dark) => {
    const paint = colours(dark);
    g.font = "12px system-ui, sans-serif";
    g.textBaseline = "middle";
    rows.forEach((r, i) => {
      const [y, h] = [tops[i], heights[i] - (heights[i] > 6 ? 3 : 0)];
      g.fillStyle = paint.idle;
      g.fillRect(labels, y, columns, h);
      if (labels && (heights[i] >= 12 || tops[i] % 14 < heights[i])) {
        g.fillStyle = paint.ink;
        g.fillText(shortened(g, r.machine, labels - 10), 0, y + Math.max(h, 10) / 2);
      }
    });
    axis(g, paint, t0, t1, x, height, columns); // below what ran
    for (const gone of data.absent) {
      const i = rows.findIndex((r) => r.machine === gone.machine);
      if (i < 0) continue;
      const [x0, x1] = [x(Math.max(gone.from, t0)), x(Math.min(gone.to || t1, t1))];
      g.fillStyle = paint.line;
      for (let k = x0; k < x1; k += 4) g.fillRect(k, tops[i] + (heights[i] - 3) / 2, Math.min(2, x1 - k), 1.5);
    }
    if (spans) {
      for (const s of spans.list) {
        const [x0, x1] = [Math.max(x(s.start), labels), Math.min(x(s.end), labels + columns)];
        const laneHeight = (heights[s.row] - 4) / (spans.lanes.get(rows[s.row].machine) || 1);
        g.fillStyle = paint.fill(g, s.status);
        g.fillRect(x0, tops[s.row] + s.lane * laneHeight, Math.max(x1 - x0 - 0.5, 1), Math.max(laneHeight - 1, 1));
      }
    } else {
      decoded.current.rows.forEach((shares, i) => {
        const h = heights[i] - (heights[i] > 6 ? 3 : 0), bottom = tops[i] + h;
        for (const outcome of outcomes) if (shares[outcome]) g[outcome] = paint.fill(g, outcome);
        for (let c = 0; c < columns; c++) {
          let up = 0;
          for (const outcome of outcomes) {
            const share = shares[outcome]?.[c];
            if (!share) continue;
            g.fillStyle = g[outcome];
            const part = Math.max((share / 15) * h, outcome === "failed" || outcome === "lost" ? Math.min(8, h) : 1);
            const tall = Math.min(part, h - up);
            if (tall <= 0) break;
            g.fillRect(labels + c, bottom - up - tall, 1, tall);
            up += tall;
          }
        }
      });
    }
    if (drag) {
      g.fillStyle = dark ? "#ffffff33" : "#00000022";
      g.fillRect(Math.min(drag.x0, drag.x1), 0, Math.abs(drag.x1 - drag.x0), height - 22);
    }
    if (cursor) {
      g.strokeStyle = paint.ink;
      g.lineWidth = 1;
      g.beginPath();
      g.moveTo(cursor.x + 0.5, 0);
      g.lineTo(cursor.x + 0.5, height - 22);
      g.stroke();
      if (cursor.row >= 0) g.strokeRect(labels + 0.5, tops[cursor.row] - 0.5, columns - 1, heights[cursor.row]);
    }
  }, [data, cursor, drag, labels]);

  const place = (px, row) => {
    px = Math.min(Math.max(px, labels), labels + columns - 1);
    row = Math.min(Math.max(row, 0), rows.length - 1);
    const ms = t0 + ((px - labels) / columns) * (t1 - t0);
    const near = spans?.list.filter((s) => s.row === row && s.start <= ms + (t1 - t0) / columns * 2 && s.end >= ms - (t1 - t0) / columns * 2) || [];
    setCursor({ x: Math.round(px), row, ms, near });
    return near;
  };
  const rowAt = (y) => { let i = tops.findIndex((t) => t > y) - 1; return i < 0 ? rows.length - 1 : i; };
  const point = (e) => { const box = canvas.current.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; };
  const onDown = (e) => { if (!zoom || e.button) return; const [px] = point(e); setDrag({ x0: px, x1: px }); canvas.current.setPointerCapture?.(e.pointerId); };
  const onMove = (e) => { const [px, py] = point(e); place(px, rowAt(py)); if (drag) setDrag({ ...drag, x1: px }); };
  const timeAt = (px) => t0 + ((Math.min(Math.max(px, labels), labels + columns) - labels) / columns) * (t1 - t0);
  const onUp = (e) => {
    const [px, py] = point(e);
    const wide = drag && Math.abs(drag.x1 - drag.x0) > 6;
    const range = drag && [timeAt(Math.min(drag.x0, drag.x1)), timeAt(Math.max(drag.x0, drag.x1))];
    setDrag(null);
    if (wide) return zoom(range[0], Math.max(range[1], range[0] + 1000));
    const lane = spans && place(px, rowAt(py)).find((s) => { const h = (heights[s.row] - 4) / (spans.lanes.get(rows[s.row].machine) || 1); return py >= tops[s.row] + s.lane * h && py < tops[s.row] + (s.lane + 1) * h; });
    if (lane) go(`/jobs/${lane.jid}?attempt=${lane.attempt}`);
    else if (px < labels && rows[rowAt(py)]) go(`/machines/${encodeURIComponent(rows[rowAt(py)].machine)}`);
  };
  const zoomBy = (factor) => {
    const middle = cursor ? cursor.ms : (t0 + t1) / 2, half = ((t1 - t0) * factor) / 2;
    zoom(middle - half, Math.min(middle + half, serverNow()));
    return true;
  };
  const pan = (share) => { const by = (t1 - t0) * share; zoom(t0 + by, t1 + by); return true; };
  const onKey = (e) => {
    const c = cursor || { x: labels + columns - 1, row: 0 };
    const moves = { ArrowLeft: [-Math.ceil(columns / 60), 0], ArrowRight: [Math.ceil(columns / 60), 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    if (moves) { e.preventDefault(); e.stopPropagation(); place(c.x + moves[0], c.row + moves[1]); }
    else if (zoom && e.key === "PageUp") { e.preventDefault(); pan(-0.5); } else if (zoom && e.key === "PageDown") { e.preventDefault(); pan(0.5); }
    else if (e.key === "Enter" && cursor) { e.preventDefault(); go(cursor.near?.[0] ? `/jobs/${cursor.near[0].jid}?attempt=${cursor.near[0].attempt}` : `/machines/${encodeURIComponent(rows[cursor.row].machine)}`); }
  };
  useKeys(compact || !zoom ? {} : { "+": () => zoomBy(0.5), "-": () => zoomBy(2), "#": () => { setAsTable(!asTable); return true; } });
  if (error) return html`<div ref=${frame}><${Trouble} error=${error} again=${again} /></div>`;
  return html`<div ref=${frame} class="timeline">
    ${!ready ? html`<p class="empty">${data ? `Reading the history: ${Math.round(100 * data.ready)} %` : "Loading…"}</p>` : !rows.length ? html`<p class="empty">No machine, and nothing has run.</p>` : null}
    ${ready && asTable ? html`<${AsTable} data=${data} rows=${rows} shares=${decoded.current.rows} columns=${data.columns} />` : null}
    <canvas ref=${canvas} class=${ready && rows.length && !asTable ? "" : "hidden"} tabindex="0" role="img" aria-label=${`${plural(rows.length, "machine")} against time, ${ready ? `${count(data.total)} attempts` : ""}; arrow keys move${zoom ? ", plus and minus zoom, # shows a table" : ""}`}
      onPointerDown=${onDown} onPointerMove=${onMove} onPointerUp=${onUp} onPointerLeave=${() => { if (!drag) setCursor(null); }} onKeyDown=${onKey}></canvas>
    ${ready && rows.length ? html`<p class="said" aria-live="polite">${cursor && rows[cursor.row] ? said(data, rows, decoded.current.rows, cursor, labels, spans) : html`<span class="hint">${plural(data.total, "attempt")}${rows.length < busiest.length ? `; ${rows.length} of ${busiest.length} machines` : ""}</span>`}</p>` : null}
    ${!compact && ready ? html`<div class="under"><p class="legend">${outcomes.map((o) => html`<span key=${o}><i class="swatch fill-${o}" aria-hidden="true"></i>${o}</span>`)}<span><i class="swatch idle" aria-hidden="true"></i>idle</span>${data.absent.length ? html`<span><i class="swatch away" aria-hidden="true"></i>away</span>` : null}</p>
      <span class="actions">${zoom ? html`<button onClick=${() => pan(-0.5)} aria-label="Earlier">◀</button><button onClick=${() => zoomBy(0.5)}>Zoom in</button><button onClick=${() => zoomBy(2)}>Zoom out</button><button onClick=${() => pan(0.5)} aria-label="Later">▶</button>` : null}
        <button onClick=${() => setAsTable(!asTable)} aria-pressed=${asTable}>${asTable ? "As a picture" : "As a table"}</button></span>
      ${data.since > data.from ? html`<p class="hint">When machines were away is known since ${clock(data.since, 86400e3)} only.</p>` : null}</div>` : null}</div>`;
}

function shortened(g, text, width) {
  if (g.measureText(text).width <= width) return text;
  let cut = text;
  while (cut.length > 2 && g.measureText(`${cut}…`).width > width) cut = cut.slice(0, -1);
  return `${cut}…`;
}

function axis(g, paint, t0, t1, x, height, columns) {
  const span = t1 - t0, step = steps.find((s) => (span / s) * 75 <= columns) || steps[steps.length - 1];
  const zone = new Date(t0).getTimezoneOffset() * 60e3;
  g.textBaseline = "alphabetic";
  g.textAlign = "center";
  for (let t = Math.ceil((t0 - zone) / step) * step + zone; t <= t1; t += step) {
    g.fillStyle = paint.line;
    g.fillRect(Math.round(x(t)), 0, 1, height - 20);
    g.fillStyle = paint.waiting;
    const text = clock(t, span), half = g.measureText(text).width / 2;
    if (x(t) + half < x(t1) + 14 && x(t) - half > x(t0) - 14) g.fillText(text, x(t), height - 6);
  }
  g.textAlign = "left";
}

// lanes puts attempts that run at the same time on a machine below each other.
function lanes(data, rows) {
  // Times are known to 10 ms, and what overlaps by less than a pixel doesn't.
  const near = Math.max(20, (data.to - data.from) / data.columns);
  const at = new Map(rows.map((r, i) => [r.machine, i])), ends = new Map(), most = new Map(), list = [];
  for (const [m, jid, attempt, start, end, status] of data.spans) {
    const machine = data.machines[m], row = at.get(machine);
    if (row === undefined) continue;
    const free = ends.get(machine) || [];
    let lane = free.findIndex((e) => e <= start + near);
    if (lane < 0) lane = free.length;
    free[lane] = end;
    ends.set(machine, free);
    most.set(machine, Math.max(most.get(machine) || 1, lane + 1));
    list.push({ row, lane, jid, attempt, start, end, status });
  }
  return { list, lanes: most };
}

function said(data, rows, shares, cursor, labels, spans) {
  const name = rows[cursor.row].machine, when = clock(cursor.ms, Math.min(data.to - data.from, 5 * 60e3));
  if (spans) {
    if (!cursor.near.length) return `${name}, ${when}: idle`;
    return `${name}, ${when}: ${cursor.near.slice(0, 4).map((s) => `job ${s.jid} ${s.status} ${duration((s.end - s.start) / 1000)}`).join("; ")}${cursor.near.length > 4 ? "; …" : ""}`;
  }
  const c = Math.min(Math.max(cursor.x - labels, 0), data.columns - 1);
  const parts = outcomes.filter((o) => shares[cursor.row]?.[o]?.[c]).map((o) => `${o} ${Math.round((100 * shares[cursor.row][o][c]) / 15)} %`);
  return `${name}, ${when}: ${parts.join(", ") || "idle"}`;
}

// AsTable has the same numbers, in at most 24 columns of time.
function AsTable({ data, rows, shares, columns }) {
  const parts = Math.min(24, columns), per = columns / parts;
  const cell = (i, k) => {
    const said_ = [];
    for (const o of [...outcomes].reverse()) {
      const list = shares[i]?.[o];
      if (!list) continue;
      let sum = 0;
      for (let c = Math.floor(k * per); c < Math.floor((k + 1) * per); c++) sum += list[c];
      if (sum) said_.push(`${o} ${Math.max(1, Math.round((100 * sum) / 15 / per))} %`);
    }
    return said_.join(", ");
  };
  return html`<div class="scroll" tabindex="0" aria-label="Timeline as a table"><table><thead><tr><th>Machine</th>${Array.from({ length: parts }, (_, k) => html`<th key=${k}>${clock(data.from + ((data.to - data.from) * k) / parts, data.to - data.from)}</th>`)}</tr></thead>
    <tbody>${rows.map((r, i) => html`<tr key=${r.machine}><th scope="row">${r.machine}</th>${Array.from({ length: parts }, (_, k) => html`<td key=${k} class="small">${cell(i, k)}</td>`)}</tr>`)}</tbody></table></div>`;
}
