// A log's bytes become lines of styled text: UTF-8, colours and weights (ECMA-48 SGR), and what
// progress bars do with \r and backspace. Everything else that controls a terminal is left out:
// a log can't move anything, open links or write to the clipboard.

const maxLine = 8192; // characters; longer lines go on in the next one

export class Ansi {
  constructor() {
    this.decoder = new TextDecoder("utf-8", { fatal: false });
    this.style = ""; // classes
    this.look = { fg: "", bg: "", on: new Set() };
    this.rest = ""; // of an escape sequence that isn't complete
    this.line = []; // cells of the line that isn't complete: [character, classes]
    this.column = 0;
    this.lines = []; // complete ones
  }

  // write takes bytes. lines are then the complete lines, and current() the one that is being written.
  write(bytes) {
    const text = this.rest + this.decoder.decode(bytes, { stream: true });
    this.rest = "";
    for (let i = 0; i < text.length; i++) {
      const c = text.charCodeAt(i);
      if (c === 27) {
        const end = this.escape(text, i);
        if (end < 0) {
          // It goes on in the next piece; one that never ends is given up.
          if (text.length - i < 4096) { this.rest = text.slice(i); return; }
          continue;
        }
        i = end;
      } else if (c === 10) this.newline();
      else if (c === 13) this.column = 0;
      else if (c === 8) this.column = Math.max(this.column - 1, 0);
      else if (c === 9) { do this.put(" "); while (this.column % 8); }
      else if (c >= 32 && c !== 127 && !(c >= 0x80 && c < 0xa0)) {
        let char = text[i];
        if (c >= 0xd800 && c < 0xdc00 && i + 1 < text.length) char += text[++i];
        this.put(char);
      }
    }
  }

  put(char) {
    if (this.column >= maxLine) this.newline();
    this.line[this.column++] = [char, this.style];
  }

  newline() {
    this.lines.push(spans(this.line));
    this.line = [];
    this.column = 0;
  }

  current() { return spans(this.line); }

  // escape reads a sequence that begins at i, and gives where it ends, or -1 when it isn't complete.
  escape(text, i) {
    const kind = text[i + 1];
    if (kind === undefined) return -1;
    if (kind === "[") {
      for (let end = i + 2; end < text.length; end++) {
        const c = text.charCodeAt(end);
        if (c >= 0x40 && c <= 0x7e) {
          const parameters = text.slice(i + 2, end);
          if (text[end] === "m") this.sgr(parameters);
          else if (text[end] === "K") this.erase(parameters);
          return end;
        }
        if (c < 0x20 || c > 0x7e) return end - 1; // broken off
      }
      return -1;
    }
    if ("]PX^_".includes(kind)) { // strings: to BEL or ST
      for (let end = i + 2; end < text.length; end++) {
        if (text[end] === "\x07") return end;
        if (text[end] === "\x1b") {
          if (end + 1 === text.length) return -1;
          return text[end + 1] === "\\" ? end + 1 : end - 1;
        }
        if (text[end] === "\n") return end - 1;
      }
      return -1;
    }
    if ("()*+#%".includes(kind)) return text[i + 2] === undefined ? -1 : i + 2;
    return i + 1;
  }

  erase(parameters) {
    if (parameters === "" || parameters === "0") this.line.length = Math.min(this.line.length, this.column);
    if (parameters === "2") this.line = [];
  }

  sgr(parameters) {
    const p = parameters.split(/[;:]/).map((n) => (n === "" ? 0 : Number(n)));
    const { on } = this.look;
    for (let i = 0; i < p.length; i++) {
      const n = p[i];
      if (n === 0) { this.look.fg = this.look.bg = ""; on.clear(); }
      else if (n === 1) on.add("b");
      else if (n === 2) on.add("dim");
      else if (n === 3) on.add("it");
      else if (n === 4) on.add("u");
      else if (n === 7) on.add("inv");
      else if (n === 9) on.add("s");
      else if (n === 22) { on.delete("b"); on.delete("dim"); }
      else if (n === 23) on.delete("it");
      else if (n === 24) on.delete("u");
      else if (n === 27) on.delete("inv");
      else if (n === 29) on.delete("s");
      else if (n >= 30 && n <= 37) this.look.fg = `f${n - 30}`;
      else if (n >= 90 && n <= 97) this.look.fg = `f${n - 82}`;
      else if (n === 39) this.look.fg = "";
      else if (n >= 40 && n <= 47) this.look.bg = `g${n - 40}`;
      else if (n >= 100 && n <= 107) this.look.bg = `g${n - 92}`;
      else if (n === 49) this.look.bg = "";
      else if (n === 38 || n === 48) {
        // 256 and 16 million colours become the nearest of sixteen, which are readable on both grounds.
        let near = -1;
        if (p[i + 1] === 5) { near = of256(p[i + 2]); i += 2; }
        else if (p[i + 1] === 2) { near = nearest(p[i + 2], p[i + 3], p[i + 4]); i += 4; }
        if (near >= 0) this.look[n === 38 ? "fg" : "bg"] = `${n === 38 ? "f" : "g"}${near}`;
      }
    }
    this.style = [this.look.fg, this.look.bg, ...on].filter(Boolean).map((c) => `a-${c}`).join(" ");
  }
}

function of256(n) {
  if (!(n >= 0 && n <= 255)) return -1;
  if (n < 16) return n;
  if (n >= 232) { const v = 8 + 10 * (n - 232); return nearest(v, v, v); }
  const level = (k) => (k === 0 ? 0 : 55 + 40 * k);
  return nearest(level(Math.floor((n - 16) / 36)), level(Math.floor(((n - 16) % 36) / 6)), level((n - 16) % 6));
}

function nearest(r, g, b) {
  if (![r, g, b].every((v) => v >= 0 && v <= 255)) return -1;
  const most = Math.max(r, g, b), least = Math.min(r, g, b);
  if (most - least < 40) return most < 64 ? 0 : most < 140 ? 8 : most < 220 ? 7 : 15;
  const at = (v) => (v > (most + least) / 2 ? 1 : 0);
  return at(r) + 2 * at(g) + 4 * at(b) + (most > 200 ? 8 : 0);
}

// spans joins the cells of a line: [[text, classes], …].
function spans(cells) {
  const out = [];
  let text = "", style = "";
  for (let i = 0; i < cells.length; i++) {
    const [char, s] = cells[i] || [" ", ""];
    if (s !== style && text) { out.push([text, style]); text = ""; }
    style = s;
    text += char;
  }
  if (text) out.push([text, style]);
  return out;
}

export const lineText = (line) => line.map(([text]) => text).join("");
