/**
 * Following the event stream, and doing work at a bearable pace when it speaks.
 */

const HIDDEN_FOR = 30_000;
const SLOWEST_RETRY = 15_000;
const WORDS = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting" };

/**
 * Follow the facts of some topics for as long as the page is shown.
 *
 * The stream is let go when the page is left or has been in the background for a while, so that many open pages do
 * not use up the browser's connections; it comes back with the page. `onEvents` gets each batch; `onGap` is called
 * whenever something may have been missed and the page should look for itself. Returns a function that ends it for good.
 *
 * @param {{topics: string[], after: string, onEvents: (events: object[]) => void, onGap: () => void,
 *          onState: (state: "connecting" | "live" | "reconnecting") => void}} options
 * @returns {() => void}
 */
export function follow({ topics, after, onEvents, onGap, onState }) {
  let cursor = after;
  let source = null;
  let wait = 500;
  let retry = 0;
  let hiding = 0;
  let opened = false;
  const listening = new AbortController();

  function open() {
    close();
    const query = new URLSearchParams({ topics: topics.join(",") });
    if (cursor) query.set("after", cursor);
    source = new EventSource(`/events?${query}`);
    source.addEventListener("open", onOpen);
    source.addEventListener("message", onMessage);
    source.addEventListener("reset", onGap);
    source.addEventListener("error", onError);
  }

  function close() {
    clearTimeout(retry);
    source?.close();
    source = null;
  }

  function onOpen() {
    wait = 500;
    onState("live");
    if (opened || !after) onGap();
    opened = true;
  }

  function onMessage(message) {
    if (message.lastEventId) cursor = message.lastEventId;
    onEvents(parse(message.data));
  }

  function onError() {
    onState("reconnecting");
    if (source?.readyState !== EventSource.CLOSED) return;
    close();
    retry = setTimeout(open, wait * (0.75 + Math.random() / 2));
    wait = Math.min(wait * 2, SLOWEST_RETRY);
  }

  function onVisibility() {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(close, HIDDEN_FOR);
    else if (!source) open();
  }

  function leave() {
    listening.abort();
    clearTimeout(hiding);
    close();
  }

  const { signal } = listening;
  document.addEventListener("visibilitychange", onVisibility, { signal });
  addEventListener("pagehide", close, { signal });
  addEventListener("pageshow", (event) => event.persisted && open(), { signal });
  onState("connecting");
  open();
  return leave;
}

function parse(data) {
  try {
    const value = JSON.parse(data);
    return Array.isArray(value) ? value : [value];
  } catch {
    return [];
  }
}

/** Show the state of the connection in the element that a page keeps for it. */
export function showState(state) {
  const element = document.querySelector("[data-live]");
  if (!element) return;
  element.hidden = false;
  element.dataset.state = state;
  element.querySelector("[data-live-word]").textContent = WORDS[state];
}

/** Show no state: nothing is followed any more. */
export function hideState() {
  const element = document.querySelector("[data-live]");
  if (element) element.hidden = true;
}

/**
 * Make a function that runs `task` soon, never twice at the same time and at most once per `spacing`; calls that
 * come while it waits or runs lead to one more run.
 *
 * @param {() => Promise<void>} task
 * @param {number} spacing milliseconds
 * @returns {() => void}
 */
export function coalesced(task, spacing) {
  let timer = 0;
  let running = false;
  let again = false;
  let last = -Infinity;

  async function run() {
    timer = 0;
    running = true;
    again = false;
    last = performance.now();
    try {
      await task();
    } finally {
      running = false;
      if (again) plan();
    }
  }

  function plan() {
    if (running) again = true;
    else if (!timer) timer = setTimeout(run, Math.max(0, last + spacing - performance.now()));
  }

  return plan;
}

/** The short wire name of a fact: `parcomolo.shipping.item-shipped.v1` is `item-shipped`. */
export function shortName(type) {
  const parts = String(type).split(".");
  return parts.length === 4 ? parts[2] : String(type);
}
