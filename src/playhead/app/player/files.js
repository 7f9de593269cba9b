// The viewer of the Files page: plays, shows and copies without leaving the folder.
// The page is complete without it; every name is set as text, never as HTML.

const list = document.querySelector(".files");
let rows = [];
const link = (row) => row.querySelector(".name");
const named = (row) => link(row).querySelector(".label").textContent;
const kindOf = (row) => row.dataset.kind;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const button = (name, label, act) => {
  const made = element("button", { type: "button", className: name, title: label, onclick: act });
  made.setAttribute("aria-label", label);
  return made;
};

// ── one thing is current: the address says which, so that it can be copied and "back" closes it ──

const current = () => rows.find((row) => location.hash === "#" + fragment(row));
const fragment = (row) => link(row).getAttribute("href").split("/").pop();

let pushed = false; // did this page add the step to the history?

function show(row) {
  if (location.hash === "#" + fragment(row)) return open(row);
  if (current()) return location.replace("#" + fragment(row)); // one step in the history, however many things are shown
  pushed = true;
  location.hash = fragment(row);
}

// The address says again that nothing is current; a step of our own is taken back, so that "back" works at once.
function unshow() {
  if (pushed) history.back();
  else history.replaceState(null, "", location.pathname + location.search);
  pushed = false;
}

function open(row) {
  if (row && kindOf(row) !== "audio") return viewer.show(row);
  close();
  if (row) bar.play(row);
}

// The row that is marked: what the viewer shows, else what plays.
function mark() {
  const marked = viewer.dialog.open ? viewer.row : bar.audio && bar.row;
  for (const row of rows) row.classList.toggle("current", row === marked);
}

function close() {
  if (viewer.dialog.open) viewer.dialog.close();
}

function neighbour(row, step, kinds) {
  for (let at = rows.indexOf(row) + step; at >= 0 && at < rows.length; at += step) {
    if (kinds.includes(kindOf(rows[at])) && !rows[at].hidden) return rows[at];
  }
}

// ── sound: a bar at the foot of the page ──

const bar = {
  play(row) {
    this.row = row;
    if (!this.audio) this.build();
    this.title.textContent = named(row);
    this.state.hidden = true;
    this.audio.src = link(row).href;
    this.get.href = link(row).href + "?download";
    mark();
    this.audio.play().catch(() => {}); // not allowed before a click: the control is there
    document.title = named(row);
    if (navigator.mediaSession) {
      navigator.mediaSession.metadata = new MediaMetadata({ title: named(row), album: document.querySelector("h1").textContent });
    }
  },
  build() {
    this.title = element("div", { className: "title" });
    this.state = element("div", { className: "state", hidden: true });
    this.state.setAttribute("role", "status");
    this.audio = element("audio", { controls: true, preload: "metadata" });
    this.audio.onended = () => this.move(1);
    this.audio.onwaiting = () => this.say("Waiting for the source");
    this.audio.onplaying = () => this.say("");
    this.audio.onerror = async () => this.say(await reason(this.audio.src));
    this.get = element("a", { className: "get", title: "Download" }, "Download");
    const moves = element("div", { className: "moves" },
      button("previous", "Previous", () => this.move(-1)), button("next", "Next", () => this.move(1)), this.get);
    const stop = button("close", "Stop", () => this.stop());
    this.bar = element("section", { className: "bar" }, this.title, moves, this.audio, stop, this.state);
    this.bar.setAttribute("aria-label", "Player");
    document.body.append(this.bar);
    navigator.mediaSession?.setActionHandler("nexttrack", () => this.move(1));
    navigator.mediaSession?.setActionHandler("previoustrack", () => this.move(-1));
  },
  move(step) {
    const row = neighbour(this.row, step, ["audio"]);
    if (row) viewer.dialog.open ? this.play(row) : show(row);
  },
  say(line) {
    this.state.textContent = line;
    this.state.hidden = !line;
  },
  stop() {
    this.audio.removeAttribute("src");
    this.audio.load();
    this.bar.remove();
    this.audio = null;
    if (current()) unshow();
    mark();
  },
};

// ── pictures, films and texts: a window over the page ──

const viewer = {
  dialog: element("dialog"),
  show(row) {
    this.row = row;
    const url = link(row).href;
    const view = element("div", { className: "view", tabIndex: -1 });
    const get = element("a", { className: "get", href: url + "?download", title: "Download" }, "Download");
    const head = element("div", { className: "head" }, element("div", { className: "title" }, named(row)),
      button("previous", "Previous", () => this.move(-1)), button("next", "Next", () => this.move(1)),
      copier(url), get, button("close", "Close", () => this.dialog.close()));
    this.dialog.replaceChildren(head, view);
    if (!this.dialog.isConnected) document.body.append(this.dialog);
    if (!this.dialog.open) this.dialog.showModal();
    this.fill(view, kindOf(row), url);
    view.focus(); // so that its keys go on working, and a long text scrolls
    mark();
  },
  fill(view, kind, url) {
    const failed = async () => view.replaceChildren(element("p", { className: "state" }, await reason(url)));
    if (kind === "video") {
      bar.audio?.pause();
      view.append(element("video", { controls: true, autoplay: true, playsInline: true, src: url, onerror: failed }));
    } else if (kind === "image") {
      view.append(element("img", { src: url, alt: named(this.row), onerror: failed }));
    } else if (kind === "text") {
      text(url).then((words) => view.append(element("pre", { tabIndex: 0 }, words)), failed);
    } else {
      view.append(element("p", { className: "state" }, "There is no view of this kind of file; it can be downloaded."));
    }
  },
  move(step) {
    const row = neighbour(this.row, step, ["video", "image", "text"]);
    if (row) location.replace("#" + fragment(row));
  },
};
viewer.dialog.setAttribute("aria-label", "Viewer");
viewer.dialog.onclose = () => {
  viewer.dialog.replaceChildren(); // ends a film
  mark();
  if (viewer.row && current() === viewer.row) unshow();
};
viewer.dialog.onclick = (event) => {
  if (event.target === viewer.dialog) viewer.dialog.close(); // never `return false`: that would stop links and films
};
viewer.dialog.onkeydown = (event) => {
  if (event.target.tagName === "VIDEO") return;
  if (event.key === "ArrowRight") viewer.move(1);
  if (event.key === "ArrowLeft") viewer.move(-1);
};

async function text(url) {
  const answer = await fetch(url + "?text=utf-8");
  if (!answer.ok) throw new Error(await answer.text());
  return answer.text();
}

// Why a file cannot be shown: the server's own line where it has one.
async function reason(url) {
  try {
    const answer = await fetch(url, { headers: { Range: "bytes=0-0" }, cache: "no-store" });
    return (!answer.ok && (await answer.text()).trim()) || "This browser cannot open this file.";
  } catch {
    return "The server cannot be reached.";
  }
}

// ── links ──

function copier(url) {
  const made = button("copy", "Copy link", async () => {
    await copied(url);
    made.className = "copied";
    setTimeout(() => (made.className = "copy"), 1500);
  });
  return made;
}

async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = element("textarea", { value: text }); // plain HTTP from another machine: the old way
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

list.addEventListener("click", (event) => {
  const name = event.target.closest(".name");
  const row = name?.closest(".row");
  if (!row || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  if (["audio", "video", "image", "text"].includes(kindOf(row))) {
    event.preventDefault();
    show(row);
  }
});

// ── filter and keys ──

const filter = document.querySelector("#filter");
const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
filter.oninput = () => {
  const words = plain(filter.value).split(/\s+/);
  for (const row of rows) row.hidden = !words.every((word) => plain(named(row)).includes(word));
};
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, audio, video, dialog")) return;
  if (event.key === "/" && !filter.hidden) {
    event.preventDefault();
    filter.focus();
  } else if (event.key === " " && bar.audio && !event.target.closest("a, button")) {
    event.preventDefault();
    bar.audio.paused ? bar.audio.play() : bar.audio.pause();
  }
});

// The rows that are there: at first, and whenever others have come.
function adopt() {
  const known = new Set(rows);
  rows = [...list.querySelectorAll(".row")];
  for (const row of rows) {
    if (known.has(row)) continue;
    if (kindOf(row) !== "folder") row.querySelector(".tools").prepend(copier(link(row).href));
    const time = row.querySelector("time[datetime]");
    if (time) time.textContent = new Date(time.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  }
  filter.hidden = rows.length < 8 && !filter.value;
  filter.oninput();
  mark();
}

list.addEventListener("renewed", adopt);
adopt();

addEventListener("hashchange", () => {
  if (!current()) pushed = false;
  open(current());
});
if (location.hash) open(current());
