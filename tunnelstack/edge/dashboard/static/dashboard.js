"use strict";

// The page of the dashboard.  Snapshots of the edge arrive as events; with each of them the part of the list that is shown is read again.

const LIMIT = 100;                   // rows of a list
const POINTS = 60;                   // snapshots that rates are drawn from
const TITLES = { agents: "agents", routes: "services", streams: "streams", samples: "requests", limits: "limits" };

let view = "agents";
let from = 0;
let selected = null;                 // key of the selected item
let items = new Map();               // records that are shown, by key
let status = null;                   // the last snapshot
let history = [];                    // the figures of the last snapshots, the oldest first
let rights = { change: false, token: false };
let reading = false;                 // the list is being read
let again = false;                   // and is to be read again after that
let listed = {};                     // the last answer of the list

// Text

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const parts = [];
  let left = Math.floor(seconds);
  for (const [unit, size] of units) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count || (unit === "s" && !parts.length)) parts.push(count + unit);
  }
  return parts.slice(0, 2).join(" ");
}

function rate(value) {
  if (value === null) return "";
  return value < 10 ? value.toFixed(1) : String(Math.round(value));
}

function plural(count, one, many) { return count + " " + (count === 1 ? one : many); }

function tag(text, kind) { return make("span", { className: "tag " + (kind || "") }, text); }

// Figures and their rates

function figuresOf(snapshot) {
  const totals = snapshot.totals;
  return {
    at: snapshot.uptime_seconds, agents: snapshot.agents, streams: snapshot.streams, visitors: snapshot.visitors,
    in: totals.octets_in, out: totals.octets_out, opened: totals.streams, requests: totals.requests,
    failed: totals.requests === undefined ? undefined : totals.requests_by_class["5xx"],
  };
}

function remember(snapshot) {
  const figures = figuresOf(snapshot);
  const last = history[history.length - 1];
  if (last && figures.at < last.at) history = [];      // another edge
  if (!last || figures.at > last.at) history.push(figures);
  if (history.length > POINTS) history.shift();
}

function ratesOf(name) {
  const rates = [];
  for (let i = 1; i < history.length; i += 1) {
    const before = history[i - 1], after = history[i];
    if (before[name] !== undefined && after[name] !== undefined) {
      rates.push(Math.max(0, (after[name] - before[name]) / (after.at - before.at)));
    }
  }
  return rates;
}

function line(values, filled) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const most = Math.max(...values, 1e-9);
  const start = POINTS - values.length;
  const points = values.map((value, at) => `${start + at},${(19 - 17 * (value / most)).toFixed(2)}`);
  if (points.length > 1) {
    const area = document.createElementNS(svg.namespaceURI, "polygon");
    area.setAttribute("points", `${start},20 ${points.join(" ")} ${POINTS - 1},20`);
    const path = document.createElementNS(svg.namespaceURI, "polyline");
    path.setAttribute("points", points.join(" "));
    svg.append(...(filled ? [area, path] : [path]));
  }
  return svg;
}

function tile(name, value, note, values, filled, kind) {
  return make("div", { "data-name": name }, make("div", { className: "name" }, name), make("div", { className: "value" }, value),
    make("div", { className: "note " + (kind || ""), title: note }, note), line(values, filled));
}

function slowText() {
  const slow = status.slow.agent + status.slow.visitor;
  return slow ? slow + (slow === 1 ? " is slow" : " are slow") : "";
}

function showTotals() {
  const last = (rates) => (rates.length ? rates[rates.length - 1] : null);
  const perSecond = (rates, text) => (rates.length ? text(last(rates)) + "/s" : "…");
  const now = (name) => history.map((figures) => figures[name]);
  const incoming = ratesOf("in"), outgoing = ratesOf("out"), opened = ratesOf("opened"), requests = ratesOf("requests");
  const slow = slowText(), opening = opened.length ? rate(last(opened)) + " opened/s" : "";
  const flows = status.udp_flows ? plural(status.udp_flows, "UDP flow", "UDP flows") : "";
  const tiles = [
    tile("Agents", String(status.agents), plural(status.services, "service", "services"), now("agents")),
    tile("Streams", String(status.streams), slow || opening, now("streams"), false, slow ? "moved" : ""),
    tile("Visitors", String(status.visitors), flows, now("visitors")),
    tile("From agents", perSecond(incoming, octets), octets(status.totals.octets_in) + " in total", incoming, true),
    tile("To agents", perSecond(outgoing, octets), octets(status.totals.octets_out) + " in total", outgoing, true),
  ];
  if (status.totals.requests !== undefined) {
    const failed = last(ratesOf("failed"));
    const note = failed ? rate(failed) + "/s are 5xx" : status.totals.requests + " in total";
    tiles.push(tile("Requests", perSecond(requests, rate), note, requests, true, failed ? "bad" : ""));
  }
  byId("totals").replaceChildren(...tiles);
}

// The edge

function showEdge() {
  const kinds = { ready: "good", draining: "moved", starting: "moved" };
  byId("edge").textContent = status.url;
  byId("state").hidden = false;
  byId("state").textContent = status.state;
  byId("state").className = "tag " + (kinds[status.state] || "");
  byId("about").textContent = `up ${duration(status.uptime_seconds)} · ${status.version}`;
  byId("drain").disabled = status.state === "draining";
  const counts = { agents: status.sessions, routes: status.services, streams: status.streams };
  for (const [name, count] of Object.entries(counts)) {
    byId("tab-" + name).replaceChildren(name === "routes" ? "Services" : name[0].toUpperCase() + name.slice(1),
      make("span", { className: "count" }, String(count)));
  }
  byId("tab-samples").hidden = !status.samples;
  document.title = `${status.domain} - tunnelstack`;
}

function dayText(expires) {
  const days = Math.floor((expires * 1000 - Date.now()) / 86400000);
  if (days < 0) return "expired";
  return days === 0 ? "expires today" : "expires in " + plural(days, "day", "days");
}

function showAlerts() {
  const alerts = [];
  if (status.state === "draining") {
    alerts.push(["moved", `The edge drains: work under way may finish within ${duration(status.drain_seconds)}, and nothing new is accepted.`]);
  }
  for (const limit of status.limits.filter((each) => each.full)) alerts.push(["bad", `The limit ${limit.key} is reached.`]);
  for (const each of status.certificates) {
    if (each.expires * 1000 < Date.now() + 14 * 86400000) alerts.push(["bad", `The certificate ${each.file} ${dayText(each.expires)}.`]);
  }
  if (status.reload && status.reload.error) {
    alerts.push(["bad", `The configuration was not reloaded ${duration(status.reload.seconds)} ago: ${status.reload.error}`]);
  }
  const texts = JSON.stringify(alerts);
  if (showAlerts.shown === texts) return;            // a screen reader repeats what is replaced
  showAlerts.shown = texts;
  byId("alerts").replaceChildren(...alerts.map(([kind, text]) => make("p", { className: kind }, text)));
}

// Lists.  A column has a heading, the content of a cell, and a class.

function agentState(agent) {
  if (!agent.healthy) return tag("draining", "moved");
  return Object.keys(agent.out_of_service).length ? tag("failing", "bad") : tag("up", "good");
}

function routeState(route) {
  const kinds = { up: "good", draining: "moved", away: "moved", failing: "bad", down: "bad" };
  return tag(route.state, kinds[route.state]);
}

function slowTag(stream) {
  if (!stream.slow) return "";
  const still = stream.still === null ? "" : " " + duration(stream.still);
  return tag(stream.slow + still, stream.still === null ? "moved" : "bad");
}

function shortProtocol(protocol) {
  const found = /^\/tunnelstack\/([^/]+)\//.exec(protocol);
  return found ? found[1] : protocol;
}

function statusKind(status) {
  if (status < 300) return "good";
  return status < 400 ? "moved" : "bad";
}

function link(text) {
  return /^https?:\/\//.test(text) ? make("a", { href: text, rel: "noreferrer", target: "_blank" }, text) : text;
}

const VIEWS = {
  agents: {
    key: (agent) => "agent " + agent.session,
    columns: [
      ["Agent", (agent) => agent.agent, ""], ["State", agentState, "state"],
      ["Address", (agent) => agent.peer, "only-alone"], ["Dialect", (agent) => agent.dialect, "only-wide short"],
      ["Services", (agent) => agent.services.join(" "), "only-alone"], ["For", (agent) => duration(agent.seconds), "number"],
      ["Round trip", (agent) => (agent.round_trip === null ? "" : milliseconds(agent.round_trip) + " ms"), "number"],
      ["Streams", (agent) => String(agent.streams), "number only-alone"],
      ["In", (agent) => octets(agent.octets_in), "number only-wide"], ["Out", (agent) => octets(agent.octets_out), "number only-wide"],
    ],
    empty: "No agent is connected.",
  },
  routes: {
    key: (route) => `route ${route.kind} ${route.public} ${route.to}`,
    columns: [
      ["Public", (route) => route.public, ""], ["State", routeState, "state"], ["To", (route) => `${route.kind}:${route.to}`, "only-alone"],
      ["Agents", (route) => route.agents.join(" ") || "none", ""], ["From", (route) => (route.configured ? "configuration" : "agent"), "only-wide short"],
    ],
    empty: "No service is published.",
  },
  streams: {
    key: (stream) => `stream ${stream.session} ${stream.stream}`,
    columns: [
      ["Agent", (stream) => stream.agent, ""], ["Service", (stream) => stream.service || shortProtocol(stream.protocol), ""],
      ["Waits for", slowTag, "state"], ["Visitor", (stream) => stream.visitor, "only-alone"],
      ["To agent", (stream) => octets(stream.queued), "number"], ["To visitor", (stream) => octets(stream.unread), "number"],
      ["Protocol", (stream) => stream.protocol, "only-wide"],
    ],
    empty: "No stream is open.",
  },
  samples: {
    key: (sample) => `request ${sample.request} ${sample.time}`,
    columns: [
      ["Time", (sample) => clock.format(new Date(sample.time * 1000)), "short"], ["Service", (sample) => sample.service, "only-alone short"],
      ["Request", (sample) => sample.method + " " + sample.path, ""], ["Status", (sample) => tag(String(sample.status), statusKind(sample.status)), "number"],
      ["ms", (sample) => milliseconds(sample.seconds), "number"],
      ["In", (sample) => octets(sample.octets_in), "number only-wide"], ["Out", (sample) => octets(sample.octets_out), "number only-wide"],
    ],
    empty: "No request has ended yet.",
  },
};

function cells(record, columns) {
  return columns.map(([, content, kind]) => {
    const shown = content(record);
    const cell = make("td", { className: kind }, shown);
    if (typeof shown === "string") cell.title = shown;
    return cell;
  });
}

function newRow(key) {
  const row = make("tr", { tabIndex: -1, "data-key": key, "aria-selected": "false" });
  row.addEventListener("click", () => select(key));
  return row;
}

function showRows(records) {
  const { key, columns } = VIEWS[view];
  const old = new Map([...byId("rows").children].map((row) => [row.dataset.key, row]));
  items = new Map(records.map((record) => [key(record), record]));
  const rows = [...items].map(([name, record]) => {
    const row = old.get(name) || newRow(name);
    row.replaceChildren(...cells(record, columns));
    row.setAttribute("aria-selected", String(name === selected));
    return row;
  });
  const focused = document.activeElement;
  const now = [...byId("rows").children];
  if (rows.length !== now.length || rows.some((row, at) => row !== now[at])) byId("rows").replaceChildren(...rows);
  if (focused && focused.dataset && focused.dataset.key && focused.isConnected) focused.focus();
  const active = rows.find((row) => row === document.activeElement) || rows.find((row) => row.dataset.key === selected) || rows[0];
  for (const row of rows) row.tabIndex = row === active ? 0 : -1;
}

function showPaging(count, shown) {
  byId("paging").hidden = count <= LIMIT && from === 0;
  byId("range").textContent = shown ? `${from + 1} to ${from + shown} of ${count}` : `none of ${count}`;
  byId("previous").disabled = from === 0;
  byId("next").disabled = from + shown >= count;
}

function smallTable(heads, rows) {
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", { title: typeof cell === "string" ? cell : "" }, cell))))));
}

function showMore() {
  const parts = [];
  if (view === "agents" && listed.outbound && listed.outbound.length) {
    const state = (each) => tag(each.state, each.state === "up" ? "good" : "bad");
    parts.push(make("h3", {}, "Agents that the edge dials"), smallTable(["Agent", "Address", "State", "Reason"],
      listed.outbound.map((each) => [each.agent, each.address, state(each), each.reason])));
  }
  if (view === "agents" && listed.left && listed.left.length) {
    parts.push(make("h3", {}, "Left lately"), smallTable(["Agent", "Ago", "After", "Reason"],
      listed.left.slice(0, 10).map((each) => [each.agent, duration(each.ago), duration(each.seconds), each.reason])));
  }
  byId("more").replaceChildren(...parts);
}

async function readList() {
  if (view === "limits") { showLimits(); return; }
  if (reading) { again = true; return; }
  reading = true;
  const asked = view;
  try {
    const query = new URLSearchParams({ limit: String(LIMIT), from: String(from) });
    if (byId("filter").value.trim()) query.set("filter", byId("filter").value.trim());
    if (view === "streams" && byId("slow").checked) query.set("slow", "1");
    const answer = await (await call(`/${asked}?${query}`)).json();
    if (asked === view) showList(answer);
  } finally {
    reading = false;
    if (again) { again = false; readList().catch((problem) => notify(problem.message)); }
  }
}

function showList(answer) {
  listed = answer;
  const records = answer[view];
  if (!records.length && from > 0 && answer.count) { from = Math.max(0, (Math.ceil(answer.count / LIMIT) - 1) * LIMIT); again = true; }
  showRows(records);
  showPaging(answer.count, records.length);
  byId("empty").hidden = records.length > 0;
  byId("empty").textContent = byId("filter").value.trim() || (view === "streams" && byId("slow").checked)
    ? `None of the ${TITLES[view]} match the filter.` : VIEWS[view].empty;
  showMore();
  if (selected !== null) showDetail();
}

// Limits, refusals and certificates

function gauge(name, used, most, unit, full) {
  const text = (value) => (unit === "octets" ? octets(value) : String(value));
  const fill = make("span", { className: full ? "fill full" : "fill" });
  fill.style.width = Math.min(100, (100 * used) / Math.max(1, most)).toFixed(1) + "%";
  return [make("span", {}, name), make("span", { className: "track" }, fill), make("span", { className: "number" }, `${text(used)} of ${text(most)}`)];
}

function showLimits() {
  if (!status) return;
  const totals = status.totals;
  const refusals = [...Object.entries(status.denials).map(([code, count]) => [code, "requests of agents", count]),
    ["connections_per_second", "connections of visitors, closed at once", totals.visitors_refused],
    ["process_octets", "streams, reset because too much was held", totals.streams_reset],
    ["udp", "datagrams, dropped", totals.udp_dropped],
    ...Object.entries(totals.requests_failed || {}).map(([code, count]) => [code, "requests of visitors", count])];
  const counted = refusals.filter(([, , count]) => count);
  const parts = [make("h3", {}, "Limits of the edge"), make("div", { className: "gauges" },
    ...status.limits.flatMap((each) => gauge(each.key, each.used, each.most, each.unit, each.full))),
  make("h3", {}, "Refusals since the start"), counted.length
    ? smallTable(["Code", "What", "Count"], counted.map(([code, what, count]) => [code, what, String(count)]))
    : make("p", { className: "faint" }, "Nothing was refused."),
  make("h3", {}, "Certificates"), status.certificates.length
    ? smallTable(["File", "Expires", ""], status.certificates.map((each) => [each.file, new Date(each.expires * 1000).toLocaleDateString(), dayText(each.expires)]))
    : make("p", { className: "faint" }, "The listeners have no certificates."),
  make("h3", {}, "Configuration"), reloadText()];
  byId("more").replaceChildren(...parts);
}

function reloadText() {
  const last = status.reload;
  if (!last) return make("p", { className: "faint" }, "The configuration was not reloaded since the start.");
  const ago = `Reloaded ${duration(last.seconds)} ago.`;
  if (last.error) return make("p", { className: "failure" }, ago + " " + last.error);
  return make("div", {}, make("p", {}, ago), make("ul", {}, ...last.changed.map((each) => make("li", {}, each))));
}

// One item

function factList(rows) {
  return rows.filter(([, value]) => value !== "" && value !== null && value !== undefined)
    .flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
}

function agentDetail(agent) {
  byId("title").textContent = agent.agent;
  byId("facts").replaceChildren(...factList([
    ["State", agentState(agent)], ["Session", String(agent.session)], ["Connected", duration(agent.seconds)], ["Address", agent.peer],
    ["Dialect", agent.dialect], ["Version", agent.version], ["Process", agent.instance], ["Credential", agent.credential],
    ["Out of service", Object.entries(agent.out_of_service).map(([name, reason]) => `${name}: ${reason}`).join("; ")],
    ["Shares names", agent.share ? "yes" : ""],
    ["Round trip", agent.round_trip === null ? "" : milliseconds(agent.round_trip) + " ms"],
    ["Streams", `${agent.streams}, of which ${agent.in_flight} have work under way`],
    ["From the agent", octets(agent.octets_in)], ["To the agent", octets(agent.octets_out)],
  ]));
  byId("related").replaceChildren(make("h3", {}, plural(agent.services.length, "service", "services")),
    make("ul", {}, ...agent.services.map((service) => make("li", {}, service))));
  showAgentActions(agent);
}

function showAgentActions(agent) {
  if (byId("detail-actions").dataset.shown === agent.session + String(rights.change) + agent.healthy) return;
  byId("detail-actions").dataset.shown = agent.session + String(rights.change) + agent.healthy;
  const streams = make("button", { type: "button", id: "agent-streams" }, "Streams");
  streams.addEventListener("click", () => { byId("filter").value = agent.agent; show("streams"); });
  const buttons = [streams];
  if (rights.change) {
    const drain = make("button", { type: "button", id: "agent-drain", disabled: !agent.healthy }, "Drain");
    drain.addEventListener("click", () => confirmAction("Drain " + agent.agent + "?",
      "It gets no new work. When its work under way is finished, its session ends, and it connects again.",
      "Drain", () => act("/agents/drain", { session: agent.session }, agent.agent + " drains.")));
    const end = make("button", { type: "button", id: "agent-disconnect", className: "danger" }, "Disconnect");
    end.addEventListener("click", () => confirmAction("Disconnect " + agent.agent + "?",
      "Its requests and streams break off now. It connects again by itself; to keep it away, revoke its token.",
      "Disconnect", () => act("/agents/disconnect", { session: agent.session }, agent.agent + " is disconnected.")));
    buttons.push(drain, end);
  }
  byId("detail-actions").replaceChildren(...buttons);
}

function routeDetail(route) {
  byId("title").textContent = route.public;
  const why = {
    up: "", draining: "Its agents drain and get no new requests.", away: "Its agent was here lately; visitors get 503 until it is back.",
    failing: "The health checks of its web server fail; visitors get 503.",
    down: "No agent is connected that serves it; visitors get an error.",
  };
  byId("facts").replaceChildren(...factList([
    ["State", routeState(route)], ["Why", why[route.state]], ["Address", link(route.public)], ["Kind", route.kind], ["Leads to", route.to],
    ["Published by", route.configured ? "the configuration" : "its agent"], ["Agents", route.agents.join(", ") || "none"],
    ["Left out", route.out_of_service.join(", ")],
  ]));
  byId("related").replaceChildren();
  byId("detail-actions").replaceChildren();
  delete byId("detail-actions").dataset.shown;
}

function streamDetail(stream) {
  byId("title").textContent = `stream ${stream.stream} of ${stream.agent}`;
  const why = {
    "": "", agent: "The agent takes less than the visitor sends: what is queued waits for the agent.",
    visitor: "The visitor does not read: this stream is held back, and no other.",
  };
  byId("facts").replaceChildren(...factList([
    ["Waits for", slowTag(stream)], ["Why", why[stream.slow]], ["Still for", stream.still === null ? "" : duration(stream.still)],
    ["Agent", stream.agent], ["Service", stream.service], ["Protocol", stream.protocol], ["Visitor", stream.visitor],
    ["Queued for the agent", octets(stream.queued) + " octets"], ["Not read by the visitor", octets(stream.unread) + " octets"],
  ]));
  byId("related").replaceChildren();
  byId("detail-actions").replaceChildren();
  delete byId("detail-actions").dataset.shown;
}

function sampleDetail(sample) {
  byId("title").textContent = sample.method + " " + sample.path;
  byId("facts").replaceChildren(...factList([
    ["Status", tag(String(sample.status), statusKind(sample.status))], ["Service", sample.service], ["Identifier", sample.request],
    ["Received", new Date(sample.time * 1000).toLocaleString()], ["Query", sample.query], ["Took", milliseconds(sample.seconds) + " ms"],
    ["Body of the request", octets(sample.octets_in) + " octets"], ["Body of the response", octets(sample.octets_out) + " octets"],
  ]));
  byId("related").replaceChildren(make("h3", {}, "Fields of the request"), make("dl", {},
    ...sample.headers.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
  byId("detail-actions").replaceChildren();
  delete byId("detail-actions").dataset.shown;
}

function showDetail() {
  const record = items.get(selected);
  if (!record) {
    if (!byId("facts").querySelector(".gone")) byId("facts").prepend(make("dt", { className: "gone bad" }, "Ended"), make("dd", {}, "It is no longer in the list."));
    for (const button of byId("detail-actions").querySelectorAll("button")) button.disabled = true;
    return;
  }
  ({ agents: agentDetail, routes: routeDetail, streams: streamDetail, samples: sampleDetail })[view](record);
}

function select(key) {
  selected = key;
  document.body.classList.add("selected");
  byId("detail").hidden = false;
  for (const row of byId("rows").children) row.setAttribute("aria-selected", String(row.dataset.key === key));
  delete byId("detail-actions").dataset.shown;
  showDetail();
}

function unselect() {
  const row = [...byId("rows").children].find((each) => each.dataset.key === selected);
  selected = null;
  document.body.classList.remove("selected");
  byId("detail").hidden = true;
  for (const each of byId("rows").children) each.setAttribute("aria-selected", "false");
  if (row) row.focus();
}

// Changes

async function act(path, body, done) {
  await call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  notify(done);
  readList().catch(() => undefined);                 // an edge that has just been drained may be gone
}

function confirmAction(title, text, yes, action, token = false) {
  byId("dialog-title").textContent = title;
  byId("dialog-text").textContent = text;
  byId("dialog-yes").textContent = yes;
  byId("dialog-token").hidden = !token;
  byId("dialog-problem").hidden = true;
  byId("token").value = "";
  confirmAction.action = action;
  byId("dialog").showModal();
  (token ? byId("token") : byId("dialog-no")).focus();
}

async function confirmed(event) {
  event.preventDefault();
  try {
    await confirmAction.action();
    byId("dialog").close();
  } catch (problem) {
    byId("dialog-problem").hidden = false;
    byId("dialog-problem").textContent = problem.message;
  }
}

async function readRights() {
  rights = await (await call("/rights")).json();
  for (const button of document.querySelectorAll("header .right")) button.hidden = !rights.change;
  byId("unlock").hidden = rights.change || !rights.token;
  byId("lock").hidden = !(rights.change && rights.token);
  delete byId("detail-actions").dataset.shown;
  if (selected !== null) showDetail();
}

async function unlock() {
  await call("/unlock", { method: "POST", headers: { Authorization: "Bearer " + byId("token").value.trim() } });
  byId("token").value = "";
  await readRights();
}

async function lock() {
  await call("/lock", { method: "POST" });
  await readRights();
}

// Views and keys: arrows or j and k move in the list, Enter opens, Escape closes, / filters, numbers change the list.

function show(name) {
  if (selected !== null) unselect();
  view = name;
  from = 0;
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.setAttribute("aria-selected", String(tab.dataset.view === name));
    tab.tabIndex = tab.dataset.view === name ? 0 : -1;
  }
  byId("list").setAttribute("aria-labelledby", "tab-" + name);
  byId("filters").hidden = byId("table").hidden = name === "limits";
  byId("slow-label").hidden = name !== "streams";
  byId("heads").replaceChildren(...(VIEWS[name] ? VIEWS[name].columns : []).map(([head, , kind]) => make("th", { scope: "col", className: kind }, head)));
  byId("rows").replaceChildren();
  byId("more").replaceChildren();
  byId("empty").hidden = byId("paging").hidden = true;
  byId("list").dataset.view = name;
  readList().catch((problem) => notify(problem.message));
}

function move(by) {
  const rows = [...byId("rows").children];
  const now = rows.findIndex((row) => row === document.activeElement || (selected !== null && row.dataset.key === selected));
  const next = rows[Math.min(rows.length - 1, Math.max(0, now + by))];
  if (!next) return;
  for (const row of rows) row.tabIndex = row === next ? 0 : -1;
  next.focus();
  if (selected !== null) select(next.dataset.key);
}

function turn(by) {
  from = Math.max(0, from + by * LIMIT);
  readList().catch((problem) => notify(problem.message));
}

function pressed(event) {
  if (byId("dialog").open) return;
  const typing = /^(INPUT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
  if (event.key === "Escape" && selected !== null) { unselect(); return; }
  if (event.key === "Escape" && typing) { event.target.blur(); return; }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const tabs = [...document.querySelectorAll("[role=tab]:not([hidden])")], inTabs = event.target.getAttribute && event.target.getAttribute("role") === "tab";
  const shift = (by) => () => { const next = tabs[(tabs.indexOf(event.target) + by + tabs.length) % tabs.length]; next.focus(); show(next.dataset.view); };
  const keys = {
    j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1), "/": () => byId("filter").focus(),
    Enter: () => select(document.activeElement.dataset.key),
  };
  tabs.forEach((tab, at) => { keys[String(at + 1)] = () => show(tab.dataset.view); });
  if (inTabs) Object.assign(keys, { ArrowRight: shift(1), ArrowLeft: shift(-1) });
  if (keys[event.key] && (event.key !== "Enter" || document.activeElement.dataset.key)) {
    event.preventDefault();
    keys[event.key]();
  }
}

function received(snapshot) {
  status = snapshot;
  remember(snapshot);
  showEdge();
  showAlerts();
  if (document.hidden) return undefined;             // nothing is read for a page that nobody sees
  showTotals();
  return readList();
}

for (const tab of document.querySelectorAll("[role=tab]")) tab.addEventListener("click", () => show(tab.dataset.view));
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("input", () => { from = 0; readList().catch((problem) => notify(problem.message)); });
byId("previous").addEventListener("click", () => turn(-1));
byId("next").addEventListener("click", () => turn(1));
byId("close").addEventListener("click", unselect);
byId("dialog-form").addEventListener("submit", confirmed);
byId("dialog-no").addEventListener("click", () => byId("dialog").close());
byId("drain").addEventListener("click", () => confirmAction("Drain the edge?",
  "It accepts nothing new, work under way may finish, and then the edge stops.", "Drain the edge",
  () => act("/drain", {}, "The edge drains.")));
byId("reload").addEventListener("click", () => confirmAction("Reload the configuration?",
  "The edge reads its file again. Sessions stay connected.", "Reload",
  async () => {
    const answer = await (await call("/reload", { method: "POST" })).json();
    notify(answer.changed.join("; "));
  }));
byId("unlock").addEventListener("click", () => confirmAction("Allow changes", "The token of [admin] is needed. This browser keeps a cookie.",
  "Allow changes", unlock, true));
byId("lock").addEventListener("click", () => lock().catch((problem) => notify(problem.message)));
document.addEventListener("keydown", pressed);
document.addEventListener("visibilitychange", () => { if (!document.hidden && status) received(status); });
show("agents");
follow("/events", "the edge does not answer; trying again", readRights, { status: received });
