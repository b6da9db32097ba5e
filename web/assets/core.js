// What all views need: the token, requests, the one stream of a browser, and the address.
import { useState, useEffect, useRef, useCallback } from "/vendor/htm-preact-3.1.1.js";

// --- the token -------------------------------------------------------------------------------
// It comes in the fragment, which is sent to nobody. It is kept for this tab and this port, and taken
// out of the address. A new tab asks its siblings.

const tabs = "BroadcastChannel" in window ? new BroadcastChannel("jobserver") : null;
let token = "";

function remember(found) {
  token = found;
  try { sessionStorage.setItem("token", found); } catch { /* a browser may forbid it: then it lasts as long as the tab */ }
}

export async function findToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  if (fragment.get("token")) {
    remember(fragment.get("token"));
    history.replaceState(null, "", location.pathname + location.search);
    return true;
  }
  try { token = sessionStorage.getItem("token") || ""; } catch { token = ""; }
  if (token || !tabs) return token !== "";
  return new Promise((done) => {
    const timer = setTimeout(() => done(false), 400);
    tabs.addEventListener("message", function answered({ data }) {
      if (data.kind !== "token") return;
      clearTimeout(timer);
      tabs.removeEventListener("message", answered);
      remember(data.token);
      done(true);
    });
    tabs.postMessage({ kind: "who has the token?" });
  });
}

tabs?.addEventListener("message", ({ data }) => {
  if (data.kind === "who has the token?" && token) tabs.postMessage({ kind: "token", token });
});

// --- requests --------------------------------------------------------------------------------

export class Failure extends Error {
  constructor(status, { error, hint, kind }) {
    super(error);
    Object.assign(this, { status, hint, kind });
  }
}

export async function request(path, options = {}) {
  const headers = { Authorization: `Bearer ${token}`, ...options.headers };
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit" });
  } catch (err) {
    if (err.name === "AbortError") throw err;
    throw new Failure(0, { error: "jobserver web doesn't answer", hint: "start it again: jobserver web", kind: "unavailable" });
  }
  if (response.ok) return response;
  let told = { error: `${response.status} ${response.statusText}` };
  try { told = await response.json(); } catch { /* not ours */ }
  if (response.status === 401) lockedOut();
  throw new Failure(response.status, told);
}

export const getJSON = async (path, options) => (await request(path, options)).json();

export async function post(path, body) {
  return (await request(path, {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
  })).json();
}

export function requestID() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

let onLocked = () => {};
function lockedOut() {
  token = "";
  try { sessionStorage.removeItem("token"); } catch { /* it wasn't there */ }
  onLocked();
}
export const whenLocked = (f) => { onLocked = f; };

// --- the state and what changes ----------------------------------------------------------------
// One tab of a browser reads the stream and tells the others: a browser has six connections to a host.

let state = null;
const listeners = new Set();

function tell(message) {
  state = { ...message.state, reached: true, skew: Date.parse(message.state.now) - Date.now() };
  for (const listener of [...listeners]) listener(state, message.changed);
}

function lost(error) {
  if (state && !state.reached && state.error === error) return;
  state = { ...(state || { status: null, rate: { recent: [] } }), online: false, reached: false, error };
  for (const listener of [...listeners]) listener(state, {});
}

tabs?.addEventListener("message", ({ data }) => {
  if (data.kind === "live") tell(data.message);
  if (data.kind === "lost") lost(data.error);
});

async function readStream(share) {
  let version = 0;
  for (let pause = 250; token; pause = Math.min(2 * pause, 4000)) {
    try {
      const response = await request(`/api/live?v=${version}`);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ""; ;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const messages = text.split("\n\n");
        text = messages.pop();
        for (const message of messages) {
          if (!message.startsWith("data: ")) continue;
          const parsed = JSON.parse(message.slice(6));
          version = parsed.state.version;
          pause = 250;
          tell(parsed);
          share({ kind: "live", message: parsed });
        }
      }
      throw new Failure(0, { error: "the stream ended" });
    } catch (err) {
      if (err.status === 401) return;
      const error = "jobserver web doesn't answer";
      lost(error);
      share({ kind: "lost", error });
    }
    version = 0;
    await new Promise((done) => setTimeout(done, pause));
  }
}

export async function follow() {
  const share = (message) => tabs?.postMessage(message);
  try {
    tell({ state: await getJSON("/api/state"), changed: { gap: true } });
  } catch (err) {
    if (err.status === 401) return;
    lost(err.message);
  }
  if (tabs && navigator.locks) {
    navigator.locks.request("jobserver stream", () => readStream(share));
  } else {
    readStream(() => {});
  }
}

export function useLive() {
  const [now, set] = useState(state);
  useEffect(() => {
    const listener = (next) => set(next);
    listeners.add(listener);
    if (state !== now) set(state);
    return () => listeners.delete(listener);
  }, []);
  return now;
}

// serverNow is the time by the clock of the computer that serves the page, as times of jobs are.
export const serverNow = () => Date.now() + (state?.skew || 0);

// useData fetches what a view shows, and again when something has changed that concerns it, at most
// once in pause ms, and not while nobody sees the page. Meanwhile what was there stays.
export function useData(path, concerns = () => true, { pause = 700, every = 0, fetcher = getJSON } = {}) {
  const [result, set] = useState({ data: null, error: null, path: null });
  const again = useRef(() => {});
  useEffect(() => {
    if (!path) return;
    let ended = false, running = false, wanted = false, timer = 0, last = 0;
    const abort = new AbortController();
    const fetchNow = async () => {
      running = true; wanted = false; last = Date.now();
      try {
        const data = await fetcher(path, { signal: abort.signal });
        if (!ended) set({ data, error: null, path });
      } catch (error) {
        if (!ended && error.name !== "AbortError") set((old) => ({ ...old, data: old.path === path ? old.data : null, error, path }));
        if (error.status === 0) { wanted = true; last += 1000; } // nobody answered: the network may have changed
      }
      running = false;
      if (wanted) plan();
    };
    const plan = () => {
      wanted = true;
      if (ended || running || timer || document.hidden) return;
      timer = setTimeout(() => { timer = 0; fetchNow(); }, Math.max(0, last + pause - Date.now()));
    };
    const listener = (now, changed) => {
      if (now.online && (changed.gap || concerns(changed))) plan();
    };
    const seen = () => { if (!document.hidden && wanted) plan(); };
    const ticking = every ? setInterval(() => { if (state?.online) plan(); }, every) : 0;
    listeners.add(listener);
    document.addEventListener("visibilitychange", seen);
    again.current = plan;
    fetchNow();
    return () => {
      ended = true;
      abort.abort();
      clearTimeout(timer);
      clearInterval(ticking);
      listeners.delete(listener);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [path]);
  const fresh = result.path === path;
  return { data: result.data, error: fresh ? result.error : null, stale: !fresh, again: () => again.current() };
}

// useTick draws again every so often, while that is wanted: times go on without asking the daemon.
export function useTick(ms, wanted) {
  const [, set] = useState(0);
  useEffect(() => {
    if (!wanted) return;
    const timer = setInterval(() => { if (!document.hidden) set((n) => n + 1); }, ms);
    return () => clearInterval(timer);
  }, [ms, wanted]);
}

// What changes concern.
export const anyJob = (c) => c.events > 0 || c.all_machines; // how a machine is, is said of its jobs
export const jobIn = (id) => (c) => c.jobs ? c.jobs.includes(id) : c.first <= id && id <= c.last;
export const matrixIn = (id) => (c) => c.all_matrices || (c.matrices || []).includes(id);
export const anyMatrix = (c) => c.all_matrices || (c.matrices || []).length > 0;
export const anyMachine = (c) => c.all_machines || (c.machines || []).length > 0;

// --- the address -----------------------------------------------------------------------------

const movers = new Set();

export function go(to, { replace = false } = {}) {
  if (to === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  for (const mover of [...movers]) mover(!replace);
}
addEventListener("popstate", () => { for (const mover of [...movers]) mover(false); });

export function useAddress(onMove) {
  const read = () => ({ path: location.pathname, query: new URLSearchParams(location.search) });
  const [address, set] = useState(read);
  useEffect(() => {
    const mover = (fresh) => { set(read()); onMove?.(fresh); };
    movers.add(mover);
    return () => movers.delete(mover);
  }, []);
  return address;
}

// withQuery is the present address with other parameters; null takes one away.
export function withQuery(changes, path = location.pathname) {
  const query = new URLSearchParams(path === location.pathname ? location.search : "");
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name); else query.set(name, value);
  }
  const text = query.toString().replaceAll("%3A", ":").replaceAll("%2C", ",").replaceAll("%40", "@");
  return path + (text ? `?${text}` : "");
}

// follows makes links move within the page, unless the user wants another tab.
export function follows(event) {
  const link = event.target.closest?.("a[href]");
  if (!link || link.origin !== location.origin || link.target || link.download || event.defaultPrevented ||
      event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link.pathname + link.search);
}

// --- keys --------------------------------------------------------------------------------------

const keyed = [];
addEventListener("keydown", (event) => {
  const at = event.target;
  const typing = at.matches?.("input:not([type=checkbox]):not([type=range]), textarea, select");
  if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing) {
    if (event.key === "Escape") at.blur();
    return;
  }
  for (const keys of [...keyed].reverse()) {
    if (keys.current[event.key]?.(event) !== undefined) {
      event.preventDefault();
      return;
    }
  }
});

// useKeys binds keys while a view is there; the newest view comes first. A function that gives
// undefined has not used its key.
export function useKeys(keys) {
  const current = useRef(keys);
  current.current = keys;
  useEffect(() => {
    keyed.push(current);
    return () => { keyed.splice(keyed.indexOf(current), 1); };
  }, []);
}

export { useState, useEffect, useRef, useCallback };
