"use strict";

// What the pages of operators have in common.  Everything that others sent reaches the document by textContent or as an attribute of an
// element that was made here, never as HTML.

const byId = (id) => document.getElementById(id);

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value; else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function notify(text) {
  byId("notice").textContent = text;
  clearTimeout(notify.timer);
  notify.timer = setTimeout(() => { byId("notice").textContent = ""; }, 4000);
}

async function call(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (options.method && options.method !== "GET") headers["X-Tunnelstack"] = "1";
  const response = await fetch(path, { ...options, headers });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({ error: response.statusText }));
    throw new Error(problem.error || response.statusText);
  }
  return response;
}

// Text

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

function milliseconds(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const value = seconds * 1000;
  return value < 10 ? value.toFixed(1) : String(Math.round(value));
}

function octets(count) {
  if (count < 1024) return String(Math.round(count));
  if (count < 1024 * 1024) return (count / 1024).toFixed(1) + " Ki";
  if (count < 1024 ** 3) return (count / 1024 ** 2).toFixed(1) + " Mi";
  return (count / 1024 ** 3).toFixed(1) + " Gi";
}

// Live

function follow(path, lost, opened, listeners) {
  const source = new EventSource(path);
  const report = (result) => Promise.resolve(result).catch((problem) => notify(problem.message));
  source.addEventListener("open", () => {
    byId("connection").textContent = "live";
    byId("connection").classList.remove("lost");
    report(opened());
  });
  source.addEventListener("error", () => {
    byId("connection").textContent = lost;
    byId("connection").classList.add("lost");
  });
  for (const [name, listener] of Object.entries(listeners)) {
    source.addEventListener(name, (event) => report(listener(JSON.parse(event.data))));
  }
  return source;
}
