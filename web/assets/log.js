// A log from its end: what is loaded is a part that grows upwards on demand and downwards while the
// job runs. Only the lines in sight are elements.
import { html } from "/vendor/htm-preact-3.1.1.js";
import { request, useEffect, useRef, useState, useKeys, withQuery } from "/core.js";
import { count, size, Trouble } from "/format.js";
import { Ansi, lineText } from "/ansi.js";

const tail = 256 << 10; // bytes that are fetched first, and at each step upwards
const most = 24 << 20; // that are kept
const lineHeight = 18;

// part is the loaded part of a log.
class Part {
  constructor() { this.pieces = []; this.from = 0; this.to = 0; this.size = 0; this.end = false; this.parse(); }

  parse() {
    this.ansi = new Ansi();
    for (const piece of this.pieces) this.ansi.write(piece);
  }

  append(bytes) { this.pieces.push(bytes); this.to += bytes.length; this.ansi.write(bytes); }

  prepend(bytes, from) { this.pieces.unshift(bytes); this.from = from; this.parse(); }

  lines() {
    const open = this.ansi.current();
    return open.length ? [...this.ansi.lines, open] : this.ansi.lines;
  }
}

export function Log({ job, attempt, stderr, step }) {
  const part = useRef(new Part());
  const box = useRef();
  const [, redraw] = useState(0);
  const [error, setError] = useState(null);
  const [following, setFollowing] = useState(true);
  const followingNow = useRef(true);
  followingNow.current = following;
  const [top, setTop] = useState(0);
  const [find, setFind] = useState("");
  const [at, setAt] = useState(-1); // the line found
  const [wrap, setWrap] = useState(false);
  const [loading, setLoading] = useState(true);
  const path = (query) => `/api/jobs/${job.jid}/log?attempt=${attempt}&step=${step}${stderr ? "&stderr=1" : ""}&${query}`;
  const draw = () => redraw((n) => n + 1);

  useEffect(() => {
    const abort = new AbortController();
    let frame = 0;
    const get = async (query) => {
      const response = await request(path(query), { signal: abort.signal });
      const number = (name) => Number(response.headers.get(name));
      return { bytes: new Uint8Array(await response.arrayBuffer()), offset: number("X-Offset"), size: number("X-Size"), end: response.headers.get("X-Eof") === "true" };
    };
    (async () => {
      const p = part.current;
      for (let pause = 500, first = true; ;) {
        try {
          const got = await get(first ? `tail=${tail}` : `offset=${p.to}&wait=20&max=${1 << 20}`);
          if (first) { p.from = p.to = got.offset; first = false; setLoading(false); }
          if (got.bytes.length) p.append(got.bytes);
          p.size = got.size;
          p.end = got.end;
          setError(null);
          pause = 500;
          cancelAnimationFrame(frame);
          frame = requestAnimationFrame(draw);
          if (got.end) return;
          if (p.to - p.from > most) { p.pieces.splice(0, p.pieces.length >> 1); p.from = p.to - p.pieces.reduce((n, b) => n + b.length, 0); p.parse(); }
        } catch (err) {
          if (err.name === "AbortError") return;
          setError(err);
          if (err.status && err.status !== 503) return;
          await new Promise((done) => setTimeout(done, pause = Math.min(2 * pause, 8000)));
        }
      }
    })();
    return () => { abort.abort(); cancelAnimationFrame(frame); };
  }, []);

  const lines = part.current.lines();
  useEffect(() => { // the end stays in sight, as long as nobody scrolls back
    if (followingNow.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  });

  const earlier = async () => {
    const p = part.current;
    const from = Math.max(p.from - tail, 0), before = p.lines().length;
    const response = await request(path(`offset=${from}&max=${p.from - from}`));
    p.prepend(new Uint8Array(await response.arrayBuffer()), from);
    draw();
    const more = p.lines().length - before;
    if (box.current && !wrap) box.current.scrollTop += more * lineHeight; // what was in sight stays there
    return more;
  };
  const [busy, setBusy] = useState(false);
  const loadEarlier = async () => { setBusy(true); setFollowing(false); try { await earlier(); } catch (err) { setError(err); } setBusy(false); };

  const onScroll = () => {
    const b = box.current;
    setTop(b.scrollTop);
    const atEnd = b.scrollTop + b.clientHeight >= b.scrollHeight - 4;
    if (atEnd !== followingNow.current) setFollowing(atEnd);
  };

  const search = async (event) => {
    event.preventDefault();
    const wanted = find.toLowerCase();
    if (!wanted) return;
    setBusy(true);
    let i = (at < 0 ? lines.length : at) - 1;
    for (;;) {
      const now = part.current.lines();
      for (; i >= 0 && !lineText(now[i]).toLowerCase().includes(wanted); i--);
      if (i >= 0 || part.current.from === 0 || part.current.to - part.current.from > most) break;
      try { i = (await earlier()) - 1; } catch (err) { setError(err); break; }
    }
    setBusy(false);
    setFollowing(false);
    setAt(i);
    if (i >= 0 && box.current) box.current.scrollTop = Math.max(0, i * lineHeight - box.current.clientHeight / 2);
  };
  // A line that the address names, as #L120, is counted from the log's beginning: all before it is loaded.
  const wanted = useRef(Number(/^#L(\d+)$/.exec(location.hash)?.[1] || 0));
  const reach = async (n) => {
    followingNow.current = false;
    setFollowing(false);
    setBusy(true);
    try { while (part.current.from > 0 && part.current.to - part.current.from <= most) await earlier(); } catch (err) { setError(err); }
    setBusy(false);
    if (part.current.from > 0) return;
    setAt(n - 1);
    draw();
    requestAnimationFrame(() => { if (box.current) box.current.scrollTop = Math.max(0, (n - 1) * lineHeight - box.current.clientHeight / 2); });
  };
  useEffect(() => {
    if (loading || !wanted.current) return;
    reach(wanted.current);
    wanted.current = 0;
  }, [loading]);
  const mark = (n) => (event) => {
    event.preventDefault();
    history.replaceState(null, "", `${location.pathname}${location.search}#L${n}`);
    setFollowing(false);
    setAt(n - 1);
  };
  useKeys({
    G: () => { setFollowing(true); box.current.scrollTop = box.current.scrollHeight; return true; },
    g: () => { setFollowing(false); box.current.scrollTop = 0; return true; },
  });

  const height = box.current?.clientHeight || 480;
  const first = wrap ? Math.max(0, lines.length - 2000) : Math.max(0, Math.floor(top / lineHeight) - 20);
  const last = wrap ? lines.length : Math.min(lines.length, Math.ceil((top + height) / lineHeight) + 20);
  const p = part.current;
  const name = stderr ? "stderr" : "stdout";
  return html`<section class="card log" aria-labelledby="log"><div class="loghead"><h2 id="log">Log</h2>
      <nav class="chips" aria-label="Streams"><a href=${withQuery({ stderr: null })} aria-current=${stderr ? null : "true"}>stdout</a><a href=${withQuery({ stderr: "1" })} aria-current=${stderr ? "true" : null}>stderr</a></nav>
      ${job.setup && (job.log_full || []).length > 1 ? html`<nav class="chips" aria-label="Steps">${job.log_full.map((_, i) => html`<a key=${i} href=${withQuery({ step: i })} aria-current=${i === step ? "true" : null}>step ${i + 1}</a>`)}</nav>` : null}
      <span class="hint">${loading ? "loading" : p.end ? `${size(p.size)}, complete` : following ? "following" : "scrolled back: G goes on"}</span>
      <form onSubmit=${search} class="find"><input type="search" aria-label="Find in the log, upwards" placeholder="find upwards" value=${find} onInput=${(e) => { setFind(e.target.value); setAt(-1); }} />
        <button disabled=${busy || !find}>${busy ? "…" : "Find"}</button>${find && at === -1 && !busy && top > 0 ? null : null}</form>
      <label class="check"><input type="checkbox" checked=${wrap} onChange=${(e) => setWrap(e.target.checked)} /> wrap</label></div>
    <${Trouble} error=${error} />
    ${p.from > 0 ? html`<p class="earlier"><button onClick=${loadEarlier} disabled=${busy}>Load earlier</button> <span class="hint">${size(p.from)} before this</span></p>` : null}
    <div class="lines ${wrap ? "wrap" : ""}" ref=${box} tabindex="0" role="log" aria-live="off" aria-label=${`${name} of attempt ${attempt}`} onScroll=${onScroll}>
      ${!loading && !lines.length ? html`<p class="empty">${p.end ? `Nothing was written to ${name}.` : `Nothing was written to ${name} yet.`}
        ${stderr ? null : html` <a href=${withQuery({ stderr: "1" })}>What went to stderr</a>`}</p>` : null}
      <div style=${wrap ? null : { height: `${lines.length * lineHeight}px` }}><div style=${wrap ? null : { transform: `translateY(${first * lineHeight}px)` }}>${
        lines.slice(first, last).map((line, i) => html`<div class=${first + i === at ? "line found" : "line"} key=${first + i}>${p.from === 0 ? html`<a class="number" tabindex="-1" href=${`#L${first + i + 1}`} onClick=${mark(first + i + 1)}>${first + i + 1}</a>` : null}${line.map(([text, style], k) => (style ? html`<span class=${style} key=${k}>${text}</span>` : text))}</div>`)}</div></div></div>
    ${wrap && first > 0 ? html`<p class="hint">The last ${count(2000)} lines are shown.</p>` : null}</section>`;
}
