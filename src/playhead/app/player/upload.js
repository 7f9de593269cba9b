// What is dropped on a folder, or chosen for it, is added to it; how far that is stands above what is there.
// Every name is set as text, never as HTML.

const section = document.querySelector("#adding");
const { to, tree, path: here, by } = section.dataset;
const { Upload } = await import(by);

const AT_ONCE = 3; // files that are sent at a time
const SHOWN = 50; // files that are shown
const ENDED = ["done", "skipped"];
const list = document.querySelector(".files");

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const press = (label, onclick, name = "") => element("button", { type: "button", className: name, onclick }, label);

// As names may be shown: what turns the writing around is replaced.
const shown = (name) => name.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, "_");

function bytes(size) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; size >= 999.5 && at < 4; at++) size /= 1000;
  return `${at === 0 || size >= 9.95 ? Math.round(size) : size.toFixed(1)} ${units[at]}`;
}

function left(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 90) return `, ${Math.max(1, Math.round(seconds))} s left`;
  return seconds < 5400 ? `, ${Math.round(seconds / 60)} min left` : `, ${(seconds / 3600).toFixed(1)} h left`;
}

// ── what is to be sent ──

let uploads = []; // in order; those that have ended are counted, and go
let added = 0;
let skipped = 0;

function add(files) {
  const known = new Set(uploads.map((upload) => upload.key));
  for (const { file, path } of files) {
    const upload = new Upload(file, { to, tree, path: here ? `${here}/${path}` : path }, ask, changed);
    if (!known.has(upload.key)) uploads.push(Object.assign(upload, { shown: path }));
  }
  if (!files.length) say("There are no files in what was dropped.");
  else said.textContent = "";
  next();
}

const running = (upload) => ["sending", "away", "storing"].includes(upload.state);

function next() {
  let room = AT_ONCE - uploads.filter(running).length;
  for (const upload of uploads) {
    if (room <= 0) break;
    if (upload.state === "waiting") room--, upload.run().then(next);
  }
  draw();
}

function changed(upload) {
  if (upload.state === "done") renew();
  if (ENDED.includes(upload.state)) end(upload);
  else draw(upload);
}

function end(upload) {
  if (!uploads.includes(upload)) return;
  upload.state === "done" ? added++ : skipped++;
  uploads = uploads.filter((other) => other !== upload);
  rows.get(upload)?.item.remove();
  rows.delete(upload);
  if (!uploads.length || !uploads.some((other) => running(other) || other.state === "waiting")) finish();
  queueMicrotask(next);
}

function finish() {
  const failed = uploads.filter((upload) => upload.state === "failed").length;
  const words = [added && `${added} ${added === 1 ? "file" : "files"} added`, skipped && `${skipped} not added`, failed && `${failed} failed`];
  say(words.filter(Boolean).join(", "));
  added = skipped = 0;
  always = null;
}

function say(line) {
  said.textContent = line && (line.endsWith(".") ? line : `${line}.`);
}

// ── what is shown of them ──

const rows = new Map();
const said = element("p", { className: "said" });
said.setAttribute("role", "status");
const overall = element("p", { className: "said overall", hidden: true });
const sending = element("ul", { className: "sending" });

function draw(only) {
  for (const upload of only && rows.has(only) ? [only] : visible()) row(upload);
  const size = uploads.reduce((sum, upload) => sum + upload.file.size, 0);
  const sent = uploads.reduce((sum, upload) => sum + upload.sent, 0);
  const rate = uploads.filter((upload) => upload.state === "sending").reduce((sum, upload) => sum + upload.rate, 0);
  overall.hidden = uploads.length < 2;
  overall.textContent =
    `${uploads.length} files: ${bytes(sent)} of ${bytes(size)}` + (rate ? `, ${bytes(rate)}/s${left((size - sent) / rate)}` : "");
}

const visible = () => [...new Set([...uploads.filter((upload) => upload.state !== "waiting"), ...uploads.slice(0, SHOWN)])].slice(0, SHOWN);

function row(upload) {
  if (!rows.has(upload)) {
    const label = element("span", { className: "label", title: shown(upload.shown) }, shown(upload.shown));
    const progress = element("progress");
    progress.setAttribute("aria-label", shown(upload.shown));
    const words = element("span", { className: "said" });
    const acts = element("div", { className: "acts" });
    const mark = element("span", { className: `mark ${kind(upload.file)}` });
    const item = element("li", { className: "row download" }, mark, element("div", { className: "what" }, label, progress, words), acts);
    rows.set(upload, { item, progress, words, acts });
    sending.append(item);
  }
  const { item, progress, words, acts } = rows.get(upload);
  progress.hidden = upload.state === "failed";
  progress.max = upload.file.size || 1;
  progress.value = upload.state === "storing" ? upload.stored : upload.sent;
  words.textContent = told(upload);
  if (item.dataset.state !== upload.state) {
    item.dataset.state = upload.state;
    keep(acts, buttons(upload));
  }
}

// Other buttons, and the focus where it was.
function keep(acts, fresh) {
  const held = acts.contains(document.activeElement) && document.activeElement.textContent;
  acts.replaceChildren(...fresh);
  if (held) (fresh.find((one) => one.textContent === held) ?? fresh[0])?.focus();
}

function kind(file) {
  const kind = file.type.split("/")[0];
  return ["audio", "video", "image", "text"].includes(kind) ? kind : "other";
}

function told(upload) {
  const { state, message, sent, stored, rate, file } = upload;
  const so_far = `${bytes(sent)} of ${bytes(file.size)}`;
  if (state === "sending") return so_far + (rate ? `, ${bytes(rate)}/s${left((file.size - sent) / rate)}` : "");
  if (state === "storing") return message || `Storing ${bytes(stored)} of ${bytes(file.size)}`;
  if (state === "away") return `${message}; it goes on by itself from ${so_far}`;
  if (state === "paused") return `Paused at ${so_far}`;
  if (state === "failed") return `Failed: ${message}`;
  return `Waiting, ${bytes(file.size)}`;
}

function buttons(upload) {
  const cancel = press("Cancel", () => upload.cancel());
  const again = (label) => press(label, () => ((upload.state = "waiting"), next()));
  if (["sending", "away", "waiting"].includes(upload.state)) return [press("Pause", () => (upload.pause(), next())), cancel];
  if (upload.state === "paused") return [again("Resume"), cancel];
  if (upload.state === "failed") return [again("Retry"), cancel];
  return [cancel];
}

// ── what is there already: one question at a time ──

let asking = Promise.resolve();
let always = null; // the answer for all the others

function ask(upload, there) {
  const replaceable = !there.entry.folder && there.etag;
  const answer = asking.then(() => (always === "replace" && !replaceable ? null : always) ?? question(upload, there));
  asking = answer.catch(() => {});
  return answer;
}

function question(upload, { entry, etag }) {
  const waiting = uploads.filter((other) => other !== upload && other.state !== "failed").length;
  const one = ({ size, modified }) => [size !== null && bytes(size), modified && new Date(modified).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })].filter(Boolean).join(", ");
  const all = element("input", { type: "checkbox" });
  const title = element("h2", { id: "asked" }, `“${shown(upload.shown)}” is there already`);
  const lines = entry.folder
    ? [element("p", {}, "A folder has this name.")]
    : [element("p", {}, `There: ${one(entry)}`), element("p", {}, `Yours: ${one({ size: upload.file.size, modified: upload.file.lastModified })}`)];
  const choices = { both: "Keep both", ...(entry.folder || !etag ? {} : { replace: "Replace" }), skip: "Skip" };
  const acts = element("div", { className: "acts" });
  const dialog = element("dialog", { className: "ask" }, title, ...lines);
  if (waiting) dialog.append(element("label", {}, all, " Do the same for all that are there already"));
  dialog.append(acts);
  dialog.setAttribute("aria-labelledby", "asked");
  return new Promise((resolve) => {
    for (const [value, label] of Object.entries(choices)) acts.append(press(label, () => dialog.close(value)));
    acts.firstChild.autofocus = true;
    dialog.onclose = () => {
      dialog.remove();
      const choice = dialog.returnValue || "skip";
      if (all.checked) always = choice;
      resolve(choice);
    };
    document.body.append(dialog);
    dialog.showModal();
  });
}

// ── what is there now ──

let renewing = false;
let due = false;

// The listing is asked for, and its new rows take their places; those that are as they were stay.
async function renew() {
  due = true;
  if (renewing) return;
  renewing = true;
  while (due) {
    due = false;
    const began = performance.now();
    try {
      const answer = await fetch(location.href, { cache: "no-store", headers: { Accept: "text/html" } });
      if (answer.ok) place(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      // the server is away: what is there is shown when the next one is added, or the page is loaded
    }
    const pause = Math.max(300, 4 * (performance.now() - began)); // a large folder takes its time
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
  renewing = false;
}

const address = (row) => row.querySelector("a")?.getAttribute("href") ?? row.textContent;
const version = (row) => [row.querySelector(".size")?.textContent, row.querySelector("time")?.dateTime].join();

function place(fresh) {
  const known = new Map([...list.children].map((row) => [address(row), row]));
  const versions = new Map([...known].map(([key, row]) => [key, version(row)]));
  const focused = list.contains(document.activeElement) && document.activeElement;
  const wanted = [...fresh.querySelector(".files").children].map((row) =>
    versions.get(address(row)) === version(row) ? known.get(address(row)) : document.adoptNode(row));
  list.replaceChildren(...wanted);
  if (focused && focused.isConnected) focused.focus();
  const pack = fresh.querySelector(".pack");
  if (pack && !document.querySelector(".pack")) document.querySelector("#filter").before(document.adoptNode(pack));
  list.dispatchEvent(new Event("renewed"));
}

// ── choosing and dropping ──

function chooser(directory) {
  const input = element("input", { type: "file", multiple: true, hidden: true, webkitdirectory: directory });
  input.setAttribute("aria-label", directory ? "Folder to add" : "Files to add");
  input.onchange = () => {
    add([...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
    input.value = "";
  };
  return input;
}

const [files, folder] = [chooser(false), chooser(true)];
section.append(
  element("p", { className: "offer" },
    element("span", { className: "drop" }, "Drop files here to add them, or "),
    press("choose files", () => files.click()), element("span", {}, " or "), press("a folder", () => folder.click())),
  files, folder, said, overall, sending);
section.hidden = false;

// Adds all files in what is dropped. The entries must be taken before anything is waited for.
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return add([...transfer.files].map((file) => ({ file, path: file.name })));
  const found = [];
  const failed = [];
  for (const entry of entries) await walk(entry, "", found, failed);
  add(found);
  if (failed.length) say(`Cannot be read: ${failed.slice(0, 3).map(shown).join(", ")}${failed.length > 3 ? ", and others" : ""}`);
}

async function walk(entry, above, found, failed) {
  const path = above + entry.name;
  try {
    if (entry.isFile) {
      found.push({ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), path });
    } else {
      const reader = entry.createReader();
      const read = () => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      for (let some = await read(); some.length; some = await read()) { // some at a time, until there are none
        for (const inner of some) await walk(inner, path + "/", found, failed);
      }
    }
  } catch {
    failed.push(path);
  }
}

const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
const over = (on) => document.body.classList.toggle("dropping", on);

addEventListener("dragenter", (event) => holdsFiles(event) && over(true));
addEventListener("dragover", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
  over(true);
});
addEventListener("dragleave", (event) => event.relatedTarget === null && over(false));
addEventListener("drop", (event) => {
  over(false);
  if (!holdsFiles(event)) return;
  event.preventDefault();
  dropped(event.dataTransfer);
});

// Who leaves would have to choose the same files again for them to go on.
addEventListener("beforeunload", (event) => {
  if (uploads.some((upload) => running(upload) || upload.state === "waiting")) event.preventDefault();
});
