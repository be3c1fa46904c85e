/**
 * The list of orders: reads its own address again when orders move, and leaves it alone while somebody is writing.
 */

import { enhanceActions } from "./actions.js";
import { coalesced, follow, showState } from "./live.js";
import { localise } from "./times.js";

const SPACING = 1000;
const SETTLE = 1500;
const TOPICS = ["orders", "inventory", "payments", "shipping"];

const root = document.getElementById("orders");
let shown = root.innerHTML;
let position = null;
let later = 0;

const refresh = coalesced(load, SPACING);

localise(root);
setInterval(() => localise(root), 10_000);
enhanceActions(root, (reached) => {
  position = reached;
  closeMenus(null);
  refresh();
});
follow({ topics: TOPICS, after: root.dataset.after, onEvents, onGap: refresh, onState: showState });

function onEvents(events) {
  if (events.length === 0) return;
  refresh();
  retryIn(SETTLE);
}

async function load() {
  if (root.querySelector("details[open]")) return retryIn(SETTLE);
  try {
    const headers = position ? { "Millrace-Position": position } : {};
    const response = await fetch(location.href, { headers });
    position = null;
    if (!response.ok) return retryIn(SETTLE * 2);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    show(fresh.getElementById("orders"));
  } catch {
    retryIn(SETTLE * 2);
  }
}

function show(fresh) {
  const markup = fresh.innerHTML;
  if (markup === shown || root.querySelector("details[open]")) return;
  shown = markup;
  const before = states();
  const focused = path(document.activeElement);
  localise(fresh);
  root.replaceChildren(...fresh.childNodes);
  if (focused) root.querySelector(focused)?.focus();
  for (const [id, state] of states()) {
    if (before.get(id) !== state) root.querySelector(`tr[data-order="${CSS.escape(id)}"]`).classList.add("is-new");
  }
}

/** What each row shows of its order, to find the rows that have changed. */
function states() {
  const rows = root.querySelectorAll("tr[data-order]");
  return new Map(
    Array.from(rows, (row) => [
      row.dataset.order,
      Array.from(row.querySelectorAll("[data-value]"), (pill) => pill.dataset.value).join(" "),
    ]),
  );
}

/** A selector that finds the focused link or button again after the rows were replaced. */
function path(element) {
  const row = element?.closest?.("tr[data-order]");
  if (!row) return null;
  return `tr[data-order="${CSS.escape(row.dataset.order)}"] ${element.tagName.toLowerCase()}`;
}

function retryIn(milliseconds) {
  clearTimeout(later);
  later = setTimeout(refresh, milliseconds);
}

function closeMenus(except) {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (menu !== except) menu.open = false;
}

root.addEventListener(
  "toggle",
  (event) => {
    if (!event.target.matches("details.menu[open]")) return;
    closeMenus(event.target);
    event.target.querySelector("input[name=reason]").focus();
  },
  true,
);
document.addEventListener("click", (event) => closeMenus(event.target.closest("details.menu")));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = event.target.closest("details.menu");
  closeMenus(null);
  menu?.querySelector("summary").focus();
});
