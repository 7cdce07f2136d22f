"use strict";

// The page of the inspector.  An HTML body is shown in a frame without any rights.

const requests = new Map();          // summaries by id
let fields = new Map();              // field lines of requests whose details were read, by id
let order = [];                      // ids, the newest first
let selected = null;
let detail = null;

// The list

function statusClass(summary) {
  if (summary.state === "failed") return "bad";
  if (!summary.status) return "open";
  if (summary.status < 300) return "good";
  return summary.status < 400 ? "moved" : "bad";
}

function statusText(summary) {
  if (summary.status) return String(summary.status);
  return summary.state === "failed" ? "failed" : "open";
}

function fillRow(row, summary) {
  const path = make("td", { title: summary.host + summary.target }, summary.target);
  if (summary.kind !== "http") path.append(make("span", { className: "tag" }, summary.kind));
  if (summary.replayOf !== null) path.append(make("span", { className: "tag" }, "replay of " + summary.replayOf));
  row.replaceChildren(
    make("td", {}, clock.format(new Date(summary.began * 1000))),
    make("td", {}, summary.method),
    path,
    make("td", { className: statusClass(summary) }, statusText(summary)),
    make("td", { className: "number" }, milliseconds(summary.seconds)),
    make("td", { className: "number" }, octets(summary.sent)),
  );
  row.hidden = !matches(summary);
}

function rowOf(id) { return byId("rows").querySelector(`tr[data-id="${id}"]`); }

function newRow(summary) {
  const row = make("tr", { tabIndex: 0, "data-id": String(summary.id), "aria-selected": "false" });
  row.addEventListener("click", () => select(summary.id));
  fillRow(row, summary);
  return row;
}

function received(summary) {
  const known = requests.has(summary.id);
  requests.set(summary.id, summary);
  if (known) {
    const row = rowOf(summary.id);
    if (row) fillRow(row, summary);
    if (summary.id === selected) showDetail(summary.id);
  } else {
    order.unshift(summary.id);
    byId("rows").prepend(newRow(summary));
  }
  showEmpty();
}

function showEmpty() {
  byId("empty").hidden = order.length > 0;
}

async function readList() {
  const answer = await (await call("/api/requests")).json();
  requests.clear();
  order = answer.requests.map((summary) => summary.id);
  for (const summary of answer.requests) requests.set(summary.id, summary);
  byId("rows").replaceChildren(...answer.requests.map(newRow));
  byId("forgotten").hidden = !answer.forgotten;
  byId("forgotten").textContent = answer.forgotten + " older requests are no longer kept.";
  showEmpty();
  if (selected !== null && requests.has(selected)) mark(selected);
}

// The filters

function statusMatches(summary, wanted) {
  const status = statusText(summary);
  if (/^[1-5]xx$/i.test(wanted)) return status[0] === wanted[0] && status.length === 3;
  return status.startsWith(wanted.toLowerCase());
}

function fieldMatches(summary, wanted) {
  const lines = fields.get(summary.id) || ["content-type: " + summary.type, "host: " + summary.host];
  return lines.some((line) => line.toLowerCase().includes(wanted.toLowerCase()));
}

function matches(summary) {
  const value = (name) => byId("filter-" + name).value.trim();
  const slower = Number.parseFloat(value("time"));
  return summary.target.toLowerCase().includes(value("path").toLowerCase())
    && summary.method.toLowerCase().startsWith(value("method").toLowerCase())
    && (!value("status") || statusMatches(summary, value("status")))
    && (Number.isNaN(slower) || summary.seconds * 1000 > slower)
    && (!value("field") || fieldMatches(summary, value("field")));
}

async function readFields() {
  const missing = order.filter((id) => !fields.has(id)).slice(0, 200);
  for (const id of missing) {
    try {
      rememberFields(await (await call("/api/requests/" + id)).json());
    } catch {
      fields.set(id, []);
    }
  }
}

function rememberFields(full) {
  const lines = [...full.request.fields, ...(full.response ? full.response.fields : [])];
  if (full.state !== "open") fields.set(full.id, lines.map(([name, value]) => name + ": " + value));
}

function filter() {
  for (const id of order) {
    const row = rowOf(id);
    if (row) row.hidden = !matches(requests.get(id));
  }
}

// One request

function mark(id) {
  for (const row of byId("rows").querySelectorAll('tr[aria-selected="true"]')) row.setAttribute("aria-selected", "false");
  const row = rowOf(id);
  if (row) row.setAttribute("aria-selected", "true");
}

async function select(id) {
  selected = id;
  document.body.classList.add("selected");
  byId("detail").hidden = false;
  byId("editor").hidden = true;
  mark(id);
  await showDetail(id);
}

function unselect() {
  const row = rowOf(selected);
  selected = detail = null;
  document.body.classList.remove("selected");
  byId("detail").hidden = true;
  mark(null);
  if (row) row.focus();
}

async function showDetail(id) {
  let full;
  try {
    full = await (await call("/api/requests/" + id)).json();
  } catch (problem) {
    if (id === selected) notify(problem.message);
    return;
  }
  rememberFields(full);
  if (id !== selected) return;
  detail = full;
  byId("title").textContent = full.method + " " + full.target;
  byId("failure").hidden = !full.failure;
  byId("failure").textContent = full.failure;
  byId("har-one").href = "/api/har?id=" + id;
  byId("facts").replaceChildren(...facts(full));
  byId("steps").replaceChildren(...steps(full));
  byId("request").replaceChildren(...message("Request", full.request, id, "request"));
  byId("response").replaceChildren(...(full.response ? message("Response", full.response, id, "response") : []));
  byId("messages").replaceChildren(...(full.kind === "websocket" ? webSocket(full) : full.kind === "events" ? events(full) : []));
}

function facts(full) {
  const rows = [
    ["Service", full.service], ["Host", full.host], ["Visitor", full.visitor], ["Identifier", full.trace],
    ["Status", full.response ? full.response.line : statusText(full)],
    ["Replay of", full.replayOf === null ? "" : String(full.replayOf)],
  ];
  return rows.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
}

function steps(full) {
  const total = full.seconds || Math.max(...full.steps.map(([, at]) => at), 0.000001);
  return full.steps.map(([name, at]) => make("li", {},
    make("span", {}, name), make("meter", { min: 0, max: total, value: Math.min(at, total) }),
    make("span", { className: "number" }, milliseconds(at) + " ms")));
}

function message(title, part, id, which) {
  const table = make("table", { className: "fields" },
    make("tbody", {}, ...part.fields.map(([name, value]) => make("tr", {}, make("td", {}, name), make("td", {}, value)))));
  const result = [make("h3", {}, title), make("pre", {}, part.line), table];
  if (part.octets) result.push(...body(part, id, which));
  return result;
}

function body(part, id, which) {
  const size = octets(part.octets) + " octets" + (part.cut ? ", of which " + octets(part.kept) + " are kept" : "") + ". ";
  const head = make("p", {}, size);
  if (part.why) return [make("p", {}, size + part.why)];
  head.append(make("a", { href: `/api/requests/${id}/${which}`, download: "" }, "Save"));
  const type = part.type.split(";")[0].trim().toLowerCase();
  if (type.startsWith("image/") && type !== "image/svg+xml" && part.body64 !== null) {
    return [head, make("img", { className: "body", alt: which + " body", src: `data:${type};base64,${part.body64}` })];
  }
  if (part.text === null) return [head, make("pre", { className: "hex" }, hex(part.body64))];
  if (type === "text/html") return [head, ...preview(part.text)];
  return [head, make("pre", { className: "text" }, pretty(part.text, type))];
}

function pretty(text, type) {
  if (type.endsWith("json")) {
    try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
  }
  return text;
}

function preview(text) {
  const source = make("pre", { className: "text" }, text);
  const frame = make("iframe", { title: "preview", hidden: true });
  frame.setAttribute("sandbox", "");
  const show = make("button", { type: "button", "aria-pressed": "false" }, "Preview");
  show.addEventListener("click", () => {
    const shown = frame.hidden;
    frame.hidden = !shown;
    source.hidden = shown;
    if (shown) frame.srcdoc = text;
    show.setAttribute("aria-pressed", String(shown));
  });
  return [make("div", { className: "tabs" }, show), source, frame];
}

function decoded(body64) {
  return Uint8Array.from(atob(body64), (character) => character.charCodeAt(0));
}

function hex(body64) {
  const data = decoded(body64).slice(0, 4096), lines = [];
  for (let at = 0; at < data.length; at += 16) {
    const part = [...data.slice(at, at + 16)];
    const digits = part.map((octet) => octet.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    const signs = part.map((octet) => (octet > 31 && octet < 127 ? String.fromCharCode(octet) : ".")).join("");
    lines.push(at.toString(16).padStart(6, "0") + "  " + digits + "  " + signs);
  }
  return lines.join("\n");
}

function webSocket(full) {
  const rows = full.messages.map((one) => make("tr", {},
    make("td", { className: "number" }, milliseconds(one.at)), make("td", {}, one.from + " " + one.kind),
    make("td", {}, (one.text !== null ? one.text : one.body64 ? hex(one.body64) : "") + (one.cut ? " …" : ""))));
  const lost = full.messagesForgotten ? [make("p", {}, full.messagesForgotten + " earlier messages are no longer kept.")] : [];
  return [make("h3", {}, "Messages"), ...lost, make("table", { className: "messages" }, make("tbody", {}, ...rows))];
}

function events(full) {
  const text = full.response && full.response.text ? full.response.text : "";
  const rows = text.split(/\r\n\r\n|\n\n|\r\r/).filter((block) => block.trim()).map((block) => {
    let name = "message";
    const data = [];
    for (const line of block.split(/\r\n|\n|\r/)) {
      const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
      if (field === "event") name = value;
      if (field === "data") data.push(value);
    }
    return make("tr", {}, make("td", {}, name), make("td", {}), make("td", {}, data.join("\n")));
  });
  return [make("h3", {}, "Events"), make("table", { className: "messages" }, make("tbody", {}, ...rows))];
}

// Actions

async function replay(changes = {}) {
  try {
    const answer = await (await call(`/api/requests/${selected}/replay`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(changes),
    })).json();
    notify("Sent as request " + answer.id + ".");
    await select(answer.id);
  } catch (problem) {
    notify(problem.message);
  }
}

function edit() {
  const part = detail.request;
  byId("editor").hidden = false;
  byId("edit-method").value = detail.method;
  byId("edit-target").value = detail.target;
  byId("edit-fields").value = part.fields.map(([name, value]) => name + ": " + value).join("\n");
  const binary = part.octets > 0 && part.text === null;
  byId("edit-body").value = part.text || "";
  byId("edit-body").disabled = binary || part.cut;
  byId("edit-note").hidden = !(binary || part.cut);
  byId("edit-note").textContent = part.cut
    ? "Not all of the body is kept, so it cannot be sent again." : "The body is not text. It is sent as it was received.";
  byId("edit-method").focus();
}

function edited() {
  const lines = byId("edit-fields").value.split("\n").filter((line) => line.includes(":"));
  const changed = {
    method: byId("edit-method").value.trim(), target: byId("edit-target").value.trim(),
    fields: lines.map((line) => [line.slice(0, line.indexOf(":")).trim(), line.slice(line.indexOf(":") + 1).trim()]),
    body: null, body64: null,
  };
  if (byId("edit-body").disabled) changed.body64 = detail.request.body64; else changed.body = byId("edit-body").value;
  return changed;
}

async function copyCurl() {
  try {
    const text = await (await call(`/api/requests/${selected}/curl`)).text();
    try {
      await navigator.clipboard.writeText(text);
      notify("Copied.");
    } catch {
      notify(text);
    }
  } catch (problem) {
    notify(problem.message);
  }
}

async function forget() {
  try {
    await call("/api/requests", { method: "DELETE" });
  } catch (problem) {
    notify(problem.message);
  }
}

// Keys: arrows or j and k move in the list, Enter opens, Escape closes, / filters, r replays.

function move(by) {
  const rows = [...byId("rows").querySelectorAll("tr:not([hidden])")];
  const now = rows.findIndex((row) => row === document.activeElement || row.dataset.id === String(selected));
  const next = rows[Math.min(rows.length - 1, Math.max(0, now + by))];
  if (next) {
    next.focus();
    if (selected !== null) select(Number(next.dataset.id));
  }
}

function pressed(event) {
  const typing = /^(INPUT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "Escape" && selected !== null) { unselect(); return; }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {
    j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
    "/": () => byId("filter-path").focus(), r: () => { if (selected !== null) replay(); },
    Enter: () => { if (document.activeElement.dataset.id) select(Number(document.activeElement.dataset.id)); },
  };
  if (keys[event.key] && (event.key !== "Enter" || document.activeElement.dataset.id)) {
    event.preventDefault();
    keys[event.key]();
  }
}

// Live

function listen() {
  follow("/api/events", "the agent does not answer; trying again", () => readList(), {
    request: received,
    forgotten: () => { fields = new Map(); return readList(); },
  });
}

byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("input", async (event) => {
  filter();
  if (event.target.id === "filter-field" && event.target.value.trim()) {
    await readFields();
    filter();
  }
});
byId("close").addEventListener("click", unselect);
byId("replay").addEventListener("click", () => replay());
byId("edit").addEventListener("click", edit);
byId("edit-cancel").addEventListener("click", () => { byId("editor").hidden = true; });
byId("editor").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("editor").hidden = true;
  replay(edited());
});
byId("curl").addEventListener("click", copyCurl);
byId("forget").addEventListener("click", forget);
document.addEventListener("keydown", pressed);
listen();
