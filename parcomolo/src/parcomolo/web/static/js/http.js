/**
 * Talking to the API: one way to send a command, one way to say what went wrong.
 */

/** What the API refused, in words for people; `status` is 0 when no answer came. */
export class Refused extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * Send a command as JSON.
 *
 * @param {string} path
 * @param {object} body
 * @param {Record<string, string>} [headers]
 * @returns {Promise<Response>} an answer of the 2xx kind
 * @throws {Refused}
 */
export async function send(path, body, headers = {}) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json", ...headers },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Refused("The shop cannot be reached. Try again: nothing is ordered twice.", 0);
  }
  if (response.ok) return response;
  throw new Refused(await explain(response), response.status);
}

/** Read the problem details of an answer; anything else gives a plain sentence. */
async function explain(response) {
  const problem = await response.json().catch(() => null);
  const words = [problem?.title, problem?.detail].filter((part) => typeof part === "string" && part !== "");
  const seconds = Number(response.headers.get("Retry-After"));
  if (seconds > 0) words.push(`Try again in ${seconds} s.`);
  if (words.length === 0) return `The shop answered with an error (${response.status}).`;
  return words.map((part) => (/[.!?]$/.test(part) ? part : `${part}.`)).join(" ");
}

/** A fresh random key; works on plain http too, where `crypto.randomUUID` is absent. */
export function freshKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
