/**
 * Cancel and deliver without leaving the page. Without scripts the same forms post to the page's own address.
 */

import { send } from "./http.js";

/**
 * Send the action forms below an element through the API.
 *
 * @param {HTMLElement} root
 * @param {(position: string | null) => void} onDone gets the position that a read must have reached to see the change
 */
export function enhanceActions(root, onDone) {
  root.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || !("action" in form.dataset)) return;
    event.preventDefault();
    if (form.getAttribute("aria-busy") !== "true") act(form, onDone);
  });
}

async function act(form, onDone) {
  const error = form.querySelector("[data-error]");
  const reason = new FormData(form).get("reason");
  busy(form, true);
  error.hidden = true;
  try {
    const path = new URL(form.action).pathname;
    const response = await send(`/api${path}`, reason === null ? {} : { reason });
    onDone(response.headers.get("Millrace-Position"));
  } catch (refused) {
    error.textContent = refused.message;
    error.hidden = false;
    busy(form, false);
    if (refused.status === 409) onDone(null);
  }
}

function busy(form, on) {
  form.setAttribute("aria-busy", String(on));
  form.querySelector("button").disabled = on;
}
