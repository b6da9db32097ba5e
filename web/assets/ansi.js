// A log's bytes become lines of styled text: UTF-8, colours and weights (ECMA-48 SGR), and what
// progress bars do with \r and backspace. Everything else that controls a terminal is left out:
// a log can't move anything, open links or write to the clipboard.

const maxLine = 8192; // characters; longer lines go on in the next one
const maxParameters = 1024; // characters of a sequence; one that has more does nothing

// What isn't seen, or turns the direction of writing; joiners are parts of characters.
const unseen = /[^\p{L}\p{M}\p{N}\p{P}\p{S}\p{Zs}\u200c\u200d]/u;

export class Ansi {
  constructor() {
    this.decoder = new TextDecoder("utf-8", { fatal: false });
    this.style = ""; // classes
    this.look = { fg: "", bg: "", on: new Set() };
    this.within = ""; // what has begun: "escape", "sequence", "string", "set"; it may go on in the next piece
    this.parameters = ""; // of a sequence
    this.line = []; // cells of the line that isn't complete: [character, classes]
    this.column = 0;
    this.lines = []; // complete ones
  }

  // write takes bytes. lines are then the complete lines, and current() the one that is being written.
  // Each character is looked at once, whatever came before it.
  write(bytes) {
    const text = this.decoder.decode(bytes, { stream: true });
    for (let i = 0; i < text.length; i++) {
      let c = text.charCodeAt(i), char = text[i];
      if (c >= 0xd800 && c < 0xdc00 && i + 1 < text.length) {
        char += text[++i];
        c = char.codePointAt(0);
      }
      if (this.within && this.control(char, c)) continue;
      if (c >= 32 && c < 127) this.put(char);
      else if (c === 27) this.within = "escape";
      else if (c === 10) this.newline();
      else if (c === 13) this.column = 0;
      else if (c === 8) this.column = Math.max(this.column - 1, 0);
      else if (c === 9) { do this.put(" "); while (this.column % 8); }
      else if (c >= 0xa0) this.put(unseen.test(char) && c !== 0xfffd ? `<${c.toString(16).padStart(4, "0").toUpperCase()}>` : char);
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

  // control takes a character of what has begun, and says whether it belongs to it (ECMA-48, 5.3 to 5.6).
  control(char, c) {
    const within = this.within;
    if (within === "sequence" && c >= 0x20 && c < 0x40) {
      if (this.parameters.length < maxParameters) this.parameters += char;
      return true;
    }
    if (within === "string" && c !== 7 && c !== 10 && c !== 27) return true;
    this.within = "";
    if (within === "string") return c === 7; // ESC \ is read as what it is otherwise
    if (c < 0x20 || c > 0x7e) return false; // broken off
    if (within === "sequence") {
      if (this.parameters.length < maxParameters) {
        if (char === "m") this.sgr(this.parameters);
        else if (char === "K") this.erase(this.parameters);
      }
    } else if (within === "escape") {
      this.parameters = "";
      if (char === "[") this.within = "sequence";
      else if ("]PX^_".includes(char)) this.within = "string";
      else if ("()*+#%".includes(char)) this.within = "set";
    }
    return true;
  }

  erase(parameters) {
    if (parameters === "" || parameters === "0") this.line.length = Math.min(this.line.length, this.column);
    if (parameters === "2") this.line = [];
  }

  // sgr sets how what follows looks. Parameters may have parts of their own, between colons (ISO 8613-6).
  sgr(parameters) {
    if (!/^[\d;:]*$/.test(parameters)) return; // it begins like one, and means something else
    const p = parameters.split(";").map((text) => text.split(":").map(Number));
    const { on } = this.look;
    for (let i = 0; i < p.length; i++) {
      const [n, ...parts] = p[i];
      if (n === 0) { this.look.fg = this.look.bg = ""; on.clear(); }
      else if (n === 1) on.add("b");
      else if (n === 2) on.add("dim");
      else if (n === 3) on.add("it");
      else if (n === 4 && parts[0] === 0) on.delete("u");
      else if (n === 4 || n === 21) on.add("u");
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
      else if (n === 38 || n === 48 || n === 58) {
        // 256 and 16 million colours become the nearest of sixteen, which are readable on both grounds.
        let colour = parts;
        if (parts.length > 4) colour = [parts[0], ...parts.slice(2)]; // without the space of colours
        if (!parts.length) { // its parts are the next parameters
          const many = p[i + 1]?.[0] === 5 ? 2 : p[i + 1]?.[0] === 2 ? 4 : 0;
          colour = p.slice(i + 1, i + 1 + many).map(([part]) => part);
          i += many;
        }
        const near = colour[0] === 5 ? of256(colour[1]) : colour[0] === 2 ? nearest(...colour.slice(1, 4)) : -1;
        if (near >= 0 && n !== 58) this.look[n === 38 ? "fg" : "bg"] = `${n === 38 ? "f" : "g"}${near}`;
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
