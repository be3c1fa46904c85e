/**
 * Printing times in the reader's own zone. The server prints them in UTC, which stays where no script runs.
 */

const DAY = { day: "numeric", month: "short", year: "numeric" };
const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
const UNITS = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [604800, 86400, "d"]];

const forms = {
  clock: (at) => at.toLocaleTimeString("en-GB", CLOCK),
  minute: (at) => at.toLocaleString("en-GB", { ...DAY, hour: "2-digit", minute: "2-digit" }),
  ago,
};

/** The shop's time: a clock that was moved is ahead of the reader's. */
function now() {
  return Date.now() + Number(document.body.dataset.aheadMs ?? 0);
}

function ago(at) {
  const seconds = (now() - at.getTime()) / 1000;
  if (seconds < 10) return "just now";
  const unit = UNITS.find(([limit]) => seconds < limit);
  return unit ? `${Math.floor(seconds / unit[1])} ${unit[2]} ago` : at.toLocaleDateString("en-GB", DAY);
}

/** Rewrite every time below an element. */
export function localise(root) {
  for (const element of root.querySelectorAll("time[data-as]")) {
    const at = new Date(element.dateTime);
    const form = forms[element.dataset.as];
    if (!form || Number.isNaN(at.getTime())) continue;
    const text = form(at);
    if (element.textContent !== text) element.textContent = text;
    element.title = at.toLocaleString("en-GB", { ...DAY, ...CLOCK, timeZoneName: "short" });
  }
}
