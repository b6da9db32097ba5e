// The page: a frame that is always there, and the view that the address names.
import { html, render } from "/vendor/htm-preact-3.1.1.js";
import {
  findToken, follow, follows, go, useAddress, useKeys, useLive, whenLocked, withQuery, useEffect, useRef, useState,
} from "/core.js";
import { count, Ticks } from "/format.js";
import { Actions } from "/actions.js";
import { Pool } from "/pool.js";
import { Jobs } from "/jobs.js";
import { Job } from "/job.js";
import { Machines, Machine } from "/machines.js";
import { Matrices, Matrix } from "/matrices.js";
import { Timeline } from "/timeline.js";
import { Events } from "/events.js";
import { Help } from "/help.js";

const views = [
  ["/", "Pool"], ["/jobs", "Jobs", "Job"], ["/matrices", "Matrices", "Matrix"], ["/timeline", "Timeline"],
  ["/machines", "Machines", "Machine"], ["/events", "Events"],
];

function View({ path, query, live }) {
  const [, kind, id, part] = path.split("/").map(decodeURIComponent);
  switch (kind) {
    case "": return html`<${Pool} live=${live} />`;
    case "jobs": return id
      ? html`<${Job} key=${id} id=${Number(id)} query=${query} live=${live} />`
      : html`<${Jobs} query=${query} live=${live} />`;
    case "matrices": return id
      ? html`<${Matrix} key=${id} id=${id} part=${part || "heat"} query=${query} live=${live} />`
      : html`<${Matrices} live=${live} />`;
    case "machines": return id
      ? html`<${Machine} key=${id} addr=${id} live=${live} />`
      : html`<${Machines} query=${query} live=${live} />`;
    case "timeline": return html`<${Timeline} query=${query} live=${live} />`;
    case "events": return html`<${Events} />`;
  }
  return html`<h1>There is no such page</h1><p><a href="/">To the pool</a></p>`;
}

function Connection({ live }) {
  if (!live) return html`<span class="conn conn-wait">connecting</span>`;
  if (live.online && live.reached) return html`<span class="conn conn-on"><i class="dot"></i>live</span>`;
  return html`<span class="conn conn-off"><i class="dot"></i>reconnecting</span>`;
}

function Counts({ live }) {
  const jobs = live?.status?.jobs;
  if (!jobs) return null;
  const item = (status, always) => (jobs[status] || always) && html`<a href=${`/jobs?sel=:${status}`} class="tally st-${status}">
    <b>${count(jobs[status])}</b> ${status}</a>`;
  return html`<nav class="tallies" aria-label="Jobs by status">${item("running", true)}${item("waiting", true)}${item("held")}
    ${item("done", true)}${item("failed")}${item("lost")}${item("canceled")}</nav>`;
}

// SelectorBox takes what the command line takes. It is the same on all pages.
function SelectorBox({ query, path, box }) {
  const shown = path === "/jobs" ? query.getAll("sel").join(" ") : "";
  const [text, set] = useState(shown);
  useEffect(() => set(shown), [shown]);
  const submit = (event) => {
    event.preventDefault();
    const words = text.trim();
    const view = views.find(([, name]) => name.toLowerCase() === words.toLowerCase()); // no selector is called so
    if (/^\d+$/.test(words)) go(`/jobs/${words}`); else if (view) go(view[0]); else go(withQuery({ sel: words }, "/jobs"));
    set(shown);
    box.current.blur();
  };
  return html`<form class="selector" role="search" onSubmit=${submit}>
    <input ref=${box} type="search" name="sel" aria-label="Selector of jobs" placeholder=":failed  %sweep  class=gpu  17" autocomplete="off"
      autocapitalize="off" spellcheck=${false} value=${text} onInput=${(e) => set(e.target.value)} /></form>`;
}

function App() {
  const live = useLive();
  const main = useRef(), box = useRef();
  const { path, query } = useAddress((fresh) => {
    if (!fresh) return;
    scrollTo(0, 0);
    main.current?.focus({ preventScroll: true }); // whoever listens hears the new page's title
  });
  const [help, setHelp] = useState(false);
  const [locked, setLocked] = useState(false);
  whenLocked(() => setLocked(true));
  const here = "/" + path.split("/")[1];
  useEffect(() => {
    const [, many, one] = views.find(([to]) => to === here) || ["", "jobserver"];
    const id = path.split("/")[2];
    const view = here === "/" ? "jobserver" : id ? `${one} ${decodeURIComponent(id)}` : many;
    document.title = view + (live?.name ? ` · ${live.name}` : "");
  }, [path, live?.name]);
  useEffect(() => { // on a phone the views are wider than the window
    document.querySelector(".views a[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [here]);
  const selectBox = () => {
    addEventListener("keyup", () => box.current.select(), { once: true });
    return true;
  };
  useKeys({
    "?": () => setHelp(true),
    // When the key is up again: what was pressed isn't typed into it.
    "/": () => selectBox(),
    ":": () => selectBox(),
    Escape: () => { history.back(); return true; },
    ...Object.fromEntries(views.map(([to], i) => [String(i + 1), () => go(to) ?? true])),
  });
  if (locked) return html`<${Locked} />`;
  return html`
    <a class="skip" href="#main" onClick=${(e) => { e.preventDefault(); main.current.focus(); }}>To the content</a>
    <header class="top" onClick=${follows}>
      <a class="brand" href="/"><img src="/icon.svg" alt="" width="22" height="22" /> jobserver</a>
      <span class="host">${live?.name}</span>
      <${Connection} live=${live} />
      <${Counts} live=${live} />
      <${SelectorBox} query=${query} path=${path} box=${box} />
      <nav class="views" aria-label="Views">${views.map(([to, name]) => html`
        <a href=${to} key=${to} aria-current=${here === to ? "page" : null}>${name}</a>`)}
        <button class="quiet" onClick=${() => setHelp(true)} aria-label="Keys and help">?</button></nav>
    </header>
    ${live && !(live.online && live.reached) ? html`<div class="offline" role="status"><b>Reconnecting.</b> ${live.error}
      ${live.hint ? html` <span class="hint"><${Ticks} text=${live.hint} /></span>` : null} What is shown was the state before.</div>` : null}
    ${live?.status?.disk_full ? html`<div class="offline" role="status"><b>The disk of the daemon's host is nearly full.</b> New work is refused.</div>` : null}
    <main id="main" ref=${main} tabindex="-1" onClick=${follows}><${View} path=${path} query=${query} live=${live} /></main>
    <${Actions} live=${live} />
    ${help ? html`<${Help} close=${() => setHelp(false)} live=${live} />` : null}
    <footer><span>${live?.status?.version ? `daemon ${live.status.version}` : ""}</span><span>${live?.read_only ? "read-only" : ""}</span></footer>`;
}

function Locked() {
  return html`<main class="locked"><h1>This page doesn't know the token</h1>
    <p>The address that <code>jobserver web</code> has printed has it; a new one is made at each start.</p>
    <p>Copy that address again, or start <code>jobserver web --open</code>.</p></main>`;
}

const root = document.getElementById("app");
findToken().then((found) => {
  root.replaceChildren();
  if (!found) return render(html`<${Locked} />`, root);
  render(html`<${App} />`, root);
  follow();
});
