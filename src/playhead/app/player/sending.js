// A file -> the server, as tus 1.0.0 has it, until it is stored there or cannot be.
// What the server has said is on its disk counts as sent. When the connection or the server is lost, this asks how far
// the upload is, and goes on from there; so does the same file when it is chosen again after the page was left.

const LEAST = 256 * 1024; // bytes of a piece, at first and at least
const MOST = 16 * 1024 * 1024;
const PACE = 1000; // ms that a piece is to take: so often there is progress to tell
const STALL = 30_000; // ms without any after which a connection is taken for lost
const LONGEST = 15_000; // ms between attempts
const KEPT = 24 * 3600 * 1000; // ms for which the server keeps what nobody goes on with
const LATER = [423, 429, 460, 502, 503, 504];
const TUS = { "Tus-Resumable": "1.0.0" };
const REMEMBERED = "playhead upload ";

export class Away extends Error {} // the server cannot be reached, or asks to come later
export class Refused extends Error {} // it does not want this
class Stopped extends Error {} // whoever uploads has said so

export class Upload {
  // `ask(upload, { entry, etag })` says what is to be done with what is there: "both", "replace" or "skip"
  constructor(file, { to, tree, path }, ask, changed) {
    Object.assign(this, { file, to, tree, path, ask, changed });
    this.target = { path, replaces: null }; // what it is to become, after what was asked
    this.state = "waiting"; // sending, away, storing, paused, done, skipped, failed
    this.sent = this.stored = 0;
    this.message = "";
    this.samples = [];
    this.piece = LEAST;
    this.key = REMEMBERED + JSON.stringify([to, tree, path, file.size, file.lastModified]);
    this.url = remembered(this.key);
  }

  // Send it, and see it stored; ends when there is nothing more to do for now.
  async run() {
    this.stopping = new AbortController();
    this.target = this.url ? this.target : { path: this.path, replaces: null };
    try {
      this.to_be("sending");
      for (let tried = 0; ; tried++) {
        if (this.url && (await this.lasting(() => this.go_on()))) break;
        if (tried === 3) throw new Refused("The server forgets what is sent to it.");
        await this.lasting(() => this.create());
        if (this.state === "skipped" || this.state === "done") return;
      }
      await this.settled();
    } catch (error) {
      if (error instanceof Stopped) return;
      if (!(error instanceof Refused)) console.error(error);
      this.message = error.message;
      this.to_be("failed");
    }
  }

  pause() {
    this.stop("paused");
  }

  cancel() {
    this.stop("skipped");
    this.forget(true);
  }

  stop(state) {
    this.to_be(state);
    this.stopping?.abort();
  }

  // Bytes a second, lately.
  get rate() {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    return this.samples.length > 1 ? (1000 * (last.sent - first.sent)) / Math.max(1, last.at - first.at) : 0;
  }

  to_be(state) {
    this.state = state;
    this.changed(this);
  }

  reached(sent) {
    const at = performance.now();
    this.sent = sent;
    this.samples = [...this.samples.filter((sample) => at - sample.at < 10_000 && sample.sent <= sent), { at, sent }];
    this.changed(this);
  }

  forget(there) {
    if (there && this.url) fetch(this.url, { method: "DELETE", headers: TUS, keepalive: true }).then((answer) => answer.text(), () => {});
    remember(this.key, (this.url = null));
  }

  // ── the steps ──

  // Begin one at the server; what lies there already is asked about.
  async create() {
    const about = { tree: this.tree, ...this.target, modified: (this.file.lastModified / 1000).toFixed(3) };
    const answer = await this.request("POST", this.to, {
      Accept: "application/json",
      "Upload-Length": this.file.size,
      "Upload-Metadata": metadata(about),
    });
    if (answer.status === 409) return this.conflict(JSON.parse(answer.text));
    kindly(answer);
    remember(this.key, (this.url = new URL(answer.headers.get("Location"), new URL(this.to, location)).href));
  }

  async conflict({ entry, etag, message }) {
    const { path } = this.target;
    if (path === this.path) {
      if (!entry) throw new Refused(message);
      if (this.same(entry)) return this.done();
      const choice = await this.ask(this, { entry, etag });
      this.check();
      if (choice === "skip") return this.to_be("skipped");
      if (choice === "replace") {
        this.target = { path, replaces: etag };
        return this.create();
      }
    }
    this.target = { path: beside(this.path, path), replaces: null };
    return this.create();
  }

  same({ folder, size, modified }) {
    return !folder && size === this.file.size && Math.abs(new Date(modified) - this.file.lastModified) <= 2000;
  }

  // Send what is missing; false where the server knows nothing of it any more.
  async go_on() {
    const answer = await this.request("HEAD", this.url);
    if ([403, 404, 410].includes(answer.status)) {
      this.forget(false);
      return false;
    }
    kindly(answer);
    this.samples = [];
    this.reached(Number(answer.headers.get("Upload-Offset")));
    if (this.state === "away") this.to_be("sending");
    while (this.sent < this.file.size) await this.send(this.sent);
    return true;
  }

  async send(start) {
    const data = await this.read(start, start + this.piece);
    const began = performance.now();
    const sent = await this.patch(start, data, await checksum(data));
    const took = performance.now() - began;
    this.tried = 0;
    this.reached(sent);
    const fitting = (this.piece * PACE) / Math.max(1, took);
    this.piece = Math.round(Math.min(MOST, 2 * this.piece, Math.max(LEAST, fitting)));
  }

  async read(start, stop) {
    try {
      return await this.file.slice(start, stop).arrayBuffer();
    } catch {
      throw new Refused("This file cannot be read any more; choose it again.");
    }
  }

  // The server stores it, which may take a while.
  async settled() {
    this.to_be("storing");
    for (let pause = 30; ; pause = Math.min(2000, pause * 1.5)) {
      const answer = await this.lasting(() => this.request("GET", this.url));
      kindly(answer);
      const { state, stored, message } = JSON.parse(answer.text);
      Object.assign(this, { stored, message });
      if (state === "done") return this.done();
      if (state === "failed") {
        this.forget(true);
        throw new Refused(message);
      }
      this.to_be("storing");
      await this.wait(pause);
    }
  }

  done() {
    this.stored = this.sent = this.file.size;
    this.forget(true);
    this.to_be("done");
  }

  // ── requests ──

  check() {
    if (this.stopping.signal.aborted) throw new Stopped();
  }

  // A step, as often as it takes, while the server is away.
  async lasting(step) {
    const state = this.state;
    for (this.tried = 0; ; ) {
      try {
        const result = await step();
        if (this.state === "away") this.to_be(state);
        return result;
      } catch (error) {
        if (!(error instanceof Away)) throw error;
        this.message = error.message;
        this.to_be("away");
        const most = Math.min(LONGEST, 500 * 2 ** this.tried++);
        await this.wait(Math.max(error.after || 0, most * (0.5 + Math.random() / 2)));
      }
    }
  }

  // Some time, or until there is a network again.
  wait(ms) {
    return new Promise((resolve, reject) => {
      const ended = new AbortController();
      const once = { signal: ended.signal, once: true };
      const timer = setTimeout(() => (ended.abort(), resolve()), ms);
      addEventListener("online", () => (clearTimeout(timer), ended.abort(), resolve()), once);
      const stop = () => (clearTimeout(timer), ended.abort(), reject(new Stopped()));
      if (this.stopping.signal.aborted) stop();
      else this.stopping.signal.addEventListener("abort", stop, once);
    });
  }

  async request(method, url, headers = {}) {
    const signal = AbortSignal.any([this.stopping.signal, AbortSignal.timeout(STALL)]);
    let answer, text;
    try {
      answer = await fetch(url, { method, headers: { ...TUS, ...headers }, signal, cache: "no-store" });
      text = await answer.text();
    } catch {
      this.check();
      throw new Away("The server cannot be reached");
    }
    if (LATER.includes(answer.status)) throw later(answer.headers.get("Retry-After"), text);
    return { ok: answer.ok, status: answer.status, headers: answer.headers, text };
  }

  // XMLHttpRequest, for it tells whether anything moves; fetch would wait for ever.
  patch(start, data, sum) {
    const asked = new XMLHttpRequest();
    asked.open("PATCH", this.url);
    const headers = { ...TUS, ...sum, "Content-Type": "application/offset+octet-stream", "Upload-Offset": start };
    for (const [name, value] of Object.entries(headers)) asked.setRequestHeader(name, value);
    return new Promise((resolve, reject) => {
      let timer;
      const alive = () => (clearTimeout(timer), (timer = setTimeout(() => asked.abort(), STALL)));
      const stop = () => asked.abort();
      asked.upload.onprogress = alive;
      asked.onloadend = () => {
        clearTimeout(timer);
        this.stopping.signal.removeEventListener("abort", stop);
        if (asked.status === 204) return resolve(Number(asked.getResponseHeader("Upload-Offset")));
        if (this.stopping.signal.aborted) return reject(new Stopped());
        const again = !asked.status || [404, 409, ...LATER].includes(asked.status); // then HEAD says what is so
        const after = asked.status ? asked.getResponseHeader("Retry-After") : null;
        reject(again ? later(after, asked.responseText) : new Refused(asked.responseText.trim()));
      };
      this.stopping.signal.addEventListener("abort", stop);
      alive();
      asked.send(data);
    });
  }
}

function later(after, text) {
  return Object.assign(new Away(text.trim() || "The server cannot be reached"), { after: 1000 * Number(after || 0) });
}

function kindly({ ok, status, text }) {
  if (!ok) throw new Refused(text.trim() || `The server answers ${status}.`);
}

function metadata(about) {
  const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
  const given = Object.entries(about).filter(([, value]) => value !== null);
  return given.map(([key, value]) => `${key} ${base64(value)}`).join(",");
}

async function checksum(data) {
  if (!crypto.subtle) return {}; // plain HTTP from another machine
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return { "Upload-Checksum": `sha256 ${btoa(String.fromCharCode(...sum))}` };
}

// The next name beside that of a path: "a.mp3", "a (2).mp3", "a (3).mp3"
function beside(wanted, last) {
  const slash = wanted.lastIndexOf("/") + 1;
  const dot = wanted.lastIndexOf(".");
  const end = dot > slash ? dot : wanted.length;
  const number = last === wanted ? 2 : Number(last.slice(end).match(/^ \((\d+)\)/)[1]) + 1;
  return `${wanted.slice(0, end)} (${number})${wanted.slice(end)}`;
}

// ── what is remembered over a reload of the page ──

function remembered(key) {
  try {
    const { url, at } = JSON.parse(localStorage.getItem(key)) ?? {};
    return Date.now() - at < KEPT ? url : null;
  } catch {
    return null; // not allowed here
  }
}

try {
  const ours = Object.keys(localStorage).filter((key) => key.startsWith(REMEMBERED));
  for (const key of ours) if (!remembered(key)) localStorage.removeItem(key);
} catch {
  // not allowed here
}

function remember(key, url) {
  try {
    if (url) localStorage.setItem(key, JSON.stringify({ url, at: Date.now() }));
    else localStorage.removeItem(key);
  } catch {
    // then a reload begins anew
  }
}
