// Shows what /api/events sends, and documents, lists and history on request. Names and texts come from strangers: they become text nodes and nothing else.

const STATES = ["ready", "indexing", "pending", "failed", "held", "kept", "skipped"];
const STATE_WORDS = {
  ready: "searchable", indexing: "indexing", pending: "waiting", failed: "failed", held: "held",
  kept: "kept", skipped: "skipped",
};
const EVENT_WORDS = {
  uploaded: "new", replaced: "new version", renamed: "renamed", deleted: "deleted", failed: "failed",
  held: "held", approved: "approved", kept: "kept",
};
const VERBS = { ready: "+", replaced: "~", renamed: ">", deleted: "−", retired: "·", failed: "!" };
const VERB_WORDS = {
  ready: "now searchable", replaced: "new version searchable", renamed: "renamed", deleted: "deleted",
  retired: "old version removed", failed: "failed",
};
const TOKEN = "kbsync-token";
// The listener sends something every second. A quick restart is not worth a message.
// A browser opens only six connections to a host for all of its tabs, so hidden tabs close theirs.
const SILENCE = 3_500, RESTART = 2_000, HIDDEN = 3_000, LONGEST_WAIT = 30_000;

const $ = (id) => document.getElementById(id);
let csrfToken = "", frame = null;

// -- making elements ----------------------------------------------------------------------------------

function el(tag, given = {}, ...children) {
  const one = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "on") one.addEventListener("click", value);
    else if (value !== false && value != null) one.setAttribute(name, value === true ? "" : value);
  }
  one.append(...children.flat().filter((child) => child != null && child !== false));
  return one;
}

// Shows characters that move the cursor, change the text direction or can't be seen as escapes, as commands do.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\u{e0000}-\u{e007f}]/gu;
const ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
const plain = (text) => String(text).replace(UNSEEN, (c) => {
  const code = c.codePointAt(0), hex = (n, digits) => n.toString(16).padStart(digits, "0");
  if (code >= 0xdc80 && code <= 0xdcff) return `\\x${hex(code - 0xdc00, 2)}`; // a byte that isn't UTF-8
  return ESCAPES[c] ?? (code < 0x80 ? `\\x${hex(code, 2)}` : code > 0xffff ? `\\U${hex(code, 8)}` : `\\u${hex(code, 4)}`);
});
const path = (text) => el("bdi", { class: "path" }, plain(text));
const lines = (text) => text.split(/([\n\t])/).map((part, at) => (at % 2 ? part : plain(part))).join("");

// A path as the API takes it: base64url of its bytes, which may not be valid Unicode.
function keyOf(path) {
  const bytes = Array.from(path).flatMap((c) => {
    const code = c.codePointAt(0);
    return code >= 0xdc80 && code <= 0xdcff ? [code - 0xdc00] : [...new TextEncoder().encode(c)];
  });
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}
function pathOf(key) {
  const bytes = Uint8Array.from(atob(key.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch { return String.fromCharCode(...Array.from(bytes, (one) => (one < 0x80 ? one : 0xdc00 + one))); }
}

const button = (text, on, given = {}) => el("button", { type: "button", on, ...given }, text);
const empty = (...content) => el("p", { class: "empty" }, content);
const linkTo = (text, href, given = {}) => el("a", { class: "button quiet", href, ...given }, text);
const documentLink = (mirror, name, key = `open ${mirror} ${name}`) =>
  el("a", { class: "path", "data-key": key, href: hash("document", { mirror, key: keyOf(name) }) }, el("bdi", {}, plain(name)));

// A folder that cannot be listed is in the lists, too.
const fileLink = (mirror, name) => (name.endsWith("/") ? path(name) : documentLink(mirror, name));

// The key of the element with the keyboard focus, and of the heading above it. Elements are replaced and disabled.
let focused = {};
document.addEventListener("focusin", ({ target }) => {
  focused = { key: target.dataset.key, home: target.closest("[data-home]")?.dataset.home };
});
document.addEventListener("pointerdown", () => { focused = {}; });

const elementOf = (key) => [...$(view).querySelectorAll("[data-key]")].find((one) => one.dataset.key === key);

function restoreFocus() {
  const { key, home } = focused;
  if (!key || document.activeElement !== document.body || document.querySelector("dialog[open]")) return;
  (elementOf(key) ?? elementOf(home) ?? $("main")).focus({ preventScroll: true });
}

// The browser returns the focus to the element that had it, unless that was replaced meanwhile.
function openDialog(dialog) {
  const opener = focused;
  dialog.addEventListener("close", () => {
    if (dialog.contains(document.activeElement)) document.activeElement.blur();
    if (document.activeElement === document.body) focused = opener;
    restoreFocus();
  }, { once: true });
  dialog.showModal();
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch { toast("Couldn't copy; select the text and copy it"); }
}
const copyButton = (text, label) => button("Copy path", () => copy(text), { class: "quiet", "data-key": `copy ${label}`, "aria-label": `Copy path of ${plain(label)}` });

// -- words and numbers --------------------------------------------------------------------------------

const number = (n) => n.toLocaleString("en");
const counted = (n, one, many = one + "s") => `${number(n)} ${n === 1 ? one : many}`;

function bytes(n) {
  const [unit, one] = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]].find(([, size]) => n >= size) || ["B", 1];
  return `${one === 1 ? n : (n / one).toFixed(1)} ${unit}`;
}

function span(seconds) {
  if (seconds < 0.95) return `${Math.max(0.1, seconds).toFixed(1)} s`;
  if (seconds < 9.95) return `${seconds.toFixed(1).replace(".0", "")} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

const dateOf = (at) => new Date(at).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
let skew = 0; // seconds by which the machine's clock is ahead of the browser's
const now = () => Date.now() / 1000 + skew;
const ago = (at) => (now() - at < 3 ? "just now" : `${span(Math.round(now() - at))} ago`);
const TIMES = { ago, for: (at) => span(Math.max(0, now() - at)) };

function time(at, kind = "ago") {
  return el("time", { datetime: new Date(at * 1000).toISOString(), "data-at": at, "data-kind": kind }, TIMES[kind](at));
}
function tick() {
  for (const one of document.querySelectorAll("time[data-at]")) {
    const text = TIMES[one.dataset.kind](Number(one.dataset.at));
    if (one.textContent !== text) one.textContent = text;
  }
  refreshFiles();
  refreshDocument();
}

// Focuses the first new row of a list, where the button for more was.
function focusRow(row) {
  const link = row?.querySelector("a");
  if (row && !link) row.tabIndex = -1;
  (link ?? row)?.focus({ preventScroll: true });
}

// -- views --------------------------------------------------------------------------------------------

// By the name in the address, after #/.
const VIEWS = { "": "overview", search: "results", document: "document", files: "files", history: "history" };
let view = "overview";

function hash(name, given = {}) {
  const params = new URLSearchParams(Object.entries(given).filter(([, value]) => value));
  return `#/${name}${params.size ? `?${params}` : ""}`;
}

function here() {
  const [, name, query] = /^#?\/?(\w*)\??(.*)$/s.exec(location.hash);
  return [name, new URLSearchParams(query)];
}

// A new title has the focus, unless the view only shows newer data.
function reveal(shown, title = "", { moves = true } = {}) {
  view = shown;
  for (const one of Object.values(VIEWS)) $(one).hidden = one !== shown || !$("login").hidden;
  if (title) $(`${shown}-title`).replaceChildren(title);
  nameTab();
  if (!title || !moves) return;
  $(`${shown}-title`).focus({ preventScroll: true });
  scrollTo(0, 0);
}

let problem = ""; // what the overview reports, if that needs attention

// The tab and the browser's history name the view, and a problem by a mark.
function nameTab() {
  const names = { overview: problem, results: `Search: ${plain(here()[1].get("q") ?? "")}` };
  const name = !$("login").hidden ? "" : isGone() ? problem : names[view] ?? $(`${view}-title`).textContent;
  document.title = `${problem && "! "}${name && `${name} – `}kbsync`;
}

$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  $(!$("login").hidden ? "token" : view === "overview" ? "sentence" : `${view}-title`).focus();
});

// How many of the page's own entries in the browser's history are before this one. Each entry keeps its number,
// how many hits it shows, and which link was followed: its key, the position of the page, and how many files it showed.
let depth = history.state?.depth ?? 0;

function visit(address, { instead = false, hits = 0, opened = null } = {}) {
  if (!instead) depth += 1;
  history[instead ? "replaceState" : "pushState"]({ depth, hits, opened }, "", address);
}

function goBack() {
  if (depth) history.back();
  else location.hash = "#/";
}

async function route() {
  const [name, params] = here(), given = Object.fromEntries(params);
  asking?.abort();
  unanswered = null;
  if (name !== "search") clearSearch();
  try {
    if (name === "search") await openSearch(given);
    else if (name === "document") await showDocument(given);
    else if (name === "files") await showFiles(given, { least: history.state?.opened?.shown });
    else if (name === "history") await showHistory(given);
    else reveal("overview");
    returnToLink();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.message === NO_RESPONSE) unanswered = route;
    reveal("overview");
    report(error);
  }
}
document.addEventListener("click", ({ target }) => {
  const link = target.closest?.("a[href^='#/']");
  if (!link) return;
  const opened = { key: link.dataset.key, top: scrollY, shown: view === "files" ? listed.shown : 0 };
  visit(location.hash, { ...history.state, instead: true, opened });
});

// Returns to the link that was followed from this entry.
function returnToLink() {
  const { opened } = history.state ?? {};
  if (!opened) return;
  scrollTo(0, opened.top);
  elementOf(opened.key)?.focus({ preventScroll: true });
}

window.addEventListener("hashchange", () => {
  // A link was followed if the entry has no number yet.
  depth = history.state?.depth ?? depth + 1;
  visit(location.hash, { ...history.state, instead: true });
  route();
});
for (const one of document.querySelectorAll("[data-back]")) one.addEventListener("click", goBack);

// -- asking -------------------------------------------------------------------------------------------

function headers(more = {}) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { ...more, authorization: `Bearer ${token}` } : more;
}

const errorOf = (answer, reply) => reply.error || `kbsync returned status ${answer.status}`;

// Throws an error with the listener's message; returns null if the page asks for a token instead.
async function get(name, given = {}) {
  const params = new URLSearchParams(Object.entries(given).filter(([, value]) => value));
  asking?.abort();
  const control = (asking = new AbortController());
  const late = new Error(`No response within ${LONGEST_WAIT / 1000} s; close other kbsync pages, or try again`);
  const timer = setTimeout(() => control.abort(late), LONGEST_WAIT);
  let answer, reply;
  try {
    answer = await request(`/api/${name}?${params}`, { headers: headers(), signal: control.signal });
    if (answer.status === 401) { login(""); return null; }
    reply = await answer.json().catch(() => ({}));
    control.signal.throwIfAborted();
  } finally {
    clearTimeout(timer);
    if (asking === control) asking = null;
  }
  if (!answer.ok) throw Object.assign(new Error(errorOf(answer, reply)), { status: answer.status });
  return reply;
}

// A browser's error for a request without a response is a TypeError, with a text of its own.
const request = (address, given) => fetch(address, given).catch((error) => {
  throw error.name === "TypeError" ? new Error(NO_RESPONSE) : error;
});

async function order(name, message) {
  const send = () => request(`/api/${name}`, {
    method: "POST",
    headers: headers({ "content-type": "application/json", "x-kbsync-word": csrfToken }),
    body: JSON.stringify(message),
  });
  let answer = await send();
  if (answer.status === 403) {
    // A restarted kbsync has another word. It refuses the old one before it does anything.
    const word = (await request("/api/status", { headers: headers() })).headers.get("x-kbsync-word");
    if (word && word !== csrfToken) {
      csrfToken = word;
      answer = await send();
    }
  }
  if (answer.status === 401) return login("");
  const response = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(errorOf(answer, response));
  return response;
}

async function act(button, name, message, done) {
  button.disabled = true;
  try {
    // If the page asks for a token instead, nothing was done.
    if (await order(name, message)) {
      toast(done);
      listed.counts = opened.counts = null;
    }
  } catch (error) {
    toast(`Failed: ${plain(error.message)}`);
  }
  setTimeout(() => {
    if (isGone()) button.dataset.off = ""; else button.disabled = false;
    restoreFocus();
  }, 1500);
}

let fading = 0;
function toast(text) {
  $("toast").textContent = text;
  $("toast").classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => $("toast").classList.remove("shown"), 5000);
}

// A newer request ends the one before it.
function report(error) {
  if (error.name !== "AbortError") toast(plain(error.message));
  return null;
}

// -- the stream ---------------------------------------------------------------------------------------

const NO_RESPONSE = "kbsync isn't responding";
let streaming = null, wait = 1000, resting = 0, losing = 0;
let refusal = ""; // why the listener refused the last stream

// The page shows an old state: its buttons are off, and it says so.
const isGone = () => document.body.dataset.link === "gone";

// With the options in use, after the first frame.
const commandOf = (command) => plain(frame ? frame.commands[command] : `kbsync ${command}`);

function markLost() {
  const sentence = plain(refusal) || NO_RESPONSE;
  if (!$("login").hidden || (isGone() && $("sentence").textContent === sentence)) return;
  document.body.dataset.link = "gone";
  for (const button of document.querySelectorAll("#overview button:not([data-key^='copy ']), #held button:not(#held-keep)")) {
    if (!button.disabled) { button.disabled = true; button.dataset.off = ""; }
  }
  const before = frame ? ["Last update: ", time(frame.at), ". "] : refusal ? [] : ["Is it running? "];
  $("sentence").textContent = sentence;
  $("beneath").replaceChildren(...before, refusal ? "This page keeps trying." : `Check with: ${commandOf("status")}`);
  $("announcement").textContent = problem = sentence;
  nameTab();
}

function markLive() {
  clearTimeout(losing);
  losing = 0;
  if (!isGone()) return;
  delete document.body.dataset.link;
  for (const button of document.querySelectorAll("[data-off]")) {
    button.disabled = false;
    delete button.dataset.off;
  }
}

async function stream() {
  clearTimeout(resting);
  if (document.hidden) return linked("waiting", "paused");
  const control = (streaming = new AbortController());
  let watchdog = 0, refused = "";
  const alive = () => { clearTimeout(watchdog); watchdog = setTimeout(() => { markLost(); control.abort(); }, SILENCE); };
  try {
    alive();
    const answer = await fetch("/api/events", { headers: headers(), signal: control.signal, cache: "no-store" });
    if (answer.status === 401) return login(sessionStorage.getItem(TOKEN) ? "Wrong token." : "");
    if (answer.ok) {
      csrfToken = answer.headers.get("x-kbsync-word") || "";
      await read(answer.body.getReader(), alive);
    } else refused = errorOf(answer, await answer.json().catch(() => ({})));
  } catch { /* it starts again below */ } finally {
    clearTimeout(watchdog);
    if (streaming === control) streaming = null;
  }
  if (!$("login").hidden || streaming) return;
  if (document.hidden) return linked("waiting", "paused");
  linked("lost", "reconnecting");
  refusal = refused;
  if (isGone()) markLost();
  losing ||= setTimeout(markLost, RESTART);
  resting = setTimeout(stream, wait);
  wait = Math.min(wait * 2, 15_000);
}

async function read(reader, alive) {
  const decoder = new TextDecoder();
  let kept = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    alive();
    kept += decoder.decode(value, { stream: true });
    const events = kept.split("\n\n");
    kept = events.pop();
    events.forEach(receive);
  }
}

function receive(event) {
  const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(event) || [];
  if (name === "frame") {
    wait = 1000;
    if (!$("login").hidden) {
      $("login").hidden = true;
      reveal(view);
    }
    show(JSON.parse(data));
  } else if (name === "trouble") {
    linked("lost", "the state cannot be read");
    $("sentence").textContent = problem = plain(JSON.parse(data).detail);
    nameTab();
  }
}

function linked(state, text) {
  $("link").dataset.state = state;
  $("link").lastElementChild.textContent = text;
}

let hiding = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(() => streaming?.abort(), HIDDEN);
  else if (!streaming && $("login").hidden) stream();
});

function login(wrong) {
  sessionStorage.removeItem(TOKEN);
  linked("waiting", "locked");
  if (wrong || $("login").hidden) $("login-wrong").textContent = wrong;
  $("login").hidden = false;
  reveal(view);
  $("token").focus();
}
$("login").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  $("token").value = "";
  // A request header can't have other characters; copied text may have invisible ones.
  if (!/^[\x20-\x7e]+$/.test(token)) { login("This token contains invalid characters; copy it again."); return; }
  sessionStorage.setItem(TOKEN, token);
  $("login").hidden = true;
  stream();
  route();
  if (view === "overview") $("sentence").focus();
});

// -- the state --------------------------------------------------------------------------------------

function show(state) {
  markLive();
  frame = state;
  skew = state.at - Date.now() / 1000;
  if (state.silence) linked("lost", `stuck for ${span(state.silence)}`);
  else linked("live", "live");
  const version = `kbsync ${state.version}`;
  if ($("version").textContent !== version) $("version").textContent = version;
  fillMirrors(state.mirrors);
  showSummary(state.mirrors.filter((one) => !isBeingRemoved(one)));
  showRemoved(state.mirrors);
  showMirrors(state.mirrors);
  showAudits(state.mirrors);
  showChanges(state.changes);
  restoreFocus();
  const again = unanswered;
  unanswered = null;
  again?.();
  tick();
}

// Only mirrors that keep documents have `kept`.
const total = (mirrors, state) => mirrors.reduce((sum, one) => sum + (one.documents[state] ?? 0), 0);
const isHalted = (one) => one.halt && !["deletions-held", "recipe-held"].includes(one.halt.reason);
const PASSING = ["target-down", "failing"];
const needsPerson = (one) => isHalted(one) && !PASSING.includes(one.halt.reason);
const isAsked = (one) => one.renewals != null;
const isBeingRemoved = (one) => one.removal != null && !one.removal.problem;

function tone(one) {
  if (isBeingRemoved(one)) return "moving";
  if (isHalted(one) || one.documents.failed) return "failed";
  if (one.held || isAsked(one)) return "held";
  if (one.paused) return "none";
  if (one.documents.pending || one.documents.indexing) return "moving";
  return one.last_pass ? "ready" : "none";
}

function showSummary(mirrors) {
  const halted = mirrors.filter(isHalted), asked = mirrors.filter(isAsked), failed = total(mirrors, "failed");
  const held = mirrors.reduce((sum, one) => sum + one.held, 0), stopped = mirrors.some(needsPerson);
  const halts = halted.length === 1 ? `${halted[0].name} is halted` : `${halted.length} mirrors are halted`;
  const paused = mirrors.filter((one) => one.paused && !isHalted(one)), pausedDocuments = total(paused, "pending");
  const haltedDocuments = total(halted, "pending") + total(halted, "indexing");
  const moving = total(mirrors, "pending") + total(mirrors, "indexing") - pausedDocuments - haltedDocuments;
  const ready = ["ready", "held", "kept"].reduce((sum, state) => sum + total(mirrors, state), 0);
  let sentence = ready ? `All ${counted(ready, "document")} are searchable` : "No documents yet";
  if (ready === 1) sentence = "1 document is searchable";
  if (pausedDocuments) sentence = `${counted(pausedDocuments, "document")} ${pausedDocuments === 1 ? "is" : "are"} waiting while paused`;
  if (moving) sentence = `${counted(moving, "document")} in progress`;
  if (failed) sentence = `${counted(failed, "document")} failed`;
  if (halted.length) sentence = halts;
  if (asked.length === 1) sentence = `${asked[0].name} is waiting for your approval`;
  if (asked.length > 1) sentence = `${asked.length} mirrors are waiting for your approval`;
  if (held) sentence = `${counted(held, "deletion")} ${held === 1 ? "is" : "are"} waiting for your approval`;
  if (stopped) sentence = halts;
  if (!mirrors.length) sentence = "No mirrors";
  const parts = [
    (halted.length || failed || asked.length || held || moving || pausedDocuments) && `${number(ready)} searchable`,
    halted.length && sentence !== halts && halts,
    halted.length && held && sentence === halts && `${number(held)} held`,
    (halted.length || asked.length || held) && failed && `${number(failed)} failed`,
    (halted.length || asked.length || held || failed) && moving && `${number(moving)} in progress`,
    haltedDocuments && `${number(haltedDocuments)} waiting while halted`,
    (halted.length || asked.length || held || failed || moving) && pausedDocuments && `${number(pausedDocuments)} waiting while paused`,
    counted(mirrors.length, "mirror"),
  ];
  const beneath = parts.filter(Boolean).join(" · ");
  if ($("sentence").textContent !== sentence) {
    $("sentence").textContent = sentence;
    if (!moving || halted.length || asked.length || held) $("announcement").textContent = sentence;
  }
  problem = halted.length || asked.length || held || failed ? sentence : "";
  nameTab();
  if ($("beneath").textContent !== beneath) $("beneath").textContent = beneath;
}

// The order of the exit codes: 2, 3, 4, 1. Work in progress isn't a problem here, because kbsync runs.
const RANKS = [
  (one) => needsPerson(one) && one.halt.reason === "config",
  needsPerson,
  (one) => one.held,
  (one) => isAsked(one) || one.documents.held,
  isHalted,
  (one) => one.documents.failed,
  (one) => one.documents.pending || one.documents.indexing,
  (one) => !one.last_pass,
  () => true,
];
const shown = new Map(); // by mirror: the data that it shows, and the element

function showMirrors(mirrors) {
  const rank = (one) => RANKS.findIndex((is) => is(one));
  const sorted = mirrors.map((one, at) => [rank(one), at, one]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const cards = sorted.map(([, , one]) => card(one));
  const place = $("mirrors");
  cards.forEach((one, at) => { if (place.children[at] !== one) place.insertBefore(one, place.children[at] || null); });
  while (place.children.length > cards.length) place.lastChild.remove();
  for (const name of shown.keys()) if (!mirrors.some((one) => one.name === name)) shown.delete(name);
}

function card(one) {
  const { oldest_pending_s: _, ...rest } = one;
  const json = JSON.stringify(rest), known = shown.get(one.name);
  if (known?.json === json) return known.element;
  const made = makeCard(one);
  if (known) known.element.replaceWith(made);
  shown.set(one.name, { json, element: made });
  return made;
}

function makeCard(one) {
  return el("article", { class: "mirror", "data-tone": tone(one), "aria-label": `Mirror ${one.name}`, "data-home": `mirror ${one.name}` },
    el("div", { class: "title" },
      el("h2", { tabindex: -1, "data-key": `mirror ${one.name}` }, plain(one.name)),
      el("span", { class: "where mono" }, el("bdi", {}, plain(one.folder))),
      el("span", { class: "state" }, stateOf(one))),
    ...(isBeingRemoved(one) ? [removalProgress(one.removal)] : [bar(one.documents), legend(one), notices(one), moving(one), failures(one), actions(one)]));
}

function removalProgress({ documents, deleted }) {
  return empty(documents ? `${number(deleted)} of ${counted(documents, "document")} deleted` : "Waiting for running uploads to finish");
}

const beingRemoved = new Set(); // mirrors that were being removed in the last frame

function showRemoved(mirrors) {
  for (const name of beingRemoved) {
    if (!mirrors.some((one) => one.name === name)) toast(`${plain(name)} and its documents were removed`);
  }
  beingRemoved.clear();
  for (const one of mirrors.filter(isBeingRemoved)) beingRemoved.add(one.name);
}

function actions({ name, paused: pause, last_pass: compared, ...one }) {
  return el("div", { class: "tools" },
    linkTo("Files", hash("files", { mirror: name }), { "data-key": `files ${name}`, "aria-label": `Files of ${name}` }),
    linkTo("History", hash("history", { mirror: name }), { "data-key": `history ${name}`, "aria-label": `History of ${name}` }),
    compared && !isHalted(one) && auditButton({ name, ...one }),
    pause
      ? button("Resume", (event) => act(event.currentTarget, "resume", { mirror: name }, `${name} resumed`),
        { "data-key": `pause ${name}`, "aria-label": `Resume ${name}` })
      : button("Pause", () => askToPause(name), { class: "quiet", "data-key": `pause ${name}`, "aria-label": `Pause ${name}` }),
    button("Remove", () => askToRemove(name), { class: "quiet", "data-key": `remove ${name}`, "aria-label": `Remove ${name}` }));
}

function paused({ until, reason }) {
  const word = reason === "quiet-hours" ? "quiet hours" : "paused";
  return until ? `${word} until ${dateOf(until)}` : word;
}

function stateOf(one) {
  if (isBeingRemoved(one)) return "being removed";
  if (isHalted(one)) return `halted: ${plain(one.halt.words ?? one.halt.reason)}`;
  if (one.held || isAsked(one)) return "waiting for approval";
  if (one.paused) return paused(one.paused);
  if (one.documents.failed) return `${number(one.documents.failed)} failed`;
  if (one.documents.pending || one.documents.indexing) return "working";
  return one.last_pass ? "up to date" : "no pass yet";
}

function bar(documents) {
  const parts = STATES.filter((state) => state !== "skipped" && documents[state]);
  if (!parts.length) return null;
  const made = el("div", { class: "bar", "aria-hidden": "true" });
  for (const state of parts) {
    const part = el("i", { class: state });
    part.style.flexGrow = documents[state];
    made.append(part);
  }
  return made;
}

function legend(one) {
  const counts = STATES.filter((state) => one.documents[state] || state === "ready");
  return el("div", { class: "legend" },
    counts.map((state) => el("span", { class: state }, countOf(one, state))),
    el("span", { class: "plain" }, `${one.target === "local" ? "built-in" : plain(one.target)} knowledge base`),
    one.last_pass && el("span", { class: "plain" }, "last pass ", time(Date.parse(one.last_pass) / 1000)),
    one.audited && el("span", { class: "plain" }, "verified ", time(one.audited.at), `: ${auditOf(one.audited)}`));
}

// Lists of these are short enough to show.
const LISTED = ["failed", "skipped", "held", "pending", "indexing"];

function countOf(one, state) {
  const words = [el("b", {}, number(one.documents[state])), ` ${STATE_WORDS[state]}`];
  if (!LISTED.includes(state)) return words;
  return el("a", { href: hash("files", { mirror: one.name, state }), "data-key": `${state} files ${one.name}` }, words);
}

function notices(one) {
  const made = [];
  if (isHalted(one)) {
    made.push(el("div", { class: "notice" },
      el("p", { class: "why" }, plain(one.halt.detail)),
      cure(one, retryButton(one, null, "Retry now", `resume ${one.name}`))));
  }
  if (isAsked(one)) {
    const { count, size, changes } = one.renewals;
    made.push(waiting(one, "renewals", `${counted(count, "document")} (${bytes(size)}) would be reindexed`,
      `${because(changes)} Until you approve, they stay searchable as they are.`));
  }
  if (one.held) {
    made.push(waiting(one, "deletions", `${counted(one.held, "document")} would be deleted`,
      "Until you approve, they stay searchable."));
  }
  if (one.removal && !dismissed.has(one.removal.at)) made.push(failedRemoval(one));
  if (one.note) made.push(el("div", { class: "notice note" }, el("p", {}, plain(one.note))));
  const better = one.better_vectors;
  if (better && better.made < better.passages) {
    made.push(el("div", { class: "notice note" },
      el("p", {}, `Better vectors: ${number(better.made)} of ${number(better.passages)} passages done`)));
  }
  for (const sentence of one.unkept ?? []) {
    made.push(el("div", { class: "notice note" }, el("p", {}, plain(sentence))));
  }
  return made;
}

const dismissed = new Set(); // failed removals, by the time they began

function failedRemoval({ name, removal: { at, problem } }) {
  const dismiss = (event) => { dismissed.add(at); event.currentTarget.closest(".notice").remove(); restoreFocus(); };
  return el("div", { class: "notice" },
    el("p", { class: "why" }, `${plain(name)} was not removed`),
    el("p", {}, plain(problem)),
    el("p", {}, "The mirror continues. Fix the cause and try again, or remove the mirror and keep its documents."),
    el("div", { class: "cure" },
      button("Try again", () => askToRemove(name), { "data-key": `again ${name}`, "aria-label": `Try again to remove ${name}` }),
      button("Dismiss", dismiss, { class: "quiet", "data-key": `dismiss ${name}` })));
}

const because = (changes) => `Settings changed${changes ? `, ${plain(changes)}` : ""}.`;

function waiting(one, kind, why, meanwhile) {
  const look = (event) => { event.currentTarget.focus(); review(one.name, kind); };
  return el("div", { class: "notice held" },
    el("p", { class: "why" }, why),
    el("p", {}, meanwhile),
    el("div", { class: "cure" },
      button("Review", look, { class: "strong", "data-key": `${kind} ${one.name}`, "aria-label": `Review ${kind} of ${one.name}` })));
}

// A command that fixes nothing itself: it continues after the user has done what the detail says.
const goesOn = (halt) => /^kbsync (retry|--once)/.test(halt.cure) && !["target-rejects", "target-stuck"].includes(halt.reason);

function cure(one, retry) {
  return el("div", { class: "cure" },
    one.halt.cure && [
      el("span", { class: "dim" }, goesOn(one.halt) ? "Then run:" : "Fix it with:"),
      el("code", {}, plain(one.halt.cure)),
      button("Copy", () => copy(one.halt.cure), { class: "quiet", "data-key": `copy ${one.name}`, "aria-label": `Copy the command for ${one.name}` }),
    ],
    retry);
}

function moving(one) {
  if (!one.moving.length) return null;
  const more = one.documents.pending + one.documents.indexing - one.moving.length;
  return el("div", { class: "group" },
    el("div", { class: "head" }, el("h3", {}, "In progress")),
    el("ol", { class: "rows" }, one.moving.map((item) => el("li", {},
      documentLink(one.name, item.path),
      el("span", { class: "aside" }, `${STATE_WORDS[item.state] ?? item.state} for `, time(item.since, "for")),
      item.reason && el("span", { class: "why" }, plain(item.reason))))),
    more > 0 && empty(`and ${number(more)} more`));
}

const MOST_FAILED = 6;

function failures(one) {
  if (!one.failed.length) return null;
  const more = one.documents.failed - Math.min(one.failed.length, MOST_FAILED);
  const again = one.failed.filter((item) => item.may_succeed).length;
  const words = again === one.documents.failed ? "Retry all" : "Retry files that can succeed";
  return el("div", { class: "group" },
    el("div", { class: "head" },
      el("h3", {}, "Failed"),
      again > 1 && retryButton(one, null, words, `retry all ${one.name}`, { may_succeed: true })),
    el("ol", { class: "rows" }, one.failed.slice(0, MOST_FAILED).map((item) => fileRow(one.name, item, true))),
    more > 0 && empty(el("a", { href: hash("files", { mirror: one.name, state: "failed" }), "data-key": `more failed ${one.name}` }, `and ${number(more)} more`)));
}

function fileRow(mirror, item, withReason) {
  const again = item.state === "failed" && item.may_succeed !== false;
  return el("li", {},
    fileLink(mirror, item.path),
    again ? retryButton({ name: mirror }, [item.path.replace(/\/$/, "")], "Retry", `retry ${mirror} ${item.path}`)
      : el("span", { class: "aside" }, item.size == null ? "" : bytes(item.size)),
    withReason && item.reason && el("span", { class: "why" }, plain(item.reason)));
}

function retryButton(one, paths, text, key, more = {}) {
  const message = { mirror: one.name, ...(paths && { paths }), ...more };
  const retry = (event) => act(event.currentTarget, "retry", message, "Retry requested");
  return button(text, retry, { "data-key": key, "aria-label": paths ? `Retry ${plain(paths[0])}` : `${text}: ${one.name}` });
}

const audits = new Map(); // by mirror with a requested audit: when the previous one ended

function auditOf({ duplicate, orphaned, repaired }) {
  const problems = [
    repaired && `${counted(repaired, "document")} repaired`,
    duplicate && counted(duplicate, "duplicate"),
    orphaned && counted(orphaned, "orphaned document"),
  ].filter(Boolean);
  return problems.length ? problems.join(", ") : "all is well";
}

function showAudits(mirrors) {
  for (const one of mirrors) {
    if (!audits.has(one.name) || !one.audited || one.audited.at === audits.get(one.name)) continue;
    audits.delete(one.name);
    toast(`${plain(one.name)} verified: ${auditOf(one.audited)}`);
  }
}

function auditButton(one) {
  const audit = (event) => {
    audits.set(one.name, one.audited?.at);
    act(event.currentTarget, "verify", { mirror: one.name },
      "Verification started; the result will appear here");
  };
  return button("Verify", audit, { class: "quiet", "data-key": `audit ${one.name}`, "aria-label": `Verify ${one.name}`,
    title: "Compares the knowledge base's own list with what should be in it" });
}

// -- what is held -------------------------------------------------------------------------------------

const KINDS = {
  deletions: {
    ask: (held, name) => `Delete ${counted(held.count, "document")} of ${name}?`,
    effect: () => "These files are gone from the folder or no longer selected. Their documents stay searchable until you "
      + "approve; then kbsync deletes them from the knowledge base. If a file comes back before that, its document stays.",
    yes: (held) => `Delete ${counted(held.count, "document")}`, done: "Approved; deletion has started",
    button: "danger",
  },
  renewals: {
    ask: (held, name) => `Reindex ${counted(held.count, "document")} of ${name}?`,
    effect: (held) => `${because(held.changes)} The service charges for the ${bytes(held.size)} that kbsync sends again. `
      + "Until you approve, the documents stay searchable as they are. kbsync still sends files that change in the meantime.",
    yes: (held) => `Reindex ${counted(held.count, "document")}`, done: "Approved; reindexing has started",
    button: "strong",
  },
};

async function review(name, kind) {
  const words = KINDS[kind];
  let held;
  try { held = await get("held", { mirror: name, kind }); } catch (error) { return report(error); }
  if (!held) return null;
  if (!held.count) return toast("Nothing is waiting for approval any more");
  $("held-title").textContent = words.ask(held, plain(name));
  $("held-effect").textContent = words.effect(held);
  $("held-list").replaceChildren(...held.paths.map((one) => el("li", {}, path(one))));
  const more = held.count - held.paths.length;
  $("held-more").textContent = more ? `and ${number(more)} more; to list them: ${commandOf("plan")}` : "";
  $("held-yes").textContent = words.yes(held);
  $("held-yes").className = words.button;
  $("held-yes").onclick = async (event) => {
    await act(event.currentTarget, "approve", { mirror: name, kind, version: held.version }, words.done);
    $("held").close();
  };
  openDialog($("held"));
  $("held-keep").focus();
  return null;
}
$("held-keep").addEventListener("click", () => $("held").close());

// -- the last changes ---------------------------------------------------------------------------------

let changed = "";
function showChanges(changes) {
  const names = frame.mirrors.map((one) => one.name), json = JSON.stringify([changes, names]);
  if (json === changed) return;
  changed = json;
  const several = names.length > 1 || changes.some((one) => !names.includes(one.mirror));
  const deleted = new Set(); // the newest changes come first, so a path in here is gone
  const link = ({ at, mirror, path: name, event }) => {
    const key = `${mirror}/${name}`;
    if (event === "deleted") deleted.add(key); else if (event !== "retired" && names.includes(mirror) && !deleted.has(key)) return documentLink(mirror, name, `change ${at} ${mirror} ${name}`);
    return path(name);
  };
  const rows = changes.toReversed().map((one) => el("li", {},
    el("span", {},
      el("span", { class: `verb ${one.event}`, title: VERB_WORDS[one.event] || "", "aria-hidden": "true" }, VERBS[one.event] || "·"),
      el("span", { class: "hidden" }, `${VERB_WORDS[one.event] || one.event}: `),
      link(one),
      several && el("span", { class: "dim" }, `  ${one.mirror}${names.includes(one.mirror) ? "" : " (removed)"}`)),
    el("span", { class: "aside", title: one.event === "failed" ? "" : `after ${span(one.seconds)}` }, time(one.at)),
    one.reason && one.event === "failed" && el("span", { class: "why" }, plain(one.reason))));
  $("changes").replaceChildren(...(rows.length ? rows : [el("li", { class: "empty" }, "Nothing has changed since kbsync started.")]));
}

// -- search -------------------------------------------------------------------------------------------

const MORE_HITS = 10, MOST_AT_ONCE = 50, MOST_HITS = 200, DAY = 86_400_000;
let asking = null, typing = 0;
let unanswered = null; // repeats the request of the view that had no response, when kbsync is back
$("query").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => runSearch({ unfinished: "1" }), 300); });
$("search").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(typing); runSearch(); });
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("change", () => runSearch());
$("leave").addEventListener("click", leave);
document.addEventListener("keydown", (event) => {
  const writes = event.target.closest?.("input, select, dialog");
  if (event.key === "/" && !writes && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); $("query").focus(); }
  // In a filter, Escape closes the browser's list of choices, which it doesn't report.
  if (event.key === "Escape" && view !== "overview" && !document.querySelector("dialog[open], #filters :focus")) {
    if (view === "results") leave(); else goBack();
  }
  if (view === "results" && ["ArrowDown", "ArrowUp"].includes(event.key) && event.target.closest?.("#query, .hit")) {
    const hits = [...document.querySelectorAll(".hit:has(a.path)")], at = hits.indexOf(event.target.closest(".hit"));
    const next = at + (event.key === "ArrowDown" ? 1 : -1), to = next < 0 ? $("query") : hits[next]?.querySelector("a.path");
    if (to) { to.focus(); event.preventDefault(); }
  }
});

// Filters of a closed search would narrow the next one unseen.
function clearSearch() {
  for (const id of ["query", "only-mirror", "only-type", "only-time"]) $(id).value = "";
}

function leave() {
  asking?.abort();
  unanswered = null;
  clearSearch();
  if (location.hash.length > 2) visit("#/");
  reveal("overview");
  $("query").focus();
}

function fillMirrors(mirrors) {
  const chosen = $("only-mirror"), names = mirrors.map((one) => one.name);
  chosen.hidden = names.length < 2;
  if (chosen.dataset.names === String(names)) return;
  chosen.dataset.names = names;
  const { value } = chosen;
  chosen.replaceChildren(el("option", { value: "" }, "All mirrors"), ...names.map((name) => el("option", { value: name }, name)));
  if (names.includes(value)) chosen.value = value;
}

async function openSearch({ q = "", mirror = "", type = "", days = "" }) {
  $("query").value = q;
  $("only-type").value = type;
  $("only-time").value = days;
  if (mirror && ![...$("only-mirror").options].some((one) => one.value === mirror)) $("only-mirror").append(el("option", { value: mirror }, mirror));
  $("only-mirror").value = mirror;
  await runSearch({ count: history.state?.hits });
}

// While a query is being typed, its last word may be incomplete. `count` more hits come after the first `offset`.
async function runSearch({ unfinished = "", offset = 0, count = MORE_HITS } = {}) {
  const query = $("query").value.trim();
  unanswered = null;
  const mirror = $("only-mirror").value, type = $("only-type").value.trim(), days = $("only-time").value;
  if (!query && !mirror && !type && !days) return leave();
  const after = days && new Date(Date.now() - days * DAY).toISOString();
  const address = hash("search", { q: query, mirror, type, days });
  if (address !== location.hash) visit(address, { instead: here()[0] === "search" });
  if (!query) {
    asking?.abort();
    showRefusal("Type words to search for. Filters only narrow a search.");
    return null;
  }
  try {
    const hits = [];
    const wanted = Math.max(count, MORE_HITS);
    let reply;
    do {
      const page = { offset: offset + hits.length, k: Math.min(wanted - hits.length, MOST_AT_ONCE) };
      reply = await get("search", { explain: 1, q: query, mirror, type, after, ...page, unfinished });
      if (!reply) return null;
      hits.push(...reply.hits);
    } while (reply.more && reply.hits.length && hits.length < wanted);
    showHits(query, { ...reply, hits }, offset);
  } catch (error) {
    if (error.name === "AbortError") return null;
    if (error.status === 503) typing = setTimeout(() => runSearch({ unfinished, offset, count }), 500);
    else if (error.status) showRefusal(error.message);
    else {
      if (error.message === NO_RESPONSE) unanswered = () => runSearch({ unfinished, offset, count });
      toast(plain(error.message));
    }
  }
  return null;
}

function showRefusal(sentence) {
  showHits("", { hits: [], notes: [sentence] }, 0);
  $("results-title").textContent = "Search";
  $("announcement").textContent = plain(sentence);
}

let hitsShown = []; // all hits of the list, as the API returned them

function showHits(query, reply, offset) {
  const pattern = patternOf(query), several = frame && frame.mirrors.length > 1;
  const hits = reply.hits.map((hit) => {
    const best = bestPassage(hit.passages), isHere = hit.here && frame?.mirrors.some((one) => one.name === hit.mirror);
    const whose = hit.here ? several && hit.mirror : `${hit.mirror}${hit.host ? ` on ${hit.host}` : ""}, as of ${ago(Date.parse(hit.as_of) / 1000)}`;
    const trail = [whose, hit.title, ...(best?.headings || []), place(best)]
      .filter(Boolean).map(plain).filter((one, at, all) => all.indexOf(one) === at).join(" › ");
    const name = el("bdi", {}, highlighted(plain(hit.path), pattern));
    const passage = best ? (best.text.length > 600 ? best.text.slice(0, 600).replace(/\s\S*$/, "") : best.text) : "";
    return el("article", { class: "hit panel" },
      el("div", { class: "name" },
        isHere ? el("a", { class: "path", "data-key": `hit ${hit.mirror} ${hit.path}`, href: hash("document", { mirror: hit.mirror, key: keyOf(hit.path), passage }) }, name)
          : el("span", { class: "path" }, name),
        hit.here && el("div", { class: "tools" }, copyButton(hit.abs_path, hit.path), openLinks(hit.links, hit.abs_path, hit.path))),
      el("div", { class: "trail" }, highlighted(trail, pattern)),
      hit.gone && el("div", { class: "trail gone" }, plain(hit.reason)),
      best && el("p", {}, best.excerpt.map((part, at) => (at % 2 ? el("mark", {}, plain(part)) : plain(part)))),
      el("details", {}, el("summary", { "aria-label": `Why ${plain(hit.path)} was found` }, "Why?"), hit.why.lines.map((line) => el("p", {}, plain(line)))));
  });
  if (offset) $("hits").querySelectorAll(".empty").forEach((one) => one.remove());
  for (const note of reply.notes) hits.push(empty(plain(note)));
  if (query && !offset && !reply.hits.length) hits.push(empty($("query").title));
  const first = hits[0]?.querySelector("a");
  if (offset) $("hits").append(...hits); else $("hits").replaceChildren(...hits);
  hitsShown = offset ? [...hitsShown, ...reply.hits] : reply.hits;
  const count = hitsShown.length;
  visit(location.hash, { ...history.state, instead: true, hits: count });
  $("more-hits").hidden = !reply.more || count > MOST_HITS;
  $("more-hits").onclick = () => runSearch({ offset: count });
  if (offset) first?.focus();
  $("results-title").textContent = titleOf(hitsShown, pattern, reply.more);
  $("announcement").textContent = $("results-title").textContent;
  reveal("results");
}

// Browsers open a link to a file only from some pages, so the path is copied as well.
function openLinks(links, whole, label) {
  return links && [
    el("a", { class: "button quiet", href: links.file, on: () => copy(whole), "aria-label": `Open file ${plain(label)}`, title: "Also copies the path, in case the browser can't open the file" }, "Open file"),
    links.obsidian && linkTo("Open in Obsidian", links.obsidian, { "aria-label": `Open in Obsidian ${plain(label)}` }),
  ];
}

// A search by meaning finds documents that have none of the words.
function titleOf(hits, pattern, more) {
  if (!hits.length) return "No documents found";
  const texts = hits.flatMap((hit) => [hit.path, hit.title || "", ...hit.passages.flatMap((one) => one.headings)]);
  if (more) return `The best ${hits.length} documents`;
  const isWord = hits.some((hit) => hit.passages.some((one) => matchesIn(one).length));
  if (isWord || (pattern && texts.some((text) => text.search(pattern) >= 0))) return `${counted(hits.length, "document")} found`;
  return `No document has these words; ${counted(hits.length, "document")} with a similar meaning`;
}

const place = (one) => (one?.page != null ? `page ${one.page}` : one?.line != null ? `line ${one.line}` : "");

// Words as typed, without operators; in scripts without spaces, pairs of characters.
function patternOf(query) {
  const asked = query.replace(/(^|\s)(-("[^"]*"|\p{L}\S*)|(path|type):("[^"]*"|\S+))/gu, " ");
  const words = asked.match(/[\p{L}\p{N}_]+/gu) || [];
  const parts = words.flatMap((one) => (/\p{Script=Han}/u.test(one) && one.length > 2
    ? [one, ...Array.from(one).slice(1).map((c, at) => Array.from(one)[at] + c)] : [one]));
  const escaped = parts.sort((a, b) => b.length - a.length).map((one) => one.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return escaped.length ? new RegExp(escaped.join("|"), "giu") : null;
}

// The words of a passage that match; the others are at the even positions.
const matchesIn = (one) => one.excerpt.filter((_, at) => at % 2);

// The passage that shows most of the query: the best one may have been found by its headings.
function bestPassage(passages) {
  const shows = (one) => new Set(matchesIn(one).map((word) => word.toLowerCase())).size;
  return passages.reduce((best, one) => (best && shows(best) >= shows(one) ? best : one), null);
}

function highlighted(text, pattern) {
  if (!pattern) return [text];
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(pattern)) {
    parts.push(text.slice(at, match.index), el("mark", {}, match[0]));
    at = match.index + match[0].length;
  }
  return [...parts, text.slice(at)];
}

// -- one document -------------------------------------------------------------------------------------

async function showDocument({ mirror, key, passage }) {
  let reply;
  try { reply = await get("document", { mirror, key, passage }); } catch (error) {
    if (error.status !== 404 || (frame && !frame.mirrors.some((one) => one.name === mirror))) throw error;
    showMissing(mirror, key);
  }
  if (!reply) return;
  opened = { mirror, key, state: reply.state, counts: countsOf(mirror), at: Date.now() };
  reveal("document", path(reply.path));
  showFacts(mirror, key, reply);
  $("text").hidden = false;
  if (reply.text == null) {
    $("earlier").hidden = $("later").hidden = true;
    $("text").hidden = !reply.found;
    $("text").textContent = "This knowledge base can't return the text of its documents.";
    return;
  }
  // Positions count characters, not UTF-16 code units.
  const chars = Array.from(reply.text), [start, end] = (reply.mark ?? [0, 0]).map((at) => at - reply.offset);
  const mark = reply.mark && el("mark", {}, lines(chars.slice(start, end).join("")));
  $("text").replaceChildren(...(mark
    ? [lines(chars.slice(0, start).join("")), mark, lines(chars.slice(end).join(""))]
    : [lines(reply.text) || "This document has no text."]));
  mark?.scrollIntoView({ block: "center" });
  offerMore({ mirror, key }, reply.offset, reply.next);
}

let opened = {}; // the document that is shown, the counts of its mirror when it was loaded, and when that was

function showFacts(mirror, key, { path: name, state, answer, sentences, abs_path: whole, links, may_succeed: again }) {
  const isOpen = $("document-why").firstElementChild?.open;
  $("document-tools").replaceChildren(
    el("span", { class: "dim" }, plain(mirror), state ? `, ${STATE_WORDS[state] ?? state}` : ""),
    copyButton(whole, name),
    ...[openLinks(links, whole, name)].flat().filter(Boolean),
    linkTo("History", hash("history", { mirror, key }), { "data-key": "document history" }),
    ...(again ? [retryButton({ name: mirror }, [name], "Retry", "document retry")] : []));
  $("document-why").replaceChildren(el("details", { open: isOpen },
    el("summary", { "data-key": "document why" }, plain(answer)),
    el("ul", {}, sentences.map((one) => el("li", {}, plain(one))))));
  restoreFocus();
}

// The whole text is extracted for each request, so a searchable document is loaded again only after an action.
async function refreshDocument() {
  if (!isStale("document", opened) || (opened.state === "ready" && opened.counts)) return;
  const { mirror, key } = opened;
  Object.assign(opened, { counts: countsOf(mirror), at: Date.now() });
  try {
    const reply = await get("document", { mirror, key, before: 1 });
    if (!reply || view !== "document" || opened.key !== key) return;
    opened.state = reply.state;
    showFacts(mirror, key, reply);
  } catch { /* the next change tries again */ }
}

function showMissing(mirror, key) {
  opened = {};
  reveal("document", path(pathOf(key)));
  $("document-tools").replaceChildren(el("span", { class: "dim" }, plain(mirror)), linkTo("History", hash("history", { mirror, key })));
  $("document-why").replaceChildren(el("p", {}, `${plain(mirror)} has no such file. History says whether it was deleted or renamed.`));
  $("text").hidden = $("earlier").hidden = $("later").hidden = true;
}

function offerMore(document, from, next) {
  const load = async (given, put) => {
    try {
      const part = await get("document", { ...document, ...given });
      if (part) put(part);
    } catch (error) { report(error); }
  };
  $("earlier").hidden = !from;
  const added = (part) => el("span", { tabindex: -1 }, lines(part.text));
  $("earlier").onclick = () => load({ before: from }, (part) => {
    const text = added(part), height = $("text").offsetHeight, top = scrollY;
    $("text").prepend(text);
    const button = $("earlier").offsetHeight;
    offerMore(document, part.offset, next);
    scrollTo(0, top + $("text").offsetHeight - height + $("earlier").offsetHeight - button);
    text.focus({ preventScroll: true });
  });
  $("later").hidden = !next;
  $("later").onclick = () => load({ offset: next }, (part) => {
    const text = added(part);
    $("text").append(text);
    offerMore(document, from, part.next);
    text.focus({ preventScroll: true });
  });
}

// -- lists of files -----------------------------------------------------------------------------------

const MOST_FILES = 1000, FILES = 200;

const REFRESH = 2000; // at most one new list in this time
let listed = {}; // the list that is shown, the counts of its mirror before it was loaded, and when that was

const countsOf = (mirror) => JSON.stringify(frame?.mirrors.find((one) => one.name === mirror)?.documents);

// The counts of its mirror have changed since the view was loaded, and no other request runs.
const isStale = (name, { mirror, counts, at }) => view === name && !asking && !isGone()
  && ![counts, undefined].includes(countsOf(mirror)) && Date.now() - at >= REFRESH;

async function refreshFiles() {
  if (!isStale("files", listed)) return;
  const { mirror, state, shown } = listed;
  listed.at = Date.now();
  try {
    await showFiles({ mirror, state }, { least: shown, moves: false });
  } catch { /* the next second tries again */ }
}

// Shows at least so many files. A list that is shown already doesn't move.
async function showFiles({ mirror, state = "" }, { least = 0, moves = true } = {}) {
  const counts = countsOf(mirror), at = Date.now(), items = [], wanted = Math.max(1, Math.ceil(least / FILES)) * FILES;
  let one, next = "";
  do {
    const limit = state ? MOST_FILES : Math.min(MOST_FILES, wanted - items.length);
    const reply = await get("status", { documents: "1", mirror, state, limit, after: next });
    if (!reply) return;
    [one] = reply.mirrors;
    if (!one) throw new Error("there is no mirror with this name");
    items.push(...one.items);
    next = one.next;
  } while (!state && next && items.length < wanted);
  listed = { mirror, state, counts, at, shown: items.length };
  const count = state ? one.documents[state] : 0;
  reveal("files", state ? `${counted(count, `${STATE_WORDS[state]} file`)} of ${plain(mirror)}` : `Files of ${plain(mirror)}`, { moves });
  $("files-states").replaceChildren(
    linkTo("All", hash("files", { mirror }), { "aria-current": !state && "page", "data-key": "all" }),
    ...LISTED.filter((each) => one.documents[each] || each === state).map((each) =>
      linkTo(`${STATE_WORDS[each]} ${number(one.documents[each])}`, hash("files", { mirror, state: each }),
        { "aria-current": each === state && "page", "data-key": `state ${each}` })));
  if (state) {
    $("files-list").replaceChildren(...byReason(one, items));
    if (count > items.length) $("files-list").append(empty(`and ${number(count - items.length)} more`));
    $("more-files").hidden = true;
    restoreFocus();
    return;
  }
  const rows = el("ol", { class: "rows panel" });
  fill(rows, mirror, { items, next });
  $("files-list").replaceChildren(items.length ? rows : empty("No files yet."));
  restoreFocus();
}

function fill(rows, mirror, { items, next }) {
  rows.append(...items.map((item) => el("li", {},
    fileLink(mirror, item.path),
    el("span", { class: "aside" }, STATE_WORDS[item.state] ?? item.state),
    item.reason && el("span", { class: "why" }, plain(item.reason)))));
  $("more-files").hidden = !next;
  $("more-files").onclick = async () => {
    const reply = await get("status", { documents: "1", mirror, limit: FILES, after: next }).catch(report);
    if (!reply) return;
    const before = rows.children.length;
    fill(rows, mirror, reply.mirrors[0]);
    focusRow(rows.children[before]);
    listed.shown += reply.mirrors[0].items.length;
  };
}

function byReason(one, items) {
  const groups = new Map();
  for (const item of items) {
    if (!groups.has(item.reason)) groups.set(item.reason, []);
    groups.get(item.reason).push(item);
  }
  const again = items.filter((item) => item.may_succeed).length;
  const parts = [...groups].sort((a, b) => b[1].length - a[1].length).map(([reason, its]) => el("div", { class: "reason panel" },
    el("h3", {}, `${its.length > 1 ? `${number(its.length)} files: ` : ""}${plain(reason || "unknown reason")}`),
    el("ol", { class: "rows" }, its.map((item) => fileRow(one.name, item, false)))));
  if (again) {
    parts.unshift(el("p", { class: "tools reason" },
      button(`Retry ${again === 1 ? "the file" : `all ${number(again)} files`} that can succeed`,
        (event) => act(event.currentTarget, "retry", { mirror: one.name, may_succeed: true }, "Retry requested"), { class: "strong", "data-key": `retry all ${one.name}` }),
      again < items.length && el("span", { class: "dim" }, "The others need a change to the file or the settings first.")));
  }
  return parts.length ? parts : [empty("None.")];
}

// -- history ------------------------------------------------------------------------------------------

const MOST_EVENTS = 1000;

async function showHistory({ mirror = "", key = "" }, limit = 100) {
  const reply = await get("history", { mirror, key, limit });
  if (!reply) return;
  const name = key && pathOf(key);
  const several = !mirror && frame?.mirrors.length > 1;
  const last = limit > 100 ? $("history-list").lastChild.dataset.event : "";
  reveal("history", key ? `History of ${plain(name)}` : mirror ? `History of ${plain(mirror)}` : "History, last 30 days", { moves: !last });
  const rows = reply.events.toReversed().map((one) => {
    const by = one.by && (one.by === "page" ? "on this page" : `by ${one.by}`);
    const about = one.event === "deleted" || !one.path ? path(one.path ?? "") : documentLink(one.mirror, one.path);
    return el("li", { "data-event": `${one.at} ${one.event} ${one.mirror} ${one.path}` },
      el("span", {},
        el("span", { class: `event ${one.event}` }, EVENT_WORDS[one.event] ?? one.event),
        one.former && [path(one.former), " > "], about, several && el("span", { class: "dim" }, `  ${plain(one.mirror)}`)),
      el("time", { class: "aside", datetime: one.at }, dateOf(one.at)),
      (by || one.reason) && el("span", { class: "why" }, plain([by, one.reason].filter(Boolean).join("; "))));
  });
  $("history-list").replaceChildren(...(rows.length ? rows : [el("li", { class: "empty" }, "Nothing happened in the last 30 days.")]));
  if (last) focusRow(rows[rows.findLastIndex((row) => row.dataset.event === last) + 1]);
  const isEnd = reply.more && limit >= MOST_EVENTS;
  $("more-history").hidden = !reply.more || isEnd;
  $("history-end").hidden = !isEnd;
  $("history-end").textContent = `These are the newest ${number(rows.length)}. To list more: ${commandOf("history")}`;
  $("more-history").onclick = () => showHistory({ mirror, key }, MOST_EVENTS).catch(report);
}

// -- folders ------------------------------------------------------------------------------------------

// Each button does something and returns what is wrong, or "", or the next question.
function ask({ title, text, fields = [], buttons }) {
  const inputs = fields.map(({ label, ...given }) => [given.name, label, el("input", { autocomplete: "off", spellcheck: "false", ...given })]);
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-fields").replaceChildren(...inputs.map(([, label, input]) => el("label", {}, label, input)));
  $("ask-wrong").textContent = "";
  let busy = false;
  const run = async (does) => {
    if (busy && does) return;
    busy = true;
    const values = Object.fromEntries(inputs.map(([name, , input]) => [name, input.value.trim()]));
    const result = does ? await does(values).catch((error) => error.message) : "";
    busy = false;
    if (!$("ask").open) return;
    // The dialog stays open for the next question: after `close`, its event would end that one.
    if (result?.title) ask(result);
    else if (result) $("ask-wrong").textContent = plain(result);
    else $("ask").close();
  };
  $("ask-acts").replaceChildren(...buttons.map(([words, kind, does]) =>
    button(words, (event) => { event.preventDefault(); run(does); }, { type: does && fields.length ? "submit" : "button", class: kind })));
  if (!$("ask").open) openDialog($("ask"));
  (inputs[0]?.[2] ?? $("ask-acts").firstChild).focus();
}
$("ask").querySelector("form").addEventListener("submit", (event) => event.preventDefault());

const sends = (name, message, done) => async () => { if (await order(name, message)) toast(done); return ""; };

function askToPause(name) {
  const pause = (words, seconds) => [words, "", sends("pause", { mirror: name, seconds }, `${name} is paused`)];
  ask({
    title: `Pause ${name}?`,
    text: "While it is paused, kbsync uploads and deletes nothing. Search still works. The pause survives a restart.",
    buttons: [["Cancel", "quiet", null], pause("For 1 hour", 3600), pause("For 8 hours", 28_800), pause("Until I resume it", null)],
  });
}

// The questions of kbsync remove.
async function askToRemove(name) {
  let has = null;
  try { has = await get("removal", { mirror: name }); } catch (error) { report(error); }
  if (!has) return;
  const { documents } = has, one = documents === 1, stops = "kbsync will stop mirroring the folder. Your files stay.";
  const keep = sends("remove", { mirror: name, documents: "keep" }, `${name} was removed`);
  const choices = documents
    ? [["Keep", "", keep], ["Delete", "danger", async () => deletion(name, has)]]
    : [["Remove", "danger", keep]];
  ask({
    title: `Remove ${name}?`,
    text: documents ? `${stops} ${name} has ${counted(documents, "document")} in its knowledge base; keep or delete them? `
      + `If you keep ${one ? "it" : "them"}, this page will no longer search ${one ? "it" : "them"}.` : stops,
    buttons: [["Cancel", "quiet", null], ...choices],
  });
}

function deletion(name, { documents, unsure, bases }) {
  const stay = (n) => (n === 1 ? "stays" : "stay");
  const parts = bases.map((one) => `${counted(one.documents, "document")} in ${plain(one.base)}${one.deleted ? "" : `, a former knowledge base, ${stay(one.documents)}`}.`);
  if (unsure) parts.push(`${counted(unsure, "upload")} may or may not have reached the service; kbsync can't delete ${unsure === 1 ? "it" : "them"}.`);
  return {
    title: `Delete ${counted(documents, "document")} of ${name}?`,
    text: `${parts.join(" ")} kbsync will delete only its own documents, and then remove ${name} from the config. This can't be undone.`,
    buttons: [["Cancel", "quiet", null], [`Delete ${counted(documents, "document")}`, "danger",
      sends("remove", { mirror: name, documents: "delete" }, `${name} is being removed`)]],
  };
}

$("add").addEventListener("click", () => ask({
  title: "Add a folder",
  text: "kbsync adds the folder to the config and indexes it in a built-in knowledge base on this machine.",
  fields: [
    { name: "folder", label: "Folder, such as /home/ada/notes or ~/notes", required: true },
    { name: "name", label: "Name (default: the folder’s name)" },
  ],
  buttons: [["Cancel", "quiet", null], ["Add", "strong", async ({ folder, name }) => {
    const reply = await order("add", { folder, name });
    if (!reply) return "";
    toast(`${reply.mirror} added; indexing has started`);
    return reply.notes ? { title: `${reply.mirror} was added`, text: `${reply.notes.map(plain).join(". ")}.`, buttons: [["Close", "quiet", null]] } : "";
  }]],
}));

visit(location.hash, { ...history.state, instead: true });
setInterval(tick, 1000);
stream();
route();
