/**
 * The storefront: buys through the API and goes to the order's page; errors show on the product they belong to.
 */

import { freshKey, send } from "./http.js";

const CUSTOMER = "parcomolo.customer";
const form = document.querySelector("[data-shop]");
const customer = form.querySelector("[data-customer]");

/** The last request that got no answer: sending it again uses its key, so that nothing is bought twice. */
let unanswered = { body: "", key: "" };

form.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (button?.name !== "sku") return;
  event.preventDefault();
  if (form.getAttribute("aria-busy") !== "true") buy(button);
});

form.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.matches("[data-quantity]")) return;
  event.preventDefault();
  event.target.closest("[data-product]").querySelector("button[name=sku]").click();
});

customer.addEventListener("change", () => remember(customer.value.trim()));
addEventListener("pageshow", () => busy(null, false));
if (customer.value === customer.defaultValue) customer.value = remembered() || customer.value;

async function buy(button) {
  const card = button.closest("[data-product]");
  const body = request(card, button.value);
  const text = JSON.stringify(body);
  const key = unanswered.body === text ? unanswered.key : freshKey();
  unanswered = { body: text, key };
  busy(button, true);
  complain(card, "");
  try {
    const response = await send("/api/orders", body, { "Idempotency-Key": key });
    const order = await response.json();
    unanswered = { body: "", key: "" };
    location.assign(`/orders/${encodeURIComponent(order.order_id)}`);
  } catch (refused) {
    if (refused.status > 0 && refused.status < 500) unanswered = { body: "", key: "" };
    complain(card, refused.message);
    busy(button, false);
  }
}

function request(card, sku) {
  const fields = new FormData(form);
  const name = customer.value.trim() || "guest";
  return {
    customer_id: name,
    lines: [{ sku, quantity: Number(card.querySelector("[data-quantity]").value) }],
    payment: { token: fields.get("payment_token") },
    ship_to: { name: fields.get("shipping") === "fails" ? "FAIL_SHIPPING" : name },
  };
}

function busy(button, on) {
  form.setAttribute("aria-busy", String(on));
  for (const old of form.querySelectorAll("[data-busy]")) delete old.dataset.busy;
  if (button && on) button.dataset.busy = "";
}

function complain(card, message) {
  const place = card.querySelector("[data-error]");
  place.textContent = message;
  place.hidden = message === "";
}

function remembered() {
  try {
    return localStorage.getItem(CUSTOMER);
  } catch {
    return null;
  }
}

function remember(name) {
  try {
    localStorage.setItem(CUSTOMER, name);
  } catch {
    /* Storage may be switched off; the name is then asked for again. */
  }
}
