// Keeps the page current. What the server says arrives as elements in JSON, and text stays text: nothing here
// parses HTML.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const QUIET = 15000; // Milliseconds without an event, of which there is one every 5 s.
const TICK = 5000;
const body = document.body;
let ahead = Number(body.dataset.now) - Date.now(); // The server's clock before that of this machine.
let heard = Date.now();
let source = null;

function build(node, space) {
  if (typeof node === "string") return document.createTextNode(node);
  const [tag, attributes, children] = node;
  const own = tag === "svg" ? SVG : space;
  const element = own ? document.createElementNS(own, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  for (const child of children) element.append(build(child, own));
  return element;
}

function replace(id, tree) {
  const old = document.getElementById(id);
  if (!old) return;
  const fresh = build(tree);
  const open = [...old.querySelectorAll("details[open]")].map((one) => one.id);
  if (old.matches("details[open]")) open.push(old.id);
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const holder = focused && focused.closest("[id]");
  old.replaceWith(fresh);
  for (const one of open) document.getElementById(one)?.setAttribute("open", "");
  if (holder) {
    const again = document.getElementById(holder.id);
    (again?.matches(focused.tagName) ? again : again?.querySelector(focused.tagName))?.focus();
  }
  dress(fresh);
}

function reorder(id, entries) {
  const parent = document.getElementById(id);
  if (!parent) return;
  const wanted = entries.map((one) => (typeof one === "string" ? document.getElementById(one) : build(one)));
  const kept = new Set(wanted);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  wanted.forEach((child, place) => {
    if (child && parent.children[place] !== child) parent.insertBefore(child, parent.children[place] || null);
  });
  dress(parent);
}

// Times, in the reader's zone and as spelling.py spells them.

const pad = (number) => String(number).padStart(2, "0");

function distance(seconds) {
  const minutes = Math.floor((Math.abs(seconds) + 30) / 60);
  if (minutes === 0) return "now";
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  let length = hours ? `${hours}h ${minutes % 60}m` : `${minutes}m`;
  if (days) length = hours % 24 ? `${days}d ${hours % 24}h` : `${days}d`;
  return seconds > 0 ? `in ${length}` : `${length} ago`;
}

function spell(at, form) {
  const moment = new Date(at);
  if (Number.isNaN(moment.getTime())) return at;
  const now = new Date(Date.now() + ahead);
  if (form === "from_now") return distance((moment - now) / 1000);
  const clock = `${pad(moment.getHours())}:${pad(moment.getMinutes())}`;
  if (form === "clock") return clock;
  const date = moment.toLocaleDateString("en", { month: "short", day: "numeric" });
  if (form === "day") return `${moment.toLocaleDateString("en", { weekday: "short" })} ${date}`;
  return moment.toDateString() === now.toDateString() ? clock : `${date}, ${clock}`;
}

function dress(root) {
  const times = root.matches("time") ? [root] : root.querySelectorAll("time");
  for (const time of times) {
    const words = spell(time.dateTime, time.dataset.form);
    if (time.textContent !== words) time.textContent = words;
  }
  const me = body.dataset.me;
  if (!me) return;
  for (const one of [root, ...root.querySelectorAll("[data-user]")]) {
    if (one.dataset && one.dataset.user !== undefined) {
      one.classList.toggle("mine", one.dataset.user.split(",").includes(me));
    }
  }
}

// The server's events.

function say(words, live) {
  const state = document.getElementById("state");
  if (state.textContent !== words) state.textContent = words;
  body.classList.toggle("stale", !live);
}

function lost() {
  say(`Not connected since ${spell(new Date(heard + ahead).toISOString(), "at")}. Trying again.`, false);
}

function connect() {
  source?.close();
  source = new EventSource(`${body.dataset.live}?since=${encodeURIComponent(body.dataset.version)}`);
  source.addEventListener("beat", (event) => {
    heard = Date.now();
    ahead = Number(event.data) - heard;
    say("Live", true);
  });
  source.addEventListener("message", (event) => {
    heard = Date.now();
    for (const [what, id, part] of JSON.parse(event.data)) {
      if (what === "set") replace(id, part);
      else reorder(id, part);
    }
    body.dataset.version = event.lastEventId;
    say("Live", true);
  });
  source.addEventListener("error", lost);
}

function tick() {
  dress(document.documentElement);
  if (!source) return;
  if (Date.now() - heard > QUIET) lost();
  if (source.readyState === EventSource.CLOSED || Date.now() - heard > 2 * QUIET) connect();
}

function rememberZone() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!zone || document.cookie.split("; ").includes(`zone=${zone}`)) return;
  document.cookie = `zone=${zone}; path=/; max-age=31536000; SameSite=Strict`;
  if (!body.dataset.version && document.cookie.includes(`zone=${zone}`)) location.reload(); // Days begin elsewhere.
}

dress(document.documentElement);
rememberZone();
if (body.dataset.version) {
  document.getElementById("state").setAttribute("role", "status");
  connect();
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && connect());
}
setInterval(tick, TICK);
