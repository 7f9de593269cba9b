// The npm package aria2, driven line by line: {"do": "call", "with": [...]} in, {"result"} or {"error"} out, events as
// they come. The first line says how to connect.
const path = require("path");
const readline = require("readline");

const modules = process.argv[2];
const Aria2 = require(path.join(modules, "aria2"));
const WebSocket = require(path.join(modules, "ws"));
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const settled = (one) => (one.status === "fulfilled" ? { result: one.value } : { error: told(one.reason) });
const told = ({ code, message }) => ({ code, message });

let aria2;
const acts = {
  connect(options) {
    aria2 = new Aria2({ ...options, WebSocket });
    aria2.on("error", (error) => say({ broken: String(error) }));
    for (const event of ["Start", "Pause", "Stop", "Complete", "Error"]) {
      aria2.on("onDownload" + event, ([{ gid }]) => say({ event, gid }));
    }
  },
  open: () => aria2.open().then(() => null),
  close: () => aria2.close().then(() => null),
  call: (...all) => aria2.call(...all),
  multicall: (...calls) => aria2.multicall(calls),
  batch: async (...calls) => (await Promise.allSettled(await aria2.batch(calls))).map(settled),
  listMethods: () => aria2.listMethods(),
  listNotifications: () => aria2.listNotifications(),
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { do: act, with: all } = JSON.parse(line);
    try {
      say({ result: (await acts[act](...all)) ?? null });
    } catch (error) {
      say({ error: told(error) });
    }
  }
  process.exit(0); // also while it listens
})();
