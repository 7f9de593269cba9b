// Keeps the page of downloads true while it is looked at. The page is complete without it; every text is set as text.

const list = document.querySelector(".files");
const rows = () => [...list.querySelectorAll(".download")];
const known = (items) => items.map(({ gid, state, file }) => `${gid} ${state} ${file}`).join();
const link = (row) => row.querySelector("a.label")?.getAttribute("href") ?? "";
const shown = () => known(rows().map((row) => ({ gid: row.id, state: row.dataset.state, file: link(row) })));

// What has changed within a row is written into it; where rows come, go or change their state, the page is asked for.
async function refresh() {
  const answer = await fetch(new URL("api/downloads", new URL("./", location.href)), { cache: "no-store" });
  if (!answer.ok) return true;
  const { downloads } = await answer.json();
  if (known(downloads) !== shown()) await renew();
  else for (const download of downloads) update(document.getElementById(download.gid), download);
  return downloads.some(({ state }) => state === "active");
}

function update(row, { name, said, size, have }) {
  row.querySelector(".label").textContent = name;
  row.querySelector(".said").textContent = said;
  const progress = row.querySelector("progress");
  if (progress && size) {
    progress.max = size;
    progress.value = Math.min(have, size);
  }
}

async function renew() {
  const answer = await fetch(location.href, { cache: "no-store" });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const focused = document.activeElement?.closest(".download");
  const pressed = focused && document.activeElement.value;
  list.replaceChildren(...fresh.querySelector(".files").children);
  const all = document.querySelector(".all");
  const freshAll = fresh.querySelector(".all");
  if (!all && freshAll) document.querySelector("header").append(freshAll);
  else if (all && !freshAll) all.remove();
  if (focused) {
    const buttons = [...(document.getElementById(focused.id)?.querySelectorAll("button") ?? [])];
    (buttons.find((button) => button.value === pressed) ?? buttons[0])?.focus();
  }
}

// Often while something runs, seldom else, and not at all while nobody looks.
let timer;
async function keep() {
  clearTimeout(timer);
  let running = false;
  try {
    if (!document.hidden) running = await refresh();
  } catch {
    // the server is away: the page stays as it was
  }
  clearTimeout(timer);
  timer = setTimeout(keep, running ? 1000 : 5000);
}

document.addEventListener("visibilitychange", () => document.hidden || keep());
keep();
