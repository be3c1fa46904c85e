/**
 * The order's page: fetches its body again when a fact about this order arrives, and swaps the parts that changed.
 * An order that has ended for good is not followed any more.
 */

import { enhanceActions } from "./actions.js";
import { coalesced, follow, hideState, shortName, showState } from "./live.js";
import { localise } from "./times.js";

const SPACING = 200;
const SETTLE = 1000;
const PATIENCE = 8;
const TOPICS = ["orders", "inventory", "payments", "shipping"];

const root = document.getElementById("order");
const announcer = document.querySelector("[data-announce]");
const id = root.dataset.order;

/** The markup of each part as the server sent it, so that a part with a half-written reason is left alone. */
const shown = new Map(parts(root).map(([name, element]) => [name, element.outerHTML]));
/** Facts that the stream has told and the page does not show yet: the view may be a moment behind the stream. */
const awaited = new Set();
let position = null;
let misses = 0;
let later = 0;
let leave = null;

const refresh = coalesced(load, SPACING);

localise(root);
enhanceActions(root, (reached) => {
  position = reached;
  refresh();
});
if (!hasEnded()) leave = follow({ topics: TOPICS, after: root.dataset.after, onEvents, onGap: refresh, onState: showState });

function hasEnded() {
  return root.querySelector("[data-ended]") !== null;
}

/** Let the stream go, and look once more for what it may have told a moment later. */
function end() {
  leave();
  leave = null;
  hideState();
  retryIn(SETTLE);
}

function onEvents(events) {
  const ours = events.filter(concerns);
  if (ours.length === 0) return;
  for (const event of ours) awaited.add(shortName(event.type));
  misses = 0;
  refresh();
  retryIn(SETTLE);
}

function concerns(event) {
  return event?.subject === id || event?.data?.order_id === id || event?.correlationid === id;
}

async function load() {
  try {
    const headers = position ? { "Millrace-Position": position } : {};
    const response = await fetch(`/orders/${encodeURIComponent(id)}/fragment`, { headers });
    if (!response.ok) return retryIn(waitFor(response));
    position = null;
    swap(new DOMParser().parseFromString(await response.text(), "text/html"));
  } catch {
    return retryIn(SETTLE * 2);
  }
  for (const fact of facts(root).keys()) awaited.delete(fact);
  if (awaited.size > 0 && misses < PATIENCE) retryIn(SPACING * ++misses);
}

function waitFor(response) {
  position = null;
  const seconds = Number(response.headers.get("Retry-After"));
  return seconds > 0 ? seconds * 1000 : SETTLE * 2;
}

function retryIn(milliseconds) {
  clearTimeout(later);
  later = setTimeout(refresh, milliseconds);
}

function swap(fresh) {
  const before = facts(root);
  for (const [name, element] of parts(fresh)) {
    const markup = element.outerHTML;
    const old = root.querySelector(`[data-part="${name}"]`);
    if (!old || shown.get(name) === markup) continue;
    shown.set(name, markup);
    localise(element);
    if (headline(element) !== headline(old)) element.classList.add("has-changed");
    old.replaceWith(element);
  }
  greet(before);
  if (leave && hasEnded()) end();
}

function headline(part) {
  return part.querySelector(".headline")?.textContent;
}

/** Light up the facts that were not there before, and tell the newest to those who listen. */
function greet(before) {
  let newest = null;
  const seen = new Map();
  for (const element of root.querySelectorAll("[data-fact]")) {
    const fact = element.dataset.fact;
    seen.set(fact, (seen.get(fact) ?? 0) + 1);
    if (seen.get(fact) <= (before.get(fact) ?? 0)) continue;
    element.classList.add("is-new");
    newest = element;
  }
  if (newest) announcer.textContent = newest.querySelector(".event-head b").textContent;
}

/** How often each fact is on the page. */
function facts(scope) {
  const counts = new Map();
  for (const { dataset } of scope.querySelectorAll("[data-fact]")) {
    counts.set(dataset.fact, (counts.get(dataset.fact) ?? 0) + 1);
  }
  return counts;
}

function parts(scope) {
  return Array.from(scope.querySelectorAll("[data-part]"), (element) => [element.dataset.part, element]);
}
